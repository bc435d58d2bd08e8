"""Patterns of room names: `"room:{room_id:int}"`."""

from __future__ import annotations

import re
from typing import Any

from starlette.routing import compile_path

from .exceptions import ConfigurationError


class RoomPattern:
    """A room's name with parameters, written as a Starlette path: `{name}` or `{name:int}`, with the
    convertors `str`, `int`, `float`, `uuid` and `path`.

    Raises:
        ConfigurationError: the pattern cannot be read.
    """

    __slots__ = ("_convertors", "_regex", "pattern")

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        try:
            regex, _, self._convertors = compile_path(pattern)
        except (AssertionError, ValueError, re.error) as exc:
            raise ConfigurationError(f"the room pattern {pattern!r} cannot be read: {exc}") from exc
        self._regex = regex

    @property
    def names(self) -> list[str]:
        """The names of the parameters."""
        return list(self._convertors)

    def match(self, room: str) -> dict[str, Any] | None:
        """The parameters in `room`, converted; None if it does not fit."""
        found = self._regex.match(room)
        if found is None:
            return None
        try:
            return {name: self._convertors[name].convert(text) for name, text in found.groupdict().items()}
        except ValueError:
            return None
