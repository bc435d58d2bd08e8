import contextlib
import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame as ReferenceFrame
from websockets.frames import Opcode

from fastapi_channels.exceptions import ConfigurationError, ParseError, PermissionDenied, RateLimitExceeded
from fastapi_channels.wire.messages import (
    MAX_REQUEST_ID,
    MAX_WINDOW,
    Body,
    Envelope,
    Frame,
    Message,
    Publication,
    count_of,
    decode_json,
    encode_json,
    size_of,
)

# Unicode text: what JSON and brokers carry, which a lone surrogate is not.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)


# Credit


def test_credit_is_added_up_and_bounded() -> None:
    message = Message("count", {}, 1)
    message.give(2)
    message.give(3)
    assert message.credit == 5
    message.give(10**400)
    assert message.credit == MAX_WINDOW
    message.cancel()
    assert message.cancelled


@pytest.mark.parametrize("value", [0, -(10**400), 1.0, True, "1", None, []])
def test_what_is_no_count(value: Any) -> None:
    with pytest.raises(ParseError) as caught:
        count_of(value, "'window'", "q")
    assert caught.value.request_id == "q"
    assert "'window' must be a whole number above 0, got" in caught.value.message("en")


def test_credit_says_for_which_request_and_of_how_much() -> None:
    names = Envelope(request_id="id")
    assert names.credit({"type": "credit", "id": "q", "count": 3}) == ("q", 3)
    for frame, problem in (
        ({"count": 3}, "'id' of a credit must be a text or a number, got null"),
        ({"id": "q" * 257, "count": 3}, "'id' of a credit must be at most 256 characters long"),
        ({"id": 1}, "'count' of a credit must be a whole number above 0, got null"),
        ({"id": 1, "count": -1}, "'count' of a credit must be a whole number above 0, got a number"),
    ):
        with pytest.raises(ParseError) as caught:
            names.credit(frame)
        assert problem in caught.value.message("en")
        assert caught.value.request_id == (1 if "count" in problem else None)


# Frames

SIZES = (0, 1, 125, 126, 127, 65535, 65536, 70000)
FRAME_BODIES = [
    *("a" * size for size in SIZES),
    *(b"\x00" * size for size in SIZES),
    *("é" * size for size in (62, 63, 40_000)),
    "😀",
]


@pytest.mark.parametrize("body", FRAME_BODIES, ids=lambda body: f"{len(body)} {body[:1]!r}")
def test_a_frame_is_as_the_protocol_wants_it(body: Body) -> None:
    frame = Frame(body, "room")
    text = isinstance(body, str)
    payload = body.encode() if isinstance(body, str) else body
    assert frame.event == {"type": "websocket.send", "text" if text else "bytes": body}
    assert frame.event is frame.event, "it is shared"
    assert frame.size == len(payload)
    opcode = Opcode.TEXT if text else Opcode.BINARY
    assert frame.wire == ReferenceFrame(opcode, payload).serialize(mask=False)
    assert frame.wire is frame.wire, "built once"


def test_a_frame_of_nobodys_room() -> None:
    assert Frame("a").room == ""
    assert Frame("a", "r").room == "r"


def test_what_is_no_text_is_no_frame() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        Frame("\ud800")


# JSON

BAD_JSON = [
    *("NaN", "[NaN]", "Infinity", "-Infinity", "", " ", "{", "[1,]", '{"a":1,}', "{'a':1}", "01", "1.", "+1"),
    *('"\\ud800"', '"\\udc00"', '{"\\ud800":1}', '"a', '"\n"', '"\x00"', "[" * 100_000, '{"a":' * 100_000),
    *("9" * 5000, "-" + "9" * 5000, "\ufeff{}", "{} {}", b"\xff", b'"\xed\xa0\x80"', b"\x80{}"),
]


@pytest.mark.parametrize("body", BAD_JSON, ids=lambda body: repr(body[:16]))
def test_what_is_not_json_is_a_value_error(body: Body) -> None:
    with pytest.raises(ValueError, match=r"at line \d+ column \d+"):
        decode_json(body)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), texts
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=20,
)


@given(json_values)
def test_json_there_and_back(value: Any) -> None:
    text = encode_json(value)
    assert decode_json(text) == decode_json(text.encode()) == json.loads(text) == value


