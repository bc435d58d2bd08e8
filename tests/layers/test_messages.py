"""Messages of a channel layer as texts."""

import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.layers.messages import (
    decode,
    encode,
    websocket_bytes_message,
    websocket_json_message,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20).filter(lambda text: text != "__bytes__")
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=5,
)


@settings(max_examples=30)
@given(st.dictionaries(TEXT, VALUE, max_size=5))
def test_what_is_encoded_is_decoded(message: dict[str, Any]):
    assert decode(encode(message)) == message


def test_bytes_and_what_looks_like_them():
    message = {"body": b"\x00\x01", "said": '"__bytes__":', "more": [{"deep": b""}]}
    assert decode(encode(message)) == message


class Point(BaseModel):
    x: int


def test_what_pydantic_knows_becomes_json():
    message = {"at": datetime.date(2026, 1, 2), "point": Point(x=1), "pair": (1, 2)}
    assert decode(encode(message)) == {"at": "2026-01-02", "point": {"x": 1}, "pair": [1, 2]}


def deep() -> list[Any]:
    found: list[Any] = []
    for _ in range(100_000):
        found = [found]
    return found


@pytest.mark.parametrize(
    "value",
    [object(), float("nan"), "\ud800", {("a",): 1}, {"__bytes__": "x"}, deep()],
    ids=["object", "nan", "surrogate", "key", "bytes", "deep"],
)
def test_what_cannot_be_encoded_is_refused(value: Any):
    with pytest.raises(ValueError, match="cannot be encoded"):
        encode({"value": value})


@pytest.mark.parametrize("message", [None, "text", ["type"], b""])
def test_what_is_no_mapping_is_refused(message: Any):
    with pytest.raises(ConfigurationError, match="a message is a mapping"):
        encode(message)


@pytest.mark.parametrize("text", ["", "[]", "1", "{", '{"a": NaN}', '{"__bytes__": "!"}'])
def test_what_is_no_message_cannot_be_decoded(text: str):
    with pytest.raises(ValueError, match=r"."):
        decode(text)


def test_what_a_consumer_sends_on():
    sent = {"type": "websocket.send", "mode": "json", "body": {"a": 1}, "event": "chat"}
    assert websocket_json_message({"a": 1}, event="chat") == sent
    assert websocket_bytes_message(b"x") == {"type": "websocket.send", "mode": "bytes", "body": b"x"}


@pytest.mark.parametrize("data", [b"\x00", bytearray(b"\x00"), memoryview(b"\x00")])
def test_whatever_holds_bytes_is_bytes(data: Any):
    assert decode(encode({"type": "x", "data": [data]})) == {"type": "x", "data": [b"\x00"]}
