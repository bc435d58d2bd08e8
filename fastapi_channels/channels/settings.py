"""What a channel says of its rooms and clients: the attributes of its class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, get_args

from fastapi.params import Depends

from fastapi_channels.auth import Authenticator
from fastapi_channels.connection import ForEach
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.permission import Permission
from fastapi_channels.sessions.life import LIMITS, is_limit
from fastapi_channels.stores.store import WhenOver
from fastapi_channels.wire.messages import Envelope
from fastapi_channels.wire.outbox import DEFAULT_LIMIT, SlowPolicy
from fastapi_channels.wire.rooms import check_room
from fastapi_channels.wire.words import Call, Event

NEEDED: Final = {
    "cache": "history",
    "history_ttl": "history",
    "history_size": "history",
    "recovery_limit": "history",
    "presence_interval": "presence",
    "presence_grace": "presence",
    "per_user_policy": "max_per_user",
}
"""What does nothing without another setting."""


def check_limits(owner: Any, *counts: str) -> None:
    """Look at what a channel and a socket have alike.

    Args:
        counts: limits that `owner` alone has.

    Raises:
        ConfigurationError: a limit of `owner` is none, or its authenticator.
    """
    _check_counts(owner, "max_rooms", "max_message_size", "outbox_limit", *counts)
    for name in LIMITS:
        if not is_limit(getattr(owner, name)):
            raise _wrong(owner, name, "more than 0 seconds, or None")
    _check_positive(owner, "send_timeout")
    _check_seconds(owner, "finish_timeout")
    _check_choice(owner, "slow_policy", get_args(SlowPolicy))
    found = owner.authenticator
    if found is not None and not isinstance(found, Authenticator):
        raise ConfigurationError(
            f"{type(owner).__name__}.authenticator must be an Authenticator, got {type(found).__name__}: "
            "Authenticator(JWT(…)), or Authenticator(function)"
        )


class Settings:
    """The settings of a channel.

    Attributes:
        channel: the room of `connect()` without one.
        max_connection: how many connections a room takes, over all processes; None for any number.
        max_per_user: how many connections a user may have in a room, over all processes; None for any number.
            Those without a user are not counted.
        per_user_policy: what happens beyond that: `refuse`, or `close_oldest`, which closes the oldest with
            4509; while its handshake is not answered it may be refused with 429.
        permission_classes: who may connect, and is asked again for each action.
        authenticator: says whose a WebSocket is, before anything else is asked; None where the endpoint, or a
            middleware, does.
        throttle_classes: rates over all messages of a client in a room.
        connect_throttle_classes: rates over the handshakes of a client: of its user, else its address; above
            them it is refused with 429.
        dependencies: resolved for each action beside its own, as `dependencies=` of a FastAPI router.
        room_pattern: the pattern of the rooms' names, such as `"room:{room_id:int}"`; None for any name.
        topics: whether its rooms are filters of topics, with `+` and `#`: what is broadcast to a topic
            reaches everybody in a room that it fits. `room_pattern` is that of the topics then.
        max_rooms: how many rooms a connection may be in; with `topics`, its filters.
        max_rooms_per_user: how many rooms of this class a user may be in at a time, by whatever connections,
            over all processes; None for any number. Those without a user are not counted.
        scope: channels with the same scope share the rooms of one name, with all who are in them and all
            that is sent there. Empty for the rooms of the whole application, as upstream has them. None
            is empty too, but the name of the class where it has a `room_pattern` or overrides `authorize`:
            who may enter such a room must not be decided by another channel.
        event_types: the types of all events that may be sent; None for any event.
        call_types: the types of all calls that clients are asked with; None for any call.
        for_each: the functions that a broadcast may have as its `for_each`; each process finds them by name.
        envelope: the names of the frames' fields, and their codec.
        max_message_size: bytes of a client's message; a larger one closes with 1009.
        outbox_limit: bytes that may wait for a client that does not read.
        slow_policy: what happens beyond that: `disconnect`, `drop_oldest` or `drop_newest`.
        send_timeout: seconds that the server may need for one frame before the client is cut off.
        finish_timeout: seconds that running actions get when their client has gone.
        leave_timeout: seconds for all leave handlers of one connection.
        idle_timeout: seconds after which a client that sends nothing, and waits for no action, is closed with
            4008; None for never.
        max_lifetime: seconds after which a connection is closed with 4010, up to a tenth less by chance; None
            for never. Both say that the client may come back.
        heartbeat: seconds between pings, where the server sends none as often; a client that is silent from
            one to the next is closed with 1011. None for none.
        resync: whether clients are sent `{"type": "resync", "channel": …}` where messages of a room may be
            missing: the broker was away, or dropped some. A channel that relays sends none.
        history: how many publications of a room are kept, for clients that come back; 0 for none.
        history_ttl: seconds that they are kept at most.
        history_size: bytes of a room's publications that are kept at most.
        recovery_limit: how many publications a client that comes back is sent at most; one that has missed
            more is told to reload.
        cache: whether a client that comes without a position is sent the latest publication.
        presence: whether members are told who else is in the room, over all processes.
        presence_interval: seconds between two frames that say what has changed there; the first change is
            told at once.
        presence_grace: seconds that a user who has lost the connection is still shown, so that a page that is
            loaded anew is no leave and no join; 0 for none.
        ack: whether an action that returns None is replied to when the client sent a request id.
    """

    channel: str = "default_channel"
    max_connection: int | None = None
    max_per_user: int | None = None
    per_user_policy: WhenOver = "refuse"
    permission_classes: Permission = None
    authenticator: Authenticator | None = None
    throttle_classes: Any = None
    connect_throttle_classes: Any = None
    dependencies: Sequence[Depends] = ()
    event_types: Sequence[type[Event]] | None = None
    call_types: Sequence[type[Call[Any]]] | None = None
    room_pattern: str | None = None
    topics: bool = False
    max_rooms: int = 100
    max_rooms_per_user: int | None = None
    scope: str | None = None
    for_each: Sequence[ForEach] = ()
    envelope: Envelope = Envelope()
    max_message_size: int = 64 * 1024
    outbox_limit: int = DEFAULT_LIMIT
    slow_policy: SlowPolicy = "disconnect"
    send_timeout: float = 20.0
    finish_timeout: float = 1.0
    leave_timeout: float = 10.0
    idle_timeout: float | None = None
    max_lifetime: float | None = None
    heartbeat: float | None = None
    resync: bool = True
    history: int = 0
    history_ttl: float = 300.0
    history_size: int = 1024 * 1024
    recovery_limit: int = 500
    cache: bool = False
    presence: bool = False
    presence_interval: float = 1.0
    presence_grace: float = 5.0
    ack: bool = False

    def _check_settings(self) -> None:
        check_room(self.channel)
        check_limits(self)
        _check_counts(self, "history_size", "recovery_limit")
        _check_counts(self, "history", least=0)
        _check_counts(self, "max_connection", "max_per_user", "max_rooms_per_user", or_none=True)
        _check_positive(self, "history_ttl")
        _check_seconds(self, "leave_timeout", "presence_interval", "presence_grace")
        _check_choice(self, "per_user_policy", get_args(WhenOver))
        for name in ("resync", "cache", "presence", "ack", "topics"):
            if not isinstance(getattr(self, name), bool):
                raise _wrong(self, name, "True or False")
        if self.scope is not None and not isinstance(self.scope, str):
            raise _wrong(self, "scope", "a text, or None")
        self._check_needed()
        if self.topics:
            self._check_topics()

    def _check_topics(self) -> None:
        """Refuse what is about the members of one room: a topic has those of many."""
        for name in ("history", "presence", "max_connection", "max_per_user"):
            if getattr(self, name):
                raise ConfigurationError(
                    f"{type(self).__name__} has topics, and {name} is about one room: give it a channel of "
                    "its own, without topics"
                )

    def _check_needed(self) -> None:
        """Refuse what would do nothing. A class may say it for those that inherit from it, and have it."""
        own = {**vars(type(self)), **vars(self)}
        for name, needed in NEEDED.items():
            if name in own and own[name] != getattr(Settings, name) and not getattr(self, needed):
                raise ConfigurationError(
                    f"{type(self).__name__}.{name} = {own[name]!r} does nothing without {needed}: "
                    "set that too"
                )


def _check_counts(owner: Any, *names: str, least: int = 1, or_none: bool = False) -> None:
    for name in names:
        value = getattr(owner, name)
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if not (is_number and value >= least) and not (or_none and value is None):
            raise _wrong(owner, name, f"{least} or more")


def _check_positive(owner: Any, name: str) -> None:
    value = getattr(owner, name)
    if value is None or not is_limit(value):
        raise _wrong(owner, name, "more than 0 seconds")


def _check_seconds(owner: Any, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        if value != 0 and (value is None or not is_limit(value)):
            raise _wrong(owner, name, "0 seconds or more")


def _check_choice(owner: Any, name: str, choices: Sequence[str]) -> None:
    if getattr(owner, name) not in choices:
        raise _wrong(owner, name, " or ".join(map(repr, choices)))


def _wrong(owner: Any, name: str, expected: str) -> ConfigurationError:
    kind, value = type(owner).__name__, getattr(owner, name)
    if callable(value):
        return ConfigurationError(
            f"{name!r} is a setting of every channel: give the method {kind}.{name} "
            f'another name; as an action it keeps this one with @action("{name}")'
        )
    return ConfigurationError(f"{kind}.{name} must be {expected}, got {value!r}")
