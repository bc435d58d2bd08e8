"""What travels: the Message of a client, the Frame to a client, the Publication between processes.

Everything here is plain data and pure functions; nothing awaits.
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, TypeAlias

from pydantic_core import from_json, to_json

from fastapi_channels.exceptions import ParseError, WebSocketException

Body: TypeAlias = str | bytes
RequestId: TypeAlias = Annotated[str | int | float | None, "the request's id"]
"""A client's own name for its message; a parameter with this annotation receives it."""

MAX_REQUEST_ID: Final = 256
"""Characters of a textual request id: it is echoed, so it must not amplify."""


def size_of(body: Body) -> int:
    """Bytes of `body` in UTF-8."""
    return len(body) if isinstance(body, bytes) or body.isascii() else len(body.encode(errors="replace"))


class Frame:
    """One encoded WebSocket message, built once however many connections it goes to."""

    __slots__ = ("_body", "_event", "_wire", "room", "size")

    def __init__(self, body: Body, room: str = "") -> None:
        self._body: Body | None = body
        self.room = room
        """The room it was broadcast to; empty for what concerns one connection."""
        self.size = len(body) if isinstance(body, bytes) or body.isascii() else len(body.encode())
        """Bytes of payload."""
        self._event: dict[str, Any] | None = None
        self._wire: bytes | None = None

    @classmethod
    def of_text(cls, payload: bytes) -> Frame:
        """A text frame of what is UTF-8 already, for one connection."""
        frame = cls.__new__(cls)
        frame._body = frame._event = None
        frame.room = ""
        frame.size = len(payload)
        frame._wire = header(TEXT, frame.size) + payload
        return frame

    @property
    def body(self) -> Body:
        """The text, or the bytes, that it carries."""
        if self._body is None:
            self._body = self.wire[len(self.wire) - self.size :].decode()
        return self._body

    @property
    def event(self) -> dict[str, Any]:
        """The ASGI message, shared by every connection that is sent it."""
        if self._event is None:
            key = "bytes" if isinstance(self.body, bytes) else "text"
            self._event = {"type": "websocket.send", key: self.body}
        return self._event

    @property
    def wire(self) -> bytes:
        """The unmasked frame of RFC 6455 section 5.2, whole and uncompressed."""
        if self._wire is None:
            body = self.body
            self._wire = (
                header(TEXT, self.size) + body.encode()
                if isinstance(body, str)
                else header(BINARY, self.size) + body
            )
        return self._wire


TEXT: Final = 0x81
BINARY: Final = 0x82
"""Opcodes, with the bit that says that the frame is the whole message."""
_SHORT: Final = struct.Struct("!BB")
_MEDIUM: Final = struct.Struct("!BBH")
_LONG: Final = struct.Struct("!BBQ")


def header(opcode: int, size: int) -> bytes:
    """What comes before the payload of an unmasked frame; in `opcode` with the bit of the last one."""
    if size < 126:
        return _SHORT.pack(opcode, size)
    if size < 1 << 16:
        return _MEDIUM.pack(opcode, 126, size)
    return _LONG.pack(opcode, 127, size)


@dataclass(slots=True)
class Message:
    """One decoded frame of a client."""

    action: str
    data: dict[str, Any]
    """The whole object, as the client sent it."""
    request_id: RequestId = None
    cancelled: bool = False
    """Whether the client has cancelled it."""


@dataclass(slots=True, frozen=True)
class Publication:
    """What a broadcast becomes between processes."""

    topic: str
    body: Body
    exclude: frozenset[str] = frozenset()
    """Ids of connections in the room that do not get it."""
    kind: str = ""
    """Empty for a broadcast to a room; else the cluster's own message of that kind."""
    to: tuple[str, ...] = ()
    """Whom a message of a kind is for: ids of connections, or keys of users."""
    position: str = ""
    """Where it stands in the history of its room; empty where the room has none."""


MARK: Final = "\x01fc1 "
"""Begins a packed publication. A text without it is a bare body, whoever published it."""


