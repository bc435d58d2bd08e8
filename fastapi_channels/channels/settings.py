"""What a channel says of its rooms and clients: the attributes of its class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi.params import Depends

from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.permission import Permission
from fastapi_channels.sessions.life import LIMITS, is_limit
from fastapi_channels.wire.messages import Envelope
from fastapi_channels.wire.outbox import DEFAULT_LIMIT, SlowPolicy
from fastapi_channels.wire.rooms import check_room
from fastapi_channels.wire.words import Call, Event


class Settings:
    """The settings of a channel.

    Attributes:
        channel: the room of `connect()` without one.
        max_connection: how many connections a room takes, over all processes; None for any number.
        permission_classes: who may connect, and is asked again for each action.
        throttle_classes: rates over all messages of a client in a room.
        dependencies: resolved for each action beside its own, as `dependencies=` of a FastAPI router.
        room_pattern: the pattern of the rooms' names, such as `"room:{room_id:int}"`; None for any name.
        max_rooms: how many rooms a connection may be in.
        scope: channels with the same scope share the rooms of one name, with all who are in them and all
            that is sent there. Empty for the rooms of the whole application, as upstream has them. None
            is empty too, but the name of the class where it has a `room_pattern` or overrides `authorize`:
            who may enter such a room must not be decided by another channel.
        event_types: the types of all events that may be sent; None for any event.
        call_types: the types of all calls that clients are asked with; None for any call.
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
        ack: whether an action that returns None is replied to when the client sent a request id.
    """

    channel: str = "default_channel"
    max_connection: int | None = None
    permission_classes: Permission = None
    throttle_classes: Any = None
    dependencies: Sequence[Depends] = ()
    event_types: Sequence[type[Event]] | None = None
    call_types: Sequence[type[Call[Any]]] | None = None
    room_pattern: str | None = None
    max_rooms: int = 100
    scope: str | None = None
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
    ack: bool = False

    def _check_settings(self) -> None:
        check_room(self.channel)
        counts = ("max_connection", "max_message_size", "outbox_limit", "history_size", "recovery_limit")
        for name, least in (*((name, 1) for name in counts), ("history", 0)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < least):
                raise self._wrong(name, f"{least} or more", value)
        for name in LIMITS:
            if not is_limit(getattr(self, name)):
                raise self._wrong(name, "more than 0 seconds, or None", getattr(self, name))
        if not self.history_ttl > 0:
            raise self._wrong("history_ttl", "more than 0 seconds", self.history_ttl)
        if not isinstance(self.cache, bool):
            raise self._wrong("cache", "True or False", self.cache)

    def _wrong(self, name: str, expected: str, value: object) -> ConfigurationError:
        if callable(value):
            return ConfigurationError(
                f"{name!r} is a setting of every channel: give the method {type(self).__name__}.{name} "
                f'another name; as an action it keeps this one with @action("{name}")'
            )
        return ConfigurationError(f"{type(self).__name__}.{name} must be {expected}, got {value!r}")