@given(st.one_of(texts, st.binary()))
def test_decoding_never_raises_anything_else(body: Body) -> None:
    with contextlib.suppress(ValueError):
        decode_json(body)


class Opaque:
    pass


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (math.nan, "null"),
        ([math.inf, -math.inf], "[null,null]"),
        ({"a": "é"}, '{"a":"é"}'),
        ((1, 2), "[1,2]"),
        (
            Publication("r", "hi", kind="k"),
            '{"topic":"r","body":"hi","exclude":[],"kind":"k","to":[],"position":"","for_each":"",'
            '"traceparent":"","tracestate":""}',
        ),
    ],
)
def test_encode_json(value: Any, text: str) -> None:
    assert encode_json(value) == text


@pytest.mark.parametrize("value", [Opaque(), "\ud800", {"a": Opaque()}])
def test_what_cannot_be_encoded_is_a_value_error(value: Any) -> None:
    with pytest.raises(ValueError, match=r"serializ|surrogate"):
        encode_json(value)


# Envelopes


@pytest.mark.parametrize("names", [{"action": "type"}, {"data": "code"}, {"payload": "action"}])
def test_two_fields_of_one_name_are_told(names: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="two fields of the envelope are named"):
        Envelope(**names)
    Envelope(payload="data")  # which are never in one frame


class Bytes(Envelope):
    def encode(self, frame: Any) -> Body:
        return encode_json(frame).encode()


@pytest.mark.parametrize("envelope", [Envelope(position="at"), Bytes(position="at")])
@pytest.mark.parametrize("frame", [{}, {"a": 1}, {"a": {"b": "}"}}])
def test_a_position_is_put_into_a_frame(envelope: Envelope, frame: dict[str, Any]) -> None:
    placed = envelope.place(envelope.encode(frame), "k:7")
    assert type(placed) is type(envelope.encode(frame))
    assert decode_json(placed) == {**frame, "at": "k:7"}


@pytest.mark.parametrize(
    ("envelope", "body"),
    [(Envelope(), ""), (Envelope(), "[]"), (Envelope(), b"[1]"), (Bytes(), b"[1]"), (Bytes(), b"\x00")],
)
def test_what_has_no_place_for_a_position(envelope: Envelope, body: Body) -> None:
    with pytest.raises(ValueError, match=r"not an object|expected value"):
        envelope.place(body, "k:7")


def test_where_one_is_in_a_room_with_history() -> None:
    envelope = Envelope()
    assert envelope.resync("r", "k:7") == {"type": "resync", "channel": "r", "position": "k:7"}
    assert envelope.joined("r", position="k:7") == {"type": "joined", "channel": "r", "position": "k:7"}


@pytest.mark.parametrize(
    "request_id", [None, "", "7", "x" * MAX_REQUEST_ID, "é" * 256, 0, -1, 7, 1.5, 10**300]
)
def test_a_request_id_is_kept_as_it_is(request_id: Any) -> None:
    message = Envelope().open({"action": "a", "request_id": request_id})
    assert message.request_id == request_id
    assert type(message.request_id) is type(request_id)


@pytest.mark.parametrize(
    ("request_id", "problem"),
    [
        (True, "a text or a number, got a boolean"),
        ([1], "a text or a number, got a list"),
        ({}, "a text or a number, got an object"),
        (b"7", "a text or a number, got bytes"),
        ("x" * (MAX_REQUEST_ID + 1), "at most 256 characters long"),
        (math.inf, "a finite number"),
        (-math.inf, "a finite number"),
        (math.nan, "a finite number"),
    ],
)
def test_a_request_id_that_cannot_be_echoed(request_id: Any, problem: str) -> None:
    with pytest.raises(ParseError) as caught:
        Envelope().open({"action": "a", "request_id": request_id})
    assert caught.value.request_id is None
    assert not caught.value.close
    assert str(caught.value) == f"The frame cannot be read: 'request_id' must be {problem}"


