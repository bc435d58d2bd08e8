"""What a channel has made of its settings: what the sessions in its rooms go by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from fastapi_channels.actions.spec import ActionSpec
from fastapi_channels.cluster.presence import Showing
from fastapi_channels.cluster.recovery import Keeping
from fastapi_channels.cluster.settings import Settings
from fastapi_channels.connection import Connection
from fastapi_channels.permission import ALLOW, BasePermission
from fastapi_channels.stores import Limits, Retention
from fastapi_channels.stores.store import WhenOver
from fastapi_channels.topics.reception import Reception
from fastapi_channels.wire.messages import Body, Envelope, decode_json
from fastapi_channels.wire.outbox import SlowPolicy
from fastapi_channels.wire.vocabulary import Vocabulary

from .guard import Entry, Rules
from .handlers import JoinLeave
from .identity import Gate
from .life import Limits as LifeLimits

CATCH_ALL: Final = "*"
"""Ends the name of an action that receives what begins like it and has no action of its own."""


class Terms(LifeLimits, Protocol):
    """What a channel, or a socket for many of them, says of a WebSocket. It may change while it is open."""

    envelope: Envelope
    max_message_size: int
    outbox_limit: int
    slow_policy: SlowPolicy
    send_timeout: float
    finish_timeout: float
    connect_throttle_classes: Any

    @property
    def authenticator(self) -> Gate | None: ...


class History(Protocol):
    """What a channel says of the history of its rooms."""

    envelope: Envelope
    history: int
    history_ttl: float
    history_size: int
    recovery_limit: int
    cache: bool


class Presence(Protocol):
    """What a channel says of who sees whom in its rooms."""

    envelope: Envelope
    presence: bool
    presence_interval: float
    presence_grace: float


class ChannelTerms(Terms, History, Presence, Protocol):
    """What a channel says of a client in one of its rooms."""

    max_connection: int | None
    max_per_user: int | None
    per_user_policy: WhenOver
    max_rooms: int
    max_rooms_per_user: int | None
    leave_timeout: float
    ack: bool
    resync: bool
    topics: bool


class Plan:
    """One channel as its sessions see it. The channel's own methods may be shadowed by a user's; these not.

    Args:
        channel: the user's object: handlers get it, and its limits hold.
        words: the names of its rooms, its events and its calls.
        permission, throttles: its rules, beside those of the application.
        join_leave: its handlers.
        authorize, may_receive, decode: its hooks, where a subclass has them.
        seat_of: whose place a connection takes in a room of limited size.
        present: what the others are told of a connection; it may have to be awaited.

    Attributes:
        actions: by name; None for a channel that relays.
        exception_handlers: by the class of the exception.
        name: of the class of the channel, in figures.
        history: what is kept of what is published in its rooms; None for nothing.
        limits: how many a room takes; None for any number.
        reception: who may receive what of a topic; None where all do.
        rooms_per_user: how many rooms a user may be in; None for any number.
        showing: how the members of its rooms see each other; None where they do not.
        key, event, pattern: those of its words.
    """

    __slots__ = (
        "_decode",
        "_entry",
        "_permission",
        "_ruled",
        "_throttles",
        "actions",
        "channel",
        "event",
        "exception_handlers",
        "history",
        "join_leave",
        "key",
        "limits",
        "name",
        "pattern",
        "present",
        "reception",
        "rooms_per_user",
        "seat_of",
        "showing",
        "words",
    )

    def __init__(
        self,
        channel: ChannelTerms,
        words: Vocabulary,
        *,
        permission: BasePermission,
        throttles: Sequence[Any],
        join_leave: JoinLeave,
        authorize: Callable[..., Any] | None,
        may_receive: Callable[..., Any] | None,
        decode: Callable[[Body], Any] | None,
        seat_of: Callable[[Connection], str],
        present: Callable[[Connection], Any],
    ) -> None:
        self.channel = channel
        self.name = type(channel).__name__
        self.join_leave = join_leave
        self.words = words
        self.key, self.event = words.key, words.event
        self.pattern = words.pattern
        self.seat_of = seat_of
        self.present = present
        self.actions: dict[str, ActionSpec] | None = None
        self.history = keeping_of(channel)
        self.showing = showing_of(channel)
        self.limits = limits_of(channel)
        self.rooms_per_user = channel.max_rooms_per_user
        self.exception_handlers: dict[type[Exception], Callable[..., Any]] = {}
        self._permission = permission
        self._entry = ALLOW if authorize is None else Entry(authorize, words.guards)
        self.reception = None if may_receive is None else Reception(may_receive, words.pattern)
        self._throttles = throttles
        self._decode = decode
        self._ruled: tuple[Settings, Rules] | None = None

    @property
    def envelope(self) -> Envelope:
        return self.channel.envelope

    @property
    def has_decoder(self) -> bool:
        """Whether the channel reads its clients' frames in a way of its own."""
        return self._decode is not None

    @property
    def decoder(self) -> Callable[[Body], Any]:
        """Reads what is in a client's frame. It may have to be awaited, and raises ValueError, or
        RecursionError, for what cannot be read."""
        if self._decode is not None:
            return self._decode
        envelope = self.channel.envelope
        # Without the call that only makes another one.
        return decode_json if type(envelope).decode is Envelope.decode else envelope.decode

    def match(self, room: str) -> dict[str, Any]:
        """The parameters in a room's name.

        Raises:
            NotFound: it does not fit the channel's pattern.
            ParseError: it is to be a filter, and is none.
        """
        return self.words.params(room)

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
            throttles = (*settings.throttles, *self._throttles)
            self._ruled = settings, Rules(permissions, throttles, self._entry)
        return self._ruled[1]


def limits_of(channel: ChannelTerms) -> Limits | None:
    """How many a room of a channel takes; None for any number."""
    if channel.max_connection is None and channel.max_per_user is None:
        return None
    return Limits(channel.max_connection, channel.max_per_user, channel.per_user_policy)


def showing_of(channel: Presence) -> Showing | None:
    """How the members of a channel's rooms see each other; None where they do not."""
    if not channel.presence:
        return None
    # The envelope may be another one by then.
    return Showing(channel.presence_interval, channel.presence_grace, lambda: channel.envelope)


def keeping_of(channel: History) -> Keeping | None:
    """What is kept of what is published in the rooms of a channel, or of its class; None for nothing."""
    if not channel.history:
        return None
    return Keeping(
        Retention(channel.history, channel.history_size, channel.history_ttl),
        limit=min(channel.recovery_limit, channel.history),
        cache=channel.cache,
        # The envelope may be another one by then.
        place=lambda body, position: channel.envelope.place(body, position),
    )
