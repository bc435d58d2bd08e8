"""The words of one channel: the names of its rooms, and its events, checked before they are sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from fastapi_channels.exceptions import ConfigurationError

from .messages import Body, Envelope, Event, events_by_name
from .rooms import EVERYWHERE, SCOPE_END, RoomPattern, check_room


class Speaker(Protocol):
    """Whose words they are: a channel, or its class."""

    @property
    def envelope(self) -> Envelope: ...


class Vocabulary:
    """What a channel may say, and where.

    Args:
        speaker: has the envelope, which it may change.
        name: of the channel's class, for what is told of it.
        event_types: the types of all events that it sends; None for any event.
        pattern: of its rooms' names; None for any name.
        scope: what comes before the names of its rooms; None where nobody has said.
        guarded: whether it says who may enter a room.

    Attributes:
        declared: the types of its events by name; None for any event.
        own_scope: the scope, if it is the bare name of the channel's class; else empty.
    """

    __slots__ = ("_name", "_prefix", "_speaker", "declared", "own_scope", "pattern")

    def __init__(
        self,
        speaker: Speaker,
        name: str,
        *,
        event_types: Iterable[type[Event]] | None = None,
        pattern: str | None = None,
        scope: str | None = "",
        guarded: bool = False,
    ) -> None:
        self._speaker = speaker
        self._name = name
        self.declared = None if event_types is None else events_by_name(event_types)
        self.pattern = None if pattern is None else RoomPattern(pattern)
        self.own_scope = ""
        if scope is None:
            # Who may enter a guarded room must not be decided by another channel.
            scope = name if guarded or pattern is not None else ""
            # Not its module: `python app.py` and `uvicorn app:app` are to meet, and classes to move.
            self.own_scope = scope
        self._prefix = scope and scope + SCOPE_END

    def key(self, room: str) -> str:
        """A room's name as the node knows it.

        Raises:
            ParseError: the name is not usable.
            ConfigurationError: it does not fit the channel's pattern: nobody can be there.
        """
        check_room(room)
        if self.pattern is not None and self.pattern.match(room) is None:
            raise ConfigurationError(
                f"no room of {self._name} is named {room!r}: "
                f"it does not fit room_pattern = {self.pattern.pattern!r}"
            )
        return self._prefix + room

    def event(self, event: Event | str, data: Any, room: str = EVERYWHERE) -> Body:
        """The body of an event's frame, the event checked against the types that the channel declares.

        Raises:
            ConfigurationError: the channel declares its events, and this is none of them.
            pydantic.ValidationError: the data does not fit the event of that name.
        """
        name, content = self._named(event, data)
        envelope = self._speaker.envelope
        return envelope.encode(envelope.to_event(name, room, content))

    def _named(self, event: Event | str, data: Any) -> tuple[str, Any]:
        if isinstance(event, Event):
            name, data = event.event_name, event
        else:
            name = event
        if self.declared is None:
            return name, data
        declared = self.declared.get(name)
        if declared is None or (isinstance(data, Event) and not isinstance(data, declared)):
            known = ", ".join(self.declared)
            raise ConfigurationError(f"{self._name} declares the events {known}, not {name!r}")
        if not isinstance(data, declared):
            data = declared.model_validate({} if data is None else data)
        return name, data
