"""Patterns of room names: `"room:{room_id:int}"`."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from starlette.routing import compile_path

from .exceptions import ConfigurationError

TAKEN: Final = frozenset(
    {"self", "websocket", "channel", "data", "action", "request_id", "connection"},
)
"""What a handler, or `authorize`, receives by these names is something else."""


class RoomPattern:
    """A room's name with parameters, written as a Starlette path: `{name}` or `{name:int}`, with the
    convertors `str`, `int`, `float`, `uuid` and `path`.

    A room has one name: `room:007` does not fit where `room:7` does, although both say seven.

    Raises:
        ConfigurationError: the pattern cannot be read.
    """

    __slots__ = ("_convertors", "_regex", "pattern")

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        try:
            # Without the slash it would be read as a host: its port cut off, its case ignored.
            self._regex, rest, self._convertors = compile_path("/" + pattern)
        except (AssertionError, ValueError) as exc:
            raise self._unreadable(str(exc)) from exc
        for name in self._convertors:
            if name in TAKEN:
                raise self._unreadable(f"the name {name!r} stands for something else")
            rest = rest.replace("{" + name + "}", "", 1)
        if "{" in rest or "}" in rest:
            raise self._unreadable(f"{rest[1:]!r} is no parameter")

    @property
    def names(self) -> list[str]:
        """The names of the parameters."""
        return list(self._convertors)

    def match(self, room: str) -> dict[str, Any] | None:
        """The parameters in `room`, converted; None if it does not fit."""
        found = self._regex.fullmatch("/" + room)
        if found is None:
            return None
        texts = found.groupdict()
        try:
            values = {name: self._convertors[name].convert(text) for name, text in texts.items()}
        except ValueError:
            return None
        if any(isinstance(value, int | UUID) and str(value) != texts[name] for name, value in values.items()):
            return None
        return values

    def _unreadable(self, problem: str) -> ConfigurationError:
        return ConfigurationError(f"the room pattern {self.pattern!r} cannot be read: {problem}")
