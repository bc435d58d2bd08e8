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
        found: dict[str, Any] = dict.fromkeys(self.names)
        wanted = filter.split(SEPARATOR)
        if self.pattern.startswith(OWN) and wanted[0] in (ONE, REST):
            return None
        for number, level in enumerate(self.levels):
            given = wanted[number : number + 1]
            if given == [REST]:
                return found
            if spans(level):
                rest = SEPARATOR.join(wanted[number:])
                given = [ONE if is_wild(rest) else rest] if given else []
                wanted = wanted[: number + 1]
            if given == [ONE]:
                continue
            params = level.match(given[0]) if given and level is not None else {} if given == [""] else None
            if params is None:
                return None
            found |= params
        return found if wanted[len(self.levels) :] in ([], [REST]) else None


def spans(level: RoomPattern | None) -> bool:
    """Whether it stands for several levels."""
    return level is not None and any(isinstance(each, PathConvertor) for each in level._convertors.values())
