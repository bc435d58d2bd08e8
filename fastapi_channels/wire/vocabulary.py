"""The words of one channel: the names of its rooms, its events and calls, checked before they are sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from fastapi_channels.exceptions import ConfigurationError, ParseError

from .messages import Body, Envelope
from .rooms import EVERYWHERE, SCOPE_END, RoomPattern, check_room, name_of
from .words import Call, Event, calls_by_name, events_by_name


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
        call_types: those of all calls; None for any call.
        pattern: of its rooms' names; None for any name.
        scope: what comes before the names of its rooms; None where nobody has said.
        guarded: whether it says who may enter a room.

    Attributes:
        events, calls: the types of its events and calls by name; None for any.
        own_scope: the scope, if it is the bare name of the channel's class; else empty.
    """

    __slots__ = ("_name", "_prefix", "_speaker", "calls", "events", "own_scope", "pattern")

    def __init__(
        self,
        speaker: Speaker,
        name: str,
        *,
        event_types: Iterable[type[Event]] | None = None,
        call_types: Iterable[type[Call[Any]]] | None = None,
        pattern: str | None = None,
        scope: str | None = "",
        guarded: bool = False,
    ) -> None:
        self._speaker = speaker
        self._name = name
        self.events = None if event_types is None else events_by_name(event_types)
        self.calls = None if call_types is None else calls_by_name(call_types)
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

    def room_of(self, key: str) -> str | None:
        """The name of the room that the node knows as `key`; None if it is none of the channel's."""
        room = name_of(key)
        try:
            return room if self.key(room) == key else None
        except (ConfigurationError, ParseError):
            return None

    def event(self, event: Event | str, data: Any, room: str = EVERYWHERE) -> Body:
        """The body of an event's frame, the event checked against the types that the channel declares.

        Raises:
            ConfigurationError: the channel declares its events, and this is none of them.
            pydantic.ValidationError: the data does not fit the event of that name.
        """
        name, content = (event.event_name, event) if isinstance(event, Event) else (event, data)
        envelope = self._speaker.envelope
        content = self._checked(name, content, self.events, "events")
        return envelope.encode(envelope.to_event(name, room, content))

    def call(self, call: Call[Any] | str, data: Any) -> tuple[str, Any, type[Call[Any]] | None]:
        """The name of a call, its data, and its type where it has one; checked as an event is.

        Raises:
            ConfigurationError: the channel declares its calls, and this is none of them.
            pydantic.ValidationError: the data does not fit the call of that name.
        """
        name, content = (call.call_name, call) if isinstance(call, Call) else (call, data)
        content = self._checked(name, content, self.calls, "calls")
        return name, content, type(content) if isinstance(content, Call) else None

    def _checked(self, name: str, content: Any, declared: Mapping[str, Any] | None, kind: str) -> Any:
        if declared is None:
            return content
        wanted = declared.get(name)
        if wanted is None or (isinstance(content, Event | Call) and not isinstance(content, wanted)):
            known = ", ".join(declared) or "none"
            raise ConfigurationError(f"{self._name} declares the {kind} {known}, not {name!r}")
        if isinstance(content, wanted):
            return content
        return wanted.model_validate({} if content is None else content)
