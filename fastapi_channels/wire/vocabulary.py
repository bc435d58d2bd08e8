"""The words of one channel: the names of its rooms, its events and calls, checked before they are sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from fastapi_channels.exceptions import ConfigurationError, NotFound, ParseError

from .messages import Body, Envelope
from .rooms import EVERYWHERE, SCOPE_END, RoomPattern, check_room, name_of
from .words import Call, Event, calls_by_name, events_by_name, functions_by_name


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
        for_each: the functions that may say what each recipient of a broadcast gets.
        pattern: of its rooms' names; None for any name.
        scope: what comes before the names of its rooms; None where nobody has said.
        guarded: whether it says who may enter a room.

    Attributes:
        events, calls: the types of its events and calls by name; None for any.
        for_each: those functions by name.
        scope: what comes before the names of its rooms; empty where they are the application's.
        is_own: whether nobody has said it, so that it is the bare name of the channel's class.
    """

    __slots__ = (
        "__weakref__",
        "_name",
        "_prefix",
        "_speaker",
        "calls",
        "events",
        "for_each",
        "is_own",
        "pattern",
        "scope",
    )

    def __init__(
        self,
        speaker: Speaker,
        name: str,
        *,
        event_types: Iterable[type[Event]] | None = None,
        call_types: Iterable[type[Call[Any]]] | None = None,
        for_each: Iterable[Callable[..., Any]] = (),
        pattern: RoomPattern | str | None = None,
        scope: str | None = "",
        guarded: bool = False,
    ) -> None:
        self._speaker = speaker
        self._name = name
        self.events = None if event_types is None else events_by_name(event_types)
        self.calls = None if call_types is None else calls_by_name(call_types)
        self.for_each = functions_by_name(for_each)
        self.pattern = RoomPattern(pattern) if not isinstance(pattern, RoomPattern | None) else pattern
        self.is_own = scope is None
        if scope is None:
            # Who may enter a guarded room must not be decided by another channel.
            # Without its module: `python app.py` and `uvicorn app:app` are to meet, and classes to move.
            scope = name if guarded or pattern is not None else ""
        self.scope = scope
        self._prefix = scope and scope + SCOPE_END

    def key(self, room: str) -> str:
        """A room's name as the node knows it.

        Raises:
            ParseError: the name is not usable.
            ConfigurationError: it does not fit the channel's pattern: nobody can be there.
        """
        check_room(room)
        if self.pattern is not None and not self.has(room):
            raise ConfigurationError(
                f"no room of {self._name} is named {room!r}: "
                f"it does not fit room_pattern = {self.pattern.pattern!r}"
            )
        return self._prefix + room

    target = key
    """The same for where something is to be said; raises as that."""

    def guards(self, room: str) -> bool:
        """Whether the channel's `authorize` is asked who may enter that room."""
        return True

    def params(self, room: str) -> dict[str, Any]:
        """The parameters in a room's name.

        Raises:
            NotFound: it does not fit the pattern.
        """
        found = {} if self.pattern is None else self.pattern.match(room)
        if found is None:
            raise NotFound(close=False)
        return found

    def has(self, room: str) -> bool:
        """Whether the channel may have a room of that name."""
        return self.pattern is None or self.pattern.match(room) is not None

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
            ConfigurationError: it is no event and no name; or the channel declares its events, and this is
                none of them.
            pydantic.ValidationError: the data does not fit the event of that name.
        """
        name, content = (event.event_name, event) if isinstance(event, Event) else (event, data)
        envelope = self._speaker.envelope
        content = self._checked(name, content, self.events, "events")
        return envelope.encode(envelope.to_event(name, room, content))

    def call(self, call: Call[Any] | str, data: Any) -> tuple[str, Any, type[Call[Any]] | None]:
        """The name of a call, its data, and its type where it has one; checked as an event is.

        Raises:
            ConfigurationError: it is no call and no name; or the channel declares its calls, and this is none
                of them.
            pydantic.ValidationError: the data does not fit the call of that name.
        """
        name, content = (call.call_name, call) if isinstance(call, Call) else (call, data)
        content = self._checked(name, content, self.calls, "calls")
        return name, content, type(content) if isinstance(content, Call) else None

    def function(self, given: Callable[..., Any] | None) -> str:
        """The name by which every process finds a function for a broadcast; empty for None.

        Raises:
            ConfigurationError: the channel does not declare it.
        """
        if given is None:
            return ""
        name = getattr(given, "__name__", repr(given))
        if self.for_each.get(name) is not given:
            raise ConfigurationError(
                f"{self._name} does not declare {name}: list it, for_each = [{name}], so that every process "
                "finds it"
            )
        return name

    def _checked(self, name: str, content: Any, declared: Mapping[str, Any] | None, kind: str) -> Any:
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"one of the {kind} is named by a text that is not empty, got {name!r}")
        if declared is None:
            return content
        wanted = declared.get(name)
        if wanted is None or (isinstance(content, Event | Call) and not isinstance(content, wanted)):
            known = ", ".join(declared) or "none"
            raise ConfigurationError(f"{self._name} declares the {kind} {known}, not {name!r}")
        if isinstance(content, wanted):
            return content
        return wanted.model_validate({} if content is None else content)
