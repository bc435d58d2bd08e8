"""Positions in a room's history, and their texts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_channels.wire.positions import InvalidPosition, Position

EPOCHS = st.text("0123456789abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=32)


@given(EPOCHS, st.integers(0, 10**15 - 1))
def test_a_position_is_read_back_from_its_text(epoch: str, offset: int):
    position = Position(epoch, offset)
    assert Position.parse(str(position)) == position


@pytest.mark.parametrize(
    "text",
    ["", "k3", ":5", "k3:", "k3:-1", "k3:5:6", "K3:5", "k3:٣", " k3:5", "k3:5\n", "a" * 65, 5, None, {}],
)
def test_anything_else_is_none(text: object):
    with pytest.raises(InvalidPosition):
        Position.parse(text)
