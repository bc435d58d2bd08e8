"""What travels: the Message of a client, the Frame to a client, the Publication between processes.

Everything here is plain data and pure functions; nothing awaits.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeAlias

from pydantic_core import from_json, to_json

from fastapi_channels.exceptions import ConfigurationError, ParseError, WebSocketException

Body: TypeAlias = str | bytes
RequestId: TypeAlias = Annotated[str | int | float | None, "the request's id"]
"""A client's own name for its message; a parameter with this annotation receives it."""

SUBPROTOCOL: Final = "fastapi-channels.1"
"""What a client offers that knows the whole protocol: it gets a welcome, a reply to every request that has
an id, and reads why it is refused."""
TRACE: Final = ("traceparent", "tracestate")
"""Fields of a request that say what it belongs to (W3C Trace Context), to who wants to know."""
MAX_REQUEST_ID: Final = 256
"""Characters of a textual request id: it is echoed, so it must not amplify."""
WINDOW: Final = "window"
"""How many items a stream's client takes until it gives credit; no field of such an action has that name."""
MAX_WINDOW: Final = 65_536
"""Items that a stream may be ahead of a client that said a window. More is as much."""


def size_of(body: Body) -> int:
    """Bytes of `body` in UTF-8."""
    return len(body) if isinstance(body, bytes) or body.isascii() else len(body.encode(errors="replace"))


class Frame:
    """One encoded WebSocket message, built once however many connections it goes to."""

    __slots__ = ("_body", "_event", "_wire", "position", "room", "size", "streamed")

    def __init__(self, body: Body, room: str = "", position: str = "") -> None:
        self._body: Body | None = body
        self.room = room
        """The room it was broadcast to; empty for what concerns one connection."""
        self.position = position
        """Where a client stands in the history of a room that has it; empty where it says nothing of that."""
        self.streamed: bytes | None = None
        """What it is in a stream of events, once anybody has got it there."""
        self.size = len(body) if isinstance(body, bytes) or body.isascii() else len(body.encode())
        """Bytes of payload."""
        self._event: dict[str, Any] | None = None
        self._wire: bytes | None = None

    @classmethod
    def of_text(cls, payload: bytes) -> Frame:
        """A text frame of what is UTF-8 already, for one connection."""
        frame = cls.__new__(cls)
        frame._body = frame._event = frame.streamed = None
        frame.room = frame.position = ""
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
_short: Final = struct.Struct("!BB").pack
_medium: Final = struct.Struct("!BBH").pack
_long: Final = struct.Struct("!BBQ").pack


def header(opcode: int, size: int) -> bytes:
    """What comes before the payload of an unmasked frame; in `opcode` with the bit of the last one."""
    if size < 126:
        return _short(opcode, size)
    if size < 1 << 16:
        return _medium(opcode, 126, size)
    return _long(opcode, 127, size)


