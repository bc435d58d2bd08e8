"""Orders as they travel, and what is no order."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from fastapi_channels.cluster.orders import (
    MAX_NAME,
    MAX_ORDER,
    DisconnectConnection,
    DisconnectUser,
    Drain,
    Join,
    Leave,
    Order,
    Probe,
    decode,
    encode,
)

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=MAX_NAME)
ROOMS = st.builds(
    "{}{}".format,
    st.sampled_from(["", "Auction\x1f"]),
    st.text(st.sampled_from("abc:/ 房间🚀"), min_size=1, max_size=255),
)
CODES = st.sampled_from([1000, 1001, 1008, 1012, 3000, 4000, 4999])
ORDERS = st.one_of(
    st.builds(DisconnectUser, user=NAMES, code=CODES, reason=st.text("né🚀", max_size=200)),
    st.builds(DisconnectConnection, connection=NAMES, code=CODES),
    st.builds(Join, user=NAMES, room=ROOMS),
    st.builds(Leave, user=NAMES, room=ROOMS),
    st.builds(Drain, node=st.text("0123456789abcdef", min_size=1, max_size=64)),
    st.builds(Probe, asker=st.text("0123456789abcdef", min_size=1, max_size=64)),
)


@given(ORDERS)
def test_every_order_arrives_as_it_was_given(order: Order):
    assert decode(encode(order)) == order
    assert decode(encode(order).encode()) == order


def test_the_largest_order_is_taken():
    decode(encode(Join(user="🚀" * MAX_NAME, room="房" * 255)))


def test_a_reason_is_cut_to_what_a_close_frame_carries():
    order = DisconnectUser(user="ada", reason="long " * 100)
    assert len(order.reason.encode()) <= 123
    assert order.reason.endswith("…")


@given(st.one_of(st.text(), st.binary(), st.recursive(st.none() | st.text(), st.lists).map(json.dumps)))
def test_what_is_no_order_is_a_value_error(body: Any):
    with pytest.raises(ValueError, match=r".+"):
        decode(body)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"order": "explode"}, "union_tag_invalid"),
        ({"user": "ada"}, "union_tag_not_found"),
        ({"order": "join", "user": "ada"}, "missing at join.room"),
        ({"order": "join", "user": "ada", "room": ""}, "string_too_short at join.room"),
        ({"order": "join", "user": "ada", "room": "a\nb"}, "room at join.room"),
        ({"order": "join", "user": "ada", "room": "fastapi-channels:nodes"}, "room at join.room"),
        ({"order": "leave", "user": "", "room": "r"}, "string_too_short at leave.user"),
        ({"order": "leave", "user": 7, "room": "r"}, "string_type at leave.user"),
        (
            {"order": "leave", "user": "x" * (MAX_NAME + 1), "room": "r"},
            "string_too_long at leave.user",
        ),
        ({"order": "disconnect_user", "user": "ada", "code": 1006}, "close_code at disconnect_user.code"),
        ({"order": "disconnect_user", "user": "ada", "code": "1000"}, "int_type at disconnect_user.code"),
        ({"order": "disconnect_user", "user": "ada", "code": 10**30}, "close_code at disconnect_user.code"),
        ({"order": "probe", "asker": "a b"}, "string_pattern_mismatch at probe.asker"),
        ("x" * (MAX_ORDER + 1), f"it has more than {MAX_ORDER} bytes"),
    ],
)
def test_the_error_says_what_is_wrong_and_repeats_nothing(body: Any, problem: str):
    with pytest.raises(ValueError, match=r".+") as failure:
        decode(json.dumps(body))
    assert str(failure.value) == problem


@pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, -1])
def test_a_code_that_no_endpoint_may_send_is_refused_where_the_order_is_given(code: int):
    with pytest.raises(ValidationError, match="a close code is one of"):
        DisconnectUser(user="ada", code=code)


def test_what_a_newer_version_says_besides_is_passed_over():
    assert decode('{"order":"leave","user":"ada","room":"r","since":"k3:4"}') == Leave(user="ada", room="r")
