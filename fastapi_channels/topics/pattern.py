"""The pattern of a channel's topics, such as `"sport/{game}/{player:int}"`, and what a filter says of it."""

from __future__ import annotations

from typing import Any

from starlette.convertors import PathConvertor

from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.wire.rooms import RoomPattern

from .names import ONE, OWN, REST, SEPARATOR, is_wild


class TopicPattern(RoomPattern):
    """As the pattern of rooms' names. Its parameters are within a level; one of the type `path` is at the
    end, and takes several.

    Attributes:
        levels: a pattern for each; None for one that is empty.

    Raises:
        ConfigurationError: the pattern cannot be read.
    """

    __slots__ = ("levels",)

    def __init__(self, pattern: str) -> None:
        super().__init__(pattern)
        parts = pattern.split(SEPARATOR)
        if is_wild(pattern):
            raise ConfigurationError(
                f"the pattern {pattern!r} has a wildcard, which is for filters: name the level, as in "
                f"{'/'.join('{name}' if is_wild(part) else part for part in parts)!r}"
            )
        self.levels = [RoomPattern(part) if part else None for part in parts]
        if any(spans(level) for level in self.levels[:-1]):
            raise ConfigurationError(f"the pattern {pattern!r} has a path before its end")

    def fixed(self, filter: str) -> dict[str, Any] | None:
        """The parameters that `filter`, which is valid, fixes, converted; None for each that it leaves open.
        None if no topic of the pattern fits the filter."""
        wanted = filter.split(SEPARATOR)
        if self.pattern.startswith(OWN) and wanted[0] in (ONE, REST):
            return None
        found: dict[str, Any] = dict.fromkeys(self.names)
        for number, level in enumerate(self.levels):
            if wanted[number : number + 1] == [REST]:
                return found
            if spans(level) and len(wanted) > number:
                rest = SEPARATOR.join(wanted[number:])
                wanted[number:] = [ONE if is_wild(rest) else rest]
            params = self._params(level, *wanted[number : number + 1])
            if params is None:
                return None
            found |= params
        return found if wanted[len(self.levels) :] in ([], [REST]) else None

    @staticmethod
    def _params(level: RoomPattern | None, given: str | None = None) -> dict[str, Any] | None:
        """Those that one level of a filter fixes; None if it does not fit, or is not there."""
        if given == ONE:
            return {}
        if level is None:
            return {} if given == "" else None
        return None if given is None else level.match(given)


def spans(level: RoomPattern | None) -> bool:
    """Whether it stands for several levels."""
    return level is not None and any(isinstance(each, PathConvertor) for each in level._convertors.values())
