"""What a channel has made of its settings: what the sessions in its rooms go by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from fastapi_channels.actions.spec import ActionSpec
from fastapi_channels.cluster.settings import Settings
from fastapi_channels.connection import Connection
from fastapi_channels.exceptions import ConfigurationError, NotFound
from fastapi_channels.permission import BasePermission
from fastapi_channels.wire.messages import Body, Envelope, Event, events_by_name
from fastapi_channels.wire.outbox import SlowPolicy
from fastapi_channels.wire.rooms import EVERYWHERE, SCOPE_END, RoomPattern, check_room

from .guard import Rules
from .handlers import JoinLeave

CATCH_ALL: Final = "*"
"""Ends the name of an action that receives what begins like it and has no action of its own."""


class Terms(Protocol):
    """What a channel, or a socket for many of them, says of a WebSocket. It may change while it is open."""

    envelope: Envelope
    max_message_size: int
    outbox_limit: int
    slow_policy: SlowPolicy
    send_timeout: float
    finish_timeout: float


class ChannelTerms(Terms, Protocol):
    """What a channel says of a client in one of its rooms."""

    max_connection: int | None
    max_rooms: int
    leave_timeout: float
    ack: bool
    resync: bool


class Plan:
    """One channel as its sessions see it. The channel's own methods may be shadowed by a user's; these not.

    Args:
        channel: the user's object: handlers get it, and its limits hold.
        permission, throttles: its rules, beside those of the application.
        join_leave: its handlers.
        event_types: the types of all events that it sends; None for any event.
        pattern: of its rooms' names.
        scope: which rooms it shares; None where nobody has said.
        authorize, decode: its hooks, where a subclass has them.
        seat_of: whose place a connection takes in a room of limited size.

    Attributes:
        actions: by name; None for a channel that relays.
        exception_handlers: by the class of the exception.
        own_scope: the scope, if it is the bare name of the channel's class; else empty.
    """

    __slots__ = (
        "_declared",
        "_decode",
        "_permission",
        "_prefix",
        "_ruled",
        "_throttles",
        "actions",
        "authorize",
        "channel",
        "exception_handlers",
        "join_leave",
        "own_scope",
        "pattern",
        "seat_of",
    )

    def __init__(
        self,
        channel: ChannelTerms,
        *,
        permission: BasePermission,
        throttles: Sequence[Any],
        join_leave: JoinLeave,
        event_types: Iterable[type[Event]] | None,
        pattern: RoomPattern | None,
        scope: str | None,
        authorize: Callable[..., Any] | None,
        decode: Callable[[Body], Any] | None,
        seat_of: Callable[[Connection], str],
    ) -> None:
        self.channel = channel
        self.join_leave = join_leave
        self.pattern = pattern
        self.authorize = authorize
        self.seat_of = seat_of
        self.actions: dict[str, ActionSpec] | None = None
        self.exception_handlers: dict[type[Exception], Callable[..., Any]] = {}
        self._permission = permission
        self._throttles = throttles
        self._declared = None if event_types is None else events_by_name(event_types)
        self._decode = decode
        self._ruled: tuple[Settings, Rules] | None = None
        self.own_scope = ""
        if scope is None:
            # Who may enter a guarded room must not be decided by another channel.
            guarded = pattern is not None or authorize is not None
            scope = type(channel).__name__ if guarded else ""
            # Not its module: `python app.py` and `uvicorn app:app` are to meet, and classes to move.
            self.own_scope = scope
        self._prefix = scope and scope + SCOPE_END

    @property
    def envelope(self) -> Envelope:
        return self.channel.envelope

    @property
    def has_decoder(self) -> bool:
        """Whether the channel reads its clients' frames in a way of its own."""
        return self._decode is not None

    def decode(self, body: Body) -> Any:
        """What is in a client's frame; it may have to be awaited.

        Raises:
            ValueError, RecursionError: it cannot be read.
        """
        return self.channel.envelope.decode(body) if self._decode is None else self._decode(body)

    def key(self, room: str) -> str:
        """A room's name as the node knows it.

        Raises:
            ParseError: the name is not usable.
            ConfigurationError: it does not fit the channel's pattern: nobody can be there.
        """
        check_room(room)
        if self.pattern is not None and self.pattern.match(room) is None:
            raise ConfigurationError(
                f"no room of {type(self.channel).__name__} is named {room!r}: "
                f"it does not fit room_pattern = {self.pattern.pattern!r}"
            )
        return self._prefix + room

    def match(self, room: str) -> dict[str, Any]:
        """The parameters in a room's name.

        Raises:
            NotFound: it does not fit the channel's pattern.
        """
        params = {} if self.pattern is None else self.pattern.match(room)
        if params is None:
            raise NotFound(close=False)
        return params

    def find(self, action: str) -> ActionSpec | None:
        """The action of that name; else the one that catches it, and says most of the name."""
        actions = self.actions or {}
        found = actions.get(action)
        if found is not None:
            return found
        catching = [name for name in actions if name[-1] == CATCH_ALL and action.startswith(name[:-1])]
        return actions[max(catching, key=len)] if catching else None

    def rules(self, settings: Settings) -> Rules:
        """What holds for every call in an application with these settings."""
        if self._ruled is None or self._ruled[0] is not settings:
            permissions = (settings.permission, self._permission)
            self._ruled = settings, Rules(permissions, (*settings.throttles, *self._throttles))
        return self._ruled[1]

    def event(self, event: Event | str, data: Any, room: str = EVERYWHERE) -> Body:
        """The body of an event's frame, the event checked against the types that the channel declares.

        Raises:
            ConfigurationError: the channel declares its events, and this is none of them.
            pydantic.ValidationError: the data does not fit the event of that name.
        """
        name, content = self._named(event, data)
        return self.envelope.encode(self.envelope.to_event(name, room, content))

    def _named(self, event: Event | str, data: Any) -> tuple[str, Any]:
        if isinstance(event, Event):
            name, data = event.event_name, event
        else:
            name = event
        if self._declared is None:
            return name, data
        declared = self._declared.get(name)
        if declared is None or (isinstance(data, Event) and not isinstance(data, declared)):
            known = ", ".join(self._declared)
            raise ConfigurationError(
                f"{type(self.channel).__name__} declares the events {known}, not {name!r}"
            )
        if not isinstance(data, declared):
            data = declared.model_validate({} if data is None else data)
        return name, data
