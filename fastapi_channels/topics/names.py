"""The names of topics, and filters for them (MQTT 3.1.1, section 4.7)."""

from __future__ import annotations

from typing import Final

from fastapi_channels.exceptions import ParseError
from fastapi_channels.wire.rooms import MAX_ROOM, InvalidRoom, check_room

SEPARATOR: Final = "/"
"""Stands between the levels of a name."""
ONE: Final = "+"
"""The level of a filter that any one level fits."""
REST: Final = "#"
"""The last level of a filter, which any number of levels fits, and none."""
OWN: Final = "$"
"""Begins the names of topics that a filter with a wildcard for its first level does not reach."""


class InvalidFilter(ParseError):
    """A filter with a wildcard that is no level of its own, or with `#` before its end."""

    error_code = "invalid_filter"


class InvalidTopic(ParseError):
    """The name of a topic that has a wildcard in it."""

    error_code = "invalid_topic"


def check_filter(filter: str) -> str:
    """`filter`, if topics may be subscribed with it: 1 to 255 printable characters, `+` and `#` each a level
    of their own, `#` the last one.

    Raises:
        ParseError: it is not.
    """
    try:
        levels = check_room(filter).split(SEPARATOR)
    except InvalidRoom:
        raise _unreadable(f"it has 1 to {MAX_ROOM} printable characters") from None
    for number, level in enumerate(levels, 1):
        if level == REST and number < len(levels):
            raise _unreadable(f"{REST} is its last level, and {levels[number][:32]!r} follows")
        if len(level) > 1 and is_wild(level):
            raise _unreadable(f"a wildcard is a level of its own, and {level[:32]!r} is more")
    return filter


def check_topic(topic: str) -> str:
    """`topic`, if something can be published there: 1 to 255 printable characters without `+` and `#`.

    Raises:
        ParseError: it is not.
    """
    check_room(topic)
    if ONE in topic or REST in topic:
        raise InvalidTopic(close=False, context={"topic": repr(topic)[:64]})
    return topic


def is_wild(filter: str) -> bool:
    """Whether it may match other names than its own."""
    return ONE in filter or REST in filter


def _unreadable(problem: str) -> InvalidFilter:
    return InvalidFilter(close=False, context={"problem": problem})


def matches(filter: str, topic: str) -> bool:
    """Whether what is published to `topic` is for who has subscribed with `filter`. Both are valid."""
    wanted, levels = filter.split(SEPARATOR), topic.split(SEPARATOR)
    if topic.startswith(OWN) and wanted[0] in (ONE, REST):
        return False
    for number, level in enumerate(wanted):
        if level == REST:
            return True
        if number == len(levels) or level not in (ONE, levels[number]):
            return False
    return len(wanted) == len(levels)
