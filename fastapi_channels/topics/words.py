"""The words of a channel with topics: its rooms are filters, and what is said is said to a topic."""

from __future__ import annotations

from typing import Any

from fastapi_channels.exceptions import ConfigurationError, NotFound, ParseError
from fastapi_channels.wire.rooms import SPACE_END, check_room
from fastapi_channels.wire.vocabulary import Vocabulary

from .names import check_filter, check_topic
from .pattern import TopicPattern


class TopicWords(Vocabulary):
    """As those of every channel. Only its home, the room of all who are connected, is a room as any other.

    Args:
        home: its name.
        of: those of Vocabulary.
    """

    __slots__ = ("_home", "_space", "topics")

    def __init__(self, *args: Any, home: str, pattern: str | None, **of: Any) -> None:
        self.topics = None if pattern is None else TopicPattern(pattern)
        super().__init__(*args, pattern=self.topics, **of)
        self._home = home
        self._space = self.scope + SPACE_END

    def guards(self, room: str) -> bool:
        return room != self._home

    def params(self, room: str) -> dict[str, Any]:
        if room == self._home:
            return {}
        check_filter(room)
        found = {} if self.topics is None else self.topics.fixed(room)
        if found is None:
            raise NotFound(close=False)
        return found

    def has(self, room: str) -> bool:
        try:
            self.params(room)
        except NotFound:
            return False
        except ParseError:
            # Where every name is a filter of this channel, it says what is wrong with this one.
            return self.topics is None
        return True

    def key(self, room: str) -> str:
        if room == self._home:
            return self._prefix + check_room(room)
        check_filter(room)
        if self.topics is not None and self.topics.fixed(room) is None:
            raise self._misfit(room)
        return self._space + room

    def target(self, room: str) -> str:
        if room == self._home:
            return self.key(room)
        check_topic(room)
        if self.pattern is not None and self.pattern.match(room) is None:
            # A client may have named it, which is no fault of the program's.
            raise NotFound(close=False, error_msg=f"no topic of {self._name} fits {room[:64]!r}")
        return self._space + room

    def _misfit(self, room: str) -> ConfigurationError:
        assert self.pattern is not None
        return ConfigurationError(
            f"no topic of {self._name} fits {room!r}: its room_pattern is {self.pattern.pattern!r}"
        )
