"""The names of rooms, and patterns of names: `"room:{room_id:int}"`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from starlette.convertors import (
    Convertor,
    FloatConvertor,
    IntegerConvertor,
    PathConvertor,
    StringConvertor,
    UUIDConvertor,
)
from starlette.routing import compile_path

from fastapi_channels.exceptions import ConfigurationError, ParseError

TAKEN: Final = frozenset({"self", "websocket", "channel", "data", "action", "request_id", "connection"})
"""What a handler, or `authorize`, receives by these names is something else."""
TYPES: Final[Mapping[type, type]] = {
    StringConvertor: str,
    PathConvertor: str,
    IntegerConvertor: int,
    FloatConvertor: float,
    UUIDConvertor: UUID,
}
"""What Starlette's convertors give."""
_ANY_NAME: Final = re.compile(r"\(\?P<\w+>")
"""Of a group in a regular expression."""
EVERYWHERE: Final = "*"
"""Stands in the place of a room in what is sent to one client wherever it is."""
RESERVED: Final = "fastapi-channels:"
"""Begins the topics that are not rooms."""
EVERY_NODE: Final = RESERVED + "nodes"
"""The topic that every process hears."""
MAX_ROOM: Final = 255
"""Characters of a room's name."""
SCOPE_END: Final = "\x1f"
"""Ends the scope before a room's name. No name holds it, so none can be taken for another's scope."""
SPACE_END: Final = "\x1e" + SCOPE_END
"""Ends it before the filter of topics that stands in the place of a room's name."""


def node_topic(node: str) -> str:
    """The topic that one process hears, whose id begins those of its connections."""
    return f"{RESERVED}node:{node}"


def name_of(key: str) -> str:
    """The name of the room that processes know as `key`: its scope and its name."""
    return key.rpartition(SCOPE_END)[2]


def key_of(scope: str, name: str, *, topics: bool) -> str:
    """The room with this scope and name, as processes know it; with `topics`, that filter.

    Raises:
        ParseError: the name is not usable.
    """
    end = SPACE_END if topics else scope and SCOPE_END
    return scope + end + check_room(name)


def source_of(key: str) -> str:
    """Where what is published for `key` comes from: a room's own topic of the broker; all topics of a space
    have one together."""
    return key if SPACE_END not in key else key[: key.index(SPACE_END) + len(SPACE_END)]


def check_room(room: str) -> str:
    """`room`, if it is usable as a name: 1 to 255 printable characters, and not one of our topics.

    Raises:
        ParseError: it is not.
    """
    usable = isinstance(room, str) and 0 < len(room) <= MAX_ROOM and room.isprintable()
    if not usable or room == EVERYWHERE or room.startswith(RESERVED):
        raise InvalidRoom(close=False, context={"limit": MAX_ROOM})
    return room


def check_namespace(namespace: str) -> str:
    """`namespace`, if it can begin the names of topics.

    Raises:
        ConfigurationError: it is no text.
    """
    if not isinstance(namespace, str):
        raise ConfigurationError(f"namespace must be a text, got {namespace!r}")
    return namespace


def rooms_of(room: str | Iterable[str]) -> tuple[str, ...]:
    """The names of the rooms that are meant by one name, or by several: each once, in their order.

    Raises:
        ConfigurationError: it is neither.
    """
    if isinstance(room, str):
        return (room,)
    if not isinstance(room, Iterable):
        raise ConfigurationError(f"a room is its name, a text, or several names, not {room!r}")
    named = tuple(room)
    try:
        return tuple(dict.fromkeys(named))
    except TypeError:
        return named  # one is no text, which is told where names are checked


class InvalidRoom(ParseError):
    """A room name that is empty, too long, not printable or reserved."""

    error_code = "invalid_room"