@pytest.mark.parametrize(
    ("frame", "problem"),
    [
        ([], "expected an object, got a list"),
        ("a", "expected an object, got a text"),
        (7, "expected an object, got a number"),
        (7.5, "expected an object, got a number"),
        (True, "expected an object, got a boolean"),
        (None, "expected an object, got null"),
        (b"a", "expected an object, got bytes"),
        ({}, "'action' must be a text, it is missing"),
        (
            {"type": "presence"},
            "'action' must be a text, it is missing, and 'presence' is no control frame that is taken here",
        ),
        ({"action": None}, "'action' must be a text, got null"),
        ({"action": 7}, "'action' must be a text, got a number"),
        ({"action": ["a"]}, "'action' must be a text, got a list"),
        ({"action": {"a": 1}}, "'action' must be a text, got an object"),
    ],
)
def test_a_frame_that_is_no_message(frame: Any, problem: str) -> None:
    with pytest.raises(ParseError) as caught:
        Envelope().open(frame)
    assert str(caught.value) == f"The frame cannot be read: {problem}"
    assert not caught.value.close


def test_an_error_carries_the_request_id_where_there_is_one() -> None:
    with pytest.raises(ParseError) as caught:
        Envelope().open({"action": 7, "request_id": "r"})
    assert caught.value.request_id == "r"


FLAT = Envelope()
NESTED = Envelope(
    action="a", request_id="id", payload="p", type="t", status="s", data="d", errors="e", code="c"
)


@pytest.mark.parametrize(
    ("envelope", "frame", "fields"),
    [
        (FLAT, {"action": "say", "request_id": 1, "text": "hi", "data": 2}, {"text": "hi", "data": 2}),
        (FLAT, {"action": "say"}, {}),
        (NESTED, {"a": "say", "id": 1, "p": {"text": "hi"}, "text": "no"}, {"text": "hi"}),
        (NESTED, {"a": "say"}, {}),
    ],
)
def test_the_payload(envelope: Envelope, frame: dict[str, Any], fields: dict[str, Any]) -> None:
    message = envelope.open(frame)
    assert message.action == "say"
    assert message.data is frame
    assert envelope.payload_of(message) == fields


@pytest.mark.parametrize("payload", [None, 7, "text", [1]])
def test_a_nested_payload_is_an_object(payload: Any) -> None:
    message = NESTED.open({"a": "say", "id": 1, "p": payload})
    with pytest.raises(ParseError, match="'p' must be an object, got ") as caught:
        NESTED.payload_of(message)
    assert caught.value.request_id == 1


def test_the_frames_that_a_client_sees() -> None:
    message = Message("say", {}, 7)
    assert FLAT.reply(message, [1]) == {
        "type": "response", "action": "say", "status": "ok", "request_id": 7, "data": [1],
    }  # fmt: skip
    assert FLAT.error(PermissionDenied(), action="say", request_id=7, language="zh") == {
        "type": "response", "action": "say", "status": "bad", "request_id": 7, "data": None,
        "errors": "权限不足", "code": "permission_denied",
    }  # fmt: skip
    assert FLAT.to_event("said", "r", None) == {
        "type": "event",
        "event": "said",
        "channel": "r",
        "data": None,
    }
    assert FLAT.lagged("r", 3) == {"type": "lagged", "channel": "r", "dropped": 3}


def test_an_error_has_its_own_request_id_and_extra_fields() -> None:
    exc = RateLimitExceeded(request_id="own", data=1, retry_after=2.5)
    frame = FLAT.error(exc, action=None, request_id="message", language="en")
    assert "action" not in frame
    assert (frame["request_id"], frame["data"], frame["retry_after"]) == ("own", 1, 2.5)
    assert (
        FLAT.error(PermissionDenied(request_id=0), action=None, request_id=7, language="en")["request_id"]
        == 0
    )


def test_every_field_can_have_another_name() -> None:
    names: dict[str, Any] = {
        f.name: f"{f.name}_" for f in dataclasses.fields(Envelope) if f.name not in ("payload", "binary")
    }
    envelope = Envelope(**names)
    message = envelope.open({"action_": "say", "request_id_": 7})
    frames = [
        (envelope.reply(message, 1), FLAT.reply(message, 1)),
        (
            envelope.error(PermissionDenied(), action="say", request_id=7, language="en"),
            FLAT.error(PermissionDenied(), action="say", request_id=7, language="en"),
        ),
        (envelope.to_event("e", "r", 1), FLAT.to_event("e", "r", 1)),
    ]
    for renamed, usual in frames:
        assert renamed == {names[key]: value for key, value in usual.items()}
    assert envelope.lagged("r", 3) == {"type_": "lagged", "channel_": "r", "dropped": 3}