def pack(publication: Publication) -> str:
    """The text that goes through a broker for `publication`.

    A plain text body stays as it is, so that programs that listen with broadcaster read it. Any other
    body is preceded by the mark, a JSON header and a newline; bytes are base64.
    """
    body = publication.body
    header: dict[str, object] = {}
    if publication.position:
        header["position"] = publication.position
    if publication.exclude:
        header["exclude"] = sorted(publication.exclude)
    if publication.kind:
        header["kind"] = publication.kind
    if publication.to:
        header["to"] = publication.to
    if isinstance(body, bytes):
        header["encoding"] = "base64"
        body = base64.b64encode(body).decode()
    elif not header and not body.startswith(MARK):
        return body
    return f"{MARK}{to_json(header).decode()}\n{body}"


def pack_around(publication: Publication) -> tuple[str, str]:
    """What comes before its position, and what comes behind it, in the text that goes through a broker: for
    who publishes without knowing the position yet."""
    head, _, tail = pack(replace(publication, position="?")).partition("?")
    return head, tail


def unpack(topic: str, text: str | bytes) -> Publication:
    """The publication that `text` stands for; never fails.

    A text with the mark and a header that cannot be read is a bare body: the broker is shared, and
    what a stranger wrote into it must not stop the listener.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode()
        except UnicodeDecodeError:
            return Publication(topic, text)
    if not text.startswith(MARK):
        return Publication(topic, text)
    head, _, body = text[len(MARK) :].partition("\n")
    try:
        header = from_json(head)
        return Publication(
            topic,
            base64.b64decode(body, validate=True) if header.get("encoding") == "base64" else body,
            frozenset(header.get("exclude", ())),
            str(header.get("kind", "")),
            tuple(map(str, header.get("to", ()))),
            str(header.get("position", "")),
        )
    except (ValueError, AttributeError, TypeError):
        return Publication(topic, text)


def decode_json(body: Body) -> Any:
    """The value of a strict JSON text (RFC 8259): no NaN, no lone surrogates, nesting bounded.

    Raises:
        ValueError: says what is wrong and where.
    """
    return from_json(body, allow_inf_nan=False)


def encode_json(value: Any) -> str:
    """Compact JSON of anything that pydantic can serialize; NaN and the infinities become null.

    Raises:
        ValueError: what cannot be encoded (`pydantic_core.PydanticSerializationError`).
    """
    return to_json(value, inf_nan_mode="null").decode()


@dataclass(frozen=True)
class Envelope:
    """Names of the fields around a payload, and the codec of whole frames.

    Subclass it for another codec: `encode` returns `str` for text frames and `bytes` for binary ones,
    `decode` takes what a client sent and raises ValueError for what it cannot read.

    Attributes:
        payload: the field that holds the action's fields; None when they stand beside `action`.
        binary: whether clients send binary frames rather than text.
    """

    action: str = "action"
    request_id: str = "request_id"
    payload: str | None = None
    type: str = "type"
    status: str = "status"
    data: str = "data"
    errors: str = "errors"
    code: str = "code"
    event: str = "event"
    channel: str = "channel"
    position: str = "position"
    binary: bool = False

    def encode(self, frame: Any) -> Body:
        return encode_json(frame)

    def frame(self, value: Any) -> Frame:
        """A frame of what `encode` gives for `value`, for one connection."""
        if type(self).encode is Envelope.encode:
            return Frame.of_text(to_json(value, inf_nan_mode="null"))
        return Frame(self.encode(value))

    def decode(self, body: Body) -> Any:
        return decode_json(body)

    def place(self, body: Body, position: str) -> Body:
        """`body`, an encoded frame, with the position that it has in the history of its room.

        Raises:
            ValueError: it is not an object, and has no place for one.
        """
        if type(self).encode is Envelope.encode and isinstance(body, str):
            if body[:1] == "{" and body[-1:] == "}":
                comma = "," if len(body) > 2 else ""
                return f'{body[:-1]}{comma}"{self.position}":"{position}"}}'
        else:
            frame = self.decode(body)
            if isinstance(frame, dict):
                return self.encode({**frame, self.position: position})
        raise ValueError("not an object")

    def open(self, frame: Any) -> Message:
        """The message in a decoded frame.

        Raises:
            ParseError: it is not an object, its action is not a text, or its request id is neither a
                text nor a number. Carries the request id where there is a usable one.
        """
        if not isinstance(frame, dict):
            raise _unreadable(f"expected an object, got {_kind(frame)}")
        request_id = frame.get(self.request_id)
        if request_id is not None:
            wrong = _wrong_request_id(request_id)
            if wrong:
                raise _unreadable(f"{self.request_id!r} must be {wrong}")
        action = frame.get(self.action)
        if not isinstance(action, str):
            got = "it is missing" if self.action not in frame else f"got {_kind(action)}"
            raise _unreadable(f"{self.action!r} must be a text, {got}", request_id)
        return Message(action, frame, request_id)

    def payload_of(self, message: Message) -> dict[str, Any]:
        """The action's own fields: the nested payload, or all but the envelope's.

        Raises:
            ParseError: the nested payload is not an object.
        """
        if self.payload is None:
            own = (self.action, self.request_id)
            return {key: value for key, value in message.data.items() if key not in own}
        payload = message.data.get(self.payload, {})
        if not isinstance(payload, dict):
            raise _unreadable(f"{self.payload!r} must be an object, got {_kind(payload)}", message.request_id)
        return payload

    def reply(self, message: Message, data: Any) -> dict[str, Any]:
        return {
            self.type: "response",
            self.action: message.action,
            self.status: "ok",
            self.request_id: message.request_id,
            self.data: data,
        }

    def error(
        self, exc: WebSocketException, *, action: str | None, request_id: RequestId, language: str
    ) -> dict[str, Any]:
        frame: dict[str, Any] = {
            self.type: "response",
            self.status: exc.status,
            self.request_id: exc.request_id if exc.request_id is not None else request_id,
            self.data: exc.data,
            self.errors: exc.message(language),
            self.code: exc.error_code,
        }
        if action is not None:
            frame[self.action] = action
        frame.update(exc.extra)
        return frame

    def to_event(self, event: str, channel: str, data: Any) -> dict[str, Any]:
        return {self.type: "event", self.event: event, self.channel: channel, self.data: data}

    def lagged(self, channel: str, dropped: int) -> dict[str, Any]:
        return {self.type: "lagged", self.channel: channel, "dropped": dropped}

    def resync(self, channel: str, position: str | None = None) -> dict[str, Any]:
        """What was sent to the room may be missing at this place, and nobody knows what. In a room with
        history: up to this position it is, and what follows comes after it."""
        frame = {self.type: "resync", self.channel: channel}
        if position is not None:
            frame[self.position] = position
        return frame

    def drain(self, within: float, retry_after: float) -> dict[str, Any]:
        """The connection will be closed within so many seconds; the client may come back that long after."""
        return {self.type: "drain", "within": within, "retry_after": retry_after}

    def call(self, name: str, number: int, channel: str, data: Any) -> dict[str, Any]:
        """A question to the client."""
        return {
            self.type: "call",
            "call": name,
            "call_id": number,
            self.data: data,
            self.channel: channel,
        }

    def joined(self, channel: str, message: Message | None = None, **said: Any) -> dict[str, Any]:
        """A client has entered a room: one of many, as `message` asked, or one with history."""
        frame = {self.type: "joined", self.channel: channel, **said}
        if message is not None:
            frame[self.request_id] = message.request_id
        return frame

    def left(
        self, channel: str, message: Message | None, close_code: int | None = None, reason: str = ""
    ) -> dict[str, Any]:
        """It has left a room: as `message` asked, or because the server closed that room for it."""
        frame: dict[str, Any] = {self.type: "left", self.channel: channel}
        if close_code is not None:
            frame |= {"close_code": close_code, "reason": reason}
        if message is not None:
            frame[self.request_id] = message.request_id
        return frame


def _unreadable(problem: str, request_id: RequestId = None) -> ParseError:
    return ParseError(close=False, request_id=request_id, context={"problem": problem})


def _wrong_request_id(value: object) -> str:
    if isinstance(value, str):
        return f"at most {MAX_REQUEST_ID} characters long" if len(value) > MAX_REQUEST_ID else ""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return f"a text or a number, got {_kind(value)}"
    if isinstance(value, float) and not math.isfinite(value):
        return "a finite number"
    return ""


_KINDS: Final[Mapping[type, str]] = {
    dict: "an object",
    list: "a list",
    str: "a text",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    type(None): "null",
}


def _kind(value: object) -> str:
    return _KINDS.get(type(value), type(value).__name__)