class RoomPattern:
    """A room's name with parameters, written as a Starlette path: `{name}` or `{name:int}`, with the
    convertors `str`, `int`, `float`, `uuid` and `path`.

    A room has one name: `room:007` and `at:1.50` do not fit where `room:7` and `at:1.5` do.

    Raises:
        ConfigurationError: the pattern cannot be read.
    """

    __slots__ = ("_convertors", "_format", "_regex", "pattern")

    def __init__(self, pattern: str) -> None:
        if not isinstance(pattern, str):
            raise ConfigurationError(f"room_pattern must be a text, got {pattern!r}")
        if not pattern:
            raise ConfigurationError("room_pattern is empty, and no room has that name: None is for any name")
        self.pattern = pattern
        # Without the slash it would be read as a host: its port cut off, its case ignored.
        self._regex, self._format, self._convertors = _compile("/" + pattern, pattern)
        for name in self._convertors:
            if name in TAKEN:
                raise _unreadable(pattern, f"the name {name!r} stands for something else")

    def is_like(self, other: RoomPattern) -> bool:
        """Whether the same names of rooms fit, whatever the parameters are called."""
        return _ANY_NAME.sub("(", self._regex.pattern) == _ANY_NAME.sub("(", other._regex.pattern)

    @property
    def names(self) -> list[str]:
        """The names of the parameters."""
        return list(self._convertors)

    @property
    def types(self) -> dict[str, type | None]:
        """By the names of the parameters, of which type each is; None where a convertor of the application's
        own does not say so."""
        return {name: TYPES.get(type(convertor)) for name, convertor in self._convertors.items()}

    def expression(self, name: str) -> str:
        """The regular expression of one parameter."""
        return self._convertors[name].regex

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
        if any(not isinstance(v, str) and _spelled(v) != texts[name] for name, v in values.items()):
            return None
        return values

    def name(self, params: Mapping[str, Any]) -> str:
        """The room's name with these parameters.

        Raises:
            ConfigurationError: one is missing, or too many, or would not be read back as it is.
        """
        problem: object = f"it takes {', '.join(self.names) or 'nothing'}"
        if params.keys() == self._convertors.keys():
            try:
                texts = {name: _text(self._convertors[name], value) for name, value in params.items()}
                room = check_room(self._format.format(**texts)[1:])
                found = self.match(room)
                others = [n for n, value in (found or {}).items() if not _is_read_as(params[n], value)]
                if found is None:
                    problem = f"{room!r} does not fit it"
                elif not others:
                    return room
                else:
                    first = others[0]
                    problem = f"{first}={params[first]!r} would be read as {found[first]!r}: give it as that"
            except (AssertionError, TypeError, ValueError, ParseError) as exc:
                problem = exc
        raise ConfigurationError(f"{dict(params)} makes no room of {self.pattern!r}: {problem}")


def _spelled(value: int | float | UUID) -> str:
    """The one way to write a parameter: the shortest that is read back as it, without an exponent."""
    if not isinstance(value, float):
        return str(value)
    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _text(convertor: Convertor[Any], value: Any) -> str:
    """
    Raises:
        AssertionError, TypeError, ValueError: the convertor does not take the value.
    """
    text = convertor.to_string(value)
    # Starlette writes all digits that the binary number has.
    return _spelled(float(value)) if isinstance(convertor, FloatConvertor) else text


def _is_read_as(given: Any, read: Any) -> bool:
    """Whether a parameter is what it is read back as. True is 1, and is not meant."""
    kinds = (int, float) if isinstance(read, float) else type(read)
    return isinstance(given, kinds) and given == read and isinstance(given, bool) is isinstance(read, bool)


def names_in(path: str) -> list[str]:
    """The names of the parameters of a route's path.

    Raises:
        ConfigurationError: the path cannot be read.
    """
    return list(_compile(path, path)[2])


def _compile(path: str, shown: str) -> tuple[re.Pattern[str], str, dict[str, Convertor[Any]]]:
    try:
        regex, form, convertors = compile_path(path)
    except (AssertionError, ValueError) as exc:
        raise _unreadable(shown, str(exc)) from exc
    rest = form
    for name in convertors:
        rest = rest.replace("{" + name + "}", "", 1)
    if "{" in rest or "}" in rest:
        raise _unreadable(shown, "a brace that belongs to no parameter")
    return regex, form, convertors


def _unreadable(pattern: str, problem: str) -> ConfigurationError:
    return ConfigurationError(f"the pattern {pattern!r} cannot be read: {problem}")