def test_a_wrong_field_is_called_by_its_own_name() -> None:
    with pytest.raises(ParseError, match="'a' must be a text"):
        NESTED.open({})
    with pytest.raises(ParseError, match="'id' must be a text or a number"):
        NESTED.open({"a": "say", "id": []})


class Reversed(Envelope):
    """Stands for MessagePack: binary, with values that JSON lacks, and errors of its own."""

    def encode(self, frame: Any) -> Body:
        return encode_json(frame).encode()[::-1]

    def decode(self, body: Body) -> Any:
        if isinstance(body, str):
            raise ValueError("expected a binary frame")
        return decode_json(body[::-1])


@given(st.dictionaries(texts, json_values, max_size=4))
def test_another_codec(fields: dict[str, Any]) -> None:
    envelope = Reversed(binary=True)
    frame = {**fields, "action": "say", "request_id": 7}
    body = envelope.encode(frame)
    assert isinstance(body, bytes)
    message = envelope.open(envelope.decode(body))
    assert envelope.payload_of(message) == {
        k: v for k, v in fields.items() if k not in ("action", "request_id")
    }
    with pytest.raises(ValueError, match="binary"):
        envelope.decode("text")


def test_the_usual_codec() -> None:
    assert FLAT.encode({"a": 1}) == '{"a":1}'
    assert FLAT.decode('{"a":1}') == FLAT.decode(b'{"a":1}') == {"a": 1}
    assert not FLAT.binary


@given(json_values, st.sampled_from([Envelope(), Reversed(binary=True)]))
def test_a_frame_of_a_value_is_one_of_what_encode_gives(value: Any, envelope: Envelope) -> None:
    body = envelope.encode(value)
    expected, frame = Frame(body), envelope.frame(value)
    assert (frame.wire, frame.size, frame.room) == (expected.wire, expected.size, "")
    assert (frame.event, frame.body) == (expected.event, body)


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (
            FLAT.call("confirm", 3, "tea", {"of": 1}, 2.5),
            {
                "type": "call",
                "call": "confirm",
                "call_id": 3,
                "data": {"of": 1},
                "channel": "tea",
                "within": 2.5,
            },
        ),
        (
            FLAT.call("confirm", 3, "tea", None, math.inf),
            {"type": "call", "call": "confirm", "call_id": 3, "data": None, "channel": "tea", "within": None},
        ),
        (
            FLAT.joined("tea", Message("join", {}, 7)),
            {"type": "joined", "channel": "tea", "request_id": 7},
        ),
        (FLAT.left("tea", Message("leave", {}, 8)), {"type": "left", "channel": "tea", "request_id": 8}),
        (
            FLAT.left("tea", None, 4000, "slow"),
            {"type": "left", "channel": "tea", "close_code": 4000, "reason": "slow"},
        ),
        (FLAT.resync("tea"), {"type": "resync", "channel": "tea"}),
        (FLAT.drain(2.5, 1.0), {"type": "drain", "within": 2.5, "retry_after": 1.0}),
        (
            FLAT.welcome("a.1", 64),
            {"type": "welcome", "connection": "a.1", "max_message_size": 64, "max_window": MAX_WINDOW},
        ),
        (
            FLAT.presence("tea", 3, ["ada"]),
            {"type": "presence", "channel": "tea", "version": 3, "present": ["ada"]},
        ),
        (
            FLAT.presence_diff("tea", 4, joined=[], changed=[], left=["ada"]),
            {
                "type": "presence_diff",
                "channel": "tea",
                "version": 4,
                "joined": [],
                "changed": [],
                "left": ["ada"],
            },
        ),
        (FLAT.authenticated(9.5, None), {"type": "authenticated", "expires_in": 9.5}),
        (FLAT.expiring(3.0), {"type": "expiring", "expires_in": 3.0}),
        (FLAT.lagged("tea", 2), {"type": "lagged", "channel": "tea", "dropped": 2}),
    ],
)
def test_what_a_client_is_told_of_its_rooms(frame: dict[str, Any], expected: dict[str, Any]) -> None:
    assert frame == expected


@pytest.mark.parametrize(
    ("body", "size"), [("", 0), ("ab", 2), ("é", 2), ("你好", 6), (b"\xff\x00", 2), ("\ud800", 1)]
)
def test_the_size_of_a_body_is_that_of_its_bytes(body: Body, size: int) -> None:
    assert size_of(body) == size