@dataclass(slots=True)
class Message:
    """One decoded frame of a client."""

    action: str
    data: dict[str, Any]
    """The whole object, as the client sent it."""
    request_id: RequestId = None
    cancelled: bool = False
    """Whether the client has cancelled it."""
    credit: int = 0
    """Items that the client takes yet of the stream it asks for, where that has a window."""

    def cancel(self) -> None:
        """The client does not want it any more."""
        self.cancelled = True

    def give(self, count: int) -> None:
        """The client takes so many more."""
        self.credit = min(self.credit + count, MAX_WINDOW)


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
    for_each: str = ""
    """Names the function that says what each recipient gets; empty where all get `body`."""
    traceparent: str = ""
    """Of what it belongs to (W3C Trace Context, section 3.2); empty where nobody traces."""
    tracestate: str = ""


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

    Raises:
        ConfigurationError: two fields that are in one frame have the same name.
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

    def __post_init__(self) -> None:
        asked = (self.action, self.request_id, self.channel)
        told = (*asked, self.type, self.status, self.data, self.errors, self.code, self.event, self.position)
        twice = {name for names in ((*asked, self.payload), told) for name in names if names.count(name) > 1}
        if twice:
            raise ConfigurationError(f"two fields of the envelope are named {twice.pop()!r}")

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
            kind = frame.get(self.type)
            got = "it is missing" if self.action not in frame else f"got {_kind(action)}"
            if self.action not in frame and isinstance(kind, str):
                got += f", and {kind[:32]!r} is no control frame that is taken here"
            raise _unreadable(f"{self.action!r} must be a text, {got}", request_id)
        return Message(action, frame, request_id)

    def credit(self, frame: dict[str, Any]) -> tuple[str | int | float, int]:
        """Whose stream a credit is for, by the id of the request, and how many items.

        Raises:
            ParseError: it does not say so.
        """
        request_id: Any = frame.get(self.request_id)
        wrong = _wrong_request_id(request_id)
        if wrong:
            raise _unreadable(f"{self.request_id!r} of a credit must be {wrong}")
        return request_id, count_of(frame.get("count"), "'count' of a credit", request_id)

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

    def lagged(self, channel: str, dropped: int, since: str = "") -> dict[str, Any]:
        """So many frames of the room are missing at this place; in one with history: all after `since`."""
        said = {"since": since} if since else {}
        return {self.type: "lagged", self.channel: channel, "dropped": dropped, **said}

    def resync(self, channel: str, position: str | None = None) -> dict[str, Any]:
        """What was sent to the room may be missing at this place, and nobody knows what. In a room with
        history: up to this position it is, and what follows comes after it."""
        frame = {self.type: "resync", self.channel: channel}
        if position is not None:
            frame[self.position] = position
        return frame

    def welcome(self, connection: str, max_message_size: int, **limits: int) -> dict[str, Any]:
        """The client is in: as whom, how many bytes a message of its own may have, and other limits."""
        limits |= {"max_message_size": max_message_size, "max_window": MAX_WINDOW}
        return {self.type: "welcome", "connection": connection, **limits}

    def drain(self, within: float, retry_after: float) -> dict[str, Any]:
        """The connection will be closed within so many seconds; the client may come back that long after."""
        return {self.type: "drain", "within": within, "retry_after": retry_after}

    def presence(self, channel: str, version: int, present: Sequence[Any]) -> dict[str, Any]:
        """Who is in the room; what is different later counts on from this version."""
        return {self.type: "presence", self.channel: channel, "version": version, "present": present}

    def presence_diff(self, channel: str, version: int, **what: Sequence[Any]) -> dict[str, Any]:
        """What is different since the version before this one: who `joined`, `changed` and `left`."""
        return {self.type: "presence_diff", self.channel: channel, "version": version, **what}

    def authenticated(self, expires_in: float | None, message: Message | None) -> dict[str, Any]:
        """It is known who the client is, for so many seconds; as `message` asked."""
        asked = {} if message is None else {self.request_id: message.request_id}
        return {self.type: "authenticated", "expires_in": expires_in, **asked}

    def expiring(self, expires_in: float) -> dict[str, Any]:
        """The connection will be closed in so many seconds, unless the client brings a new token."""
        return {self.type: "expiring", "expires_in": expires_in}

    def call(self, name: str, number: int, channel: str, data: Any, within: float) -> dict[str, Any]:
        """A question to the client, whose answer is waited for `within` seconds."""
        return {
            self.type: "call",
            "call": name,
            "call_id": number,
            self.data: data,
            self.channel: channel,
            "within": None if within == math.inf else within,
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


def count_of(value: Any, what: str, request_id: RequestId) -> int:
    """The number of items that a client says.

    Raises:
        ParseError: it is not a whole number above 0.
    """
    if type(value) is not int or value < 1:
        raise _unreadable(f"{what} must be a whole number above 0, got {_kind(value)}", request_id)
    return value


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
