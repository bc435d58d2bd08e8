"""Where a publication stands in the history of its room."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from fastapi_channels.exceptions import ParseError

MAX_POSITION: Final = 64
"""Characters of a position: clients send them."""
POSITION: Final = "^([0-9a-z]{1,32}):([0-9]{1,15})$"
_FORM: Final = re.compile(POSITION, re.ASCII)


class InvalidPosition(ParseError):
    """A `since` that is no position, or a cursor that is none."""

    error_code = "invalid_position"


@dataclass(frozen=True, slots=True)
class Published:
    """What became of a broadcast. It is true if everything of it was taken.

    Attributes:
        taken: whether it was, for every room.
        positions: in each room with history, by its name.
    """

    taken: bool
    positions: Mapping[str, str]

    def __bool__(self) -> bool:
        return self.taken

    @property
    def position(self) -> str | None:
        """The position in the room, where it was one; None in a room without history."""
        return next(iter(self.positions.values()), None)


class Position(NamedTuple):
    """As a text, `epoch:offset`: clients keep it and give it back, and need not read it.

    Attributes:
        epoch: changes when the history begins anew: offsets of two epochs cannot be compared.
        offset: counts the publications of the room in this epoch; 0 is before the first.
    """

    epoch: str
    offset: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.offset}"

    @property
    def before(self) -> Position:
        """That of the publication before: offsets have no gaps."""
        return Position(self.epoch, self.offset - 1)

    @classmethod
    def parse(cls, text: object) -> Position:
        """
        Raises:
            InvalidPosition: `text` is no position.
        """
        found = _FORM.fullmatch(text) if isinstance(text, str) and len(text) <= MAX_POSITION else None
        if found is None:
            raise InvalidPosition(close=False, context={"position": repr(text)[:64]})
        return cls(found[1], int(found[2]))
