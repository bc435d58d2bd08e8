"""What all channel layers have: the queues and the groups of one process, over a broker."""

from __future__ import annotations

import asyncio
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping
from fnmatch import translate
from typing import Any, ClassVar, Final, ParamSpec

from broadcaster import BroadcastBackend

from fastapi_channels.brokers import Broker
from fastapi_channels.brokers.link import MAX_MESSAGE
from fastapi_channels.cluster.tasks import Tasks
from fastapi_channels.exceptions import ChannelsError, ConfigurationError, MessageTooLarge
from fastapi_channels.wire.log import Seldom
from fastapi_channels.wire.messages import Body, Publication, size_of
from fastapi_channels.wire.packing import PLAIN, Packs

from .groups import Groups
from .home import at_home
from .queues import Queues

P = ParamSpec("P")
logger = logging.getLogger("fastapi_channels")

LARGEST: Final = MAX_MESSAGE - 64 * 1024
"""Bytes of a message that any broker carries, with what is said beside it."""
MAX_TASKS: Final = 1000
"""What one process may be about to tell the others; beyond that it does not."""


class BaseChannelLayer(ABC):
    """What code may do with a layer, whichever it is. It connects with its first call, in a loop that lasts:
    that of the application or of the main thread, else one of its own thread. Once that has ended it connects
    anew. Any thread may call it, in whichever loop.

    Args:
        backend: carries what the processes tell each other.
        capacity: messages that wait in one channel.
        channel_capacity: others, by a pattern of names: `{"http.*": 200}`, or a compiled expression. The
            first that matches counts.
        capacity_bytes: bytes of the messages that wait in one channel.
        max_message_size: bytes of one message, once it is encoded.
        expiry: seconds that a message waits.
        group_expiry: seconds that a channel stays in a group, from when it was added last.
        timeout: seconds that a call may take.

    Raises:
        ConfigurationError: a number makes no sense.
    """

    _packing: ClassVar[Packs] = PLAIN

    def __init__(
        self,
        backend: BroadcastBackend,
        *,
        capacity: int,
        channel_capacity: Mapping[str | re.Pattern[str], int] | None,
        capacity_bytes: int,
        max_message_size: int,
        expiry: float,
        group_expiry: float,
        timeout: float,
    ) -> None:
        self.home: asyncio.AbstractEventLoop | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        patterns = {} if channel_capacity is None else channel_capacity
        if not isinstance(patterns, Mapping):
            raise ConfigurationError(
                f'channel_capacity must be a mapping, such as {{"http.*": 200}}, got {patterns!r}'
            )
        for name, value in [("capacity", capacity), *((str(key), value) for key, value in patterns.items())]:
            if not isinstance(value, int) or value < 1:
                raise ConfigurationError(f"{name} must be 1 message or more, got {value!r}")
        for name, size in (("capacity_bytes", capacity_bytes), ("max_message_size", max_message_size)):
            if not isinstance(size, int) or size < 1:
                raise ConfigurationError(f"{name} must be 1 byte or more, got {size!r}")
        if max_message_size > LARGEST:
            raise ConfigurationError(f"max_message_size must be at most {LARGEST}, got {max_message_size}")
        if capacity_bytes < max_message_size:
            raise ConfigurationError(
                f"capacity_bytes must be max_message_size, {max_message_size}, or more, got {capacity_bytes}"
            )
        for name, seconds in (("expiry", expiry), ("group_expiry", group_expiry), ("timeout", timeout)):
            is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
            if not is_number or not seconds > 0:
                raise ConfigurationError(f"{name} must be more than 0 seconds, got {seconds!r}")
        self.capacity = capacity
        self.capacity_bytes = capacity_bytes
        self.max_message_size = max_message_size
        self._patterns = [(_compiled(pattern), value) for pattern, value in patterns.items()]
        self._timeout = timeout
        self._broker = Broker(
            backend,
            self._receive,
            packing=self._packing,
            publish_timeout=timeout,
            on_change=self._connected,
        )
        self._queues = Queues(self.capacity_of, capacity_bytes, expiry)
        self._groups = Groups(group_expiry)
        self._tasks = Tasks()
        self._dropped = Seldom(logger)
        self._stale: set[str] = set()
        """Topics that are still to be subscribed in this event loop."""
        self._vacated: set[str] = set()
        """Groups whose channels have all expired: their topics are still to be left."""

    def capacity_of(self, channel: str) -> int:
        """How many messages wait in a channel at most."""
        return next((value for pattern, value in self._patterns if pattern.match(channel)), self.capacity)

    # What each does in its own way

    @abstractmethod
    @at_home
    async def new_channel(self, prefix: str = "specific") -> str:
        """The name of a new channel of this process."""

    @abstractmethod
    @at_home
    async def send(self, channel: str, message: Mapping[str, Any]) -> None:
        """Have `message` wait in a channel, whichever process has it."""

    @abstractmethod
    @at_home
    async def receive(self, channel: str) -> dict[str, Any]:
        """The next message of a channel; waits for one."""

    @abstractmethod
    @at_home
    async def group_add(self, group: str, channel: str) -> None:
        """Put a channel into a group."""

    @abstractmethod
    @at_home
    async def group_discard(self, group: str, channel: str) -> None:
        """Take a channel out of a group; nothing happens where it is not in."""

    @abstractmethod
    @at_home
    async def group_send(self, group: str, message: Mapping[str, Any]) -> None:
        """Send `message` to each channel in a group."""

    @abstractmethod
    @at_home
    async def flush(self) -> None:
        """Drop messages, and empty groups."""

    @abstractmethod
    def _group(self, group: str) -> str:
        """The topic of a group."""

    @abstractmethod
    def _receive(self, publication: Publication) -> None:
        """Take what another process, or this one, has published."""

    @abstractmethod
    def _decode(self, body: Body) -> dict[str, Any]:
        """The message that waits as `body`; raises ValueError where it is none."""

    # What they have in common

    @at_home
    async def forget(self, channel: str) -> None:
        """Drop what waits in a channel of this process, and take it out of its groups: for a channel that
        nobody will receive from any more."""
        self._queues.forget(channel)
        await self._leave_groups(self._groups.forget(channel))

    @at_home
    async def close(self) -> None:
        """Disconnect, and forget all channels and groups of this process; a later call connects again. Who
        waits in `receive` gets BrokerUnavailable."""
        if self.loop is asyncio.get_running_loop():
            self._queues.fail("the channel layer was closed")
            await self._tasks.stop()
            await self._broker.stop()
        self._queues.clear()
        self._groups.clear()
        self._vacated.clear()
        self.home = self.loop = None

    @property
    def _topics(self) -> set[str]:
        """All that this process listens to."""
        return {self._group(group) for group in self._groups.names}

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        if self.loop is not loop:
            self._broker.reset()
            if self.loop is not None:
                self._queues.desert()
            self._tasks = Tasks()
            self._stale = self._topics
            self.loop = loop
        self._broker.begin()

    async def _open(self) -> None:
        """Be there for what other processes send."""
        self._begin()
        while self._stale:
            await self._hear(next(iter(self._stale)))

    async def _hear(self, topic: str) -> None:
        """Be there for what is sent to `topic`, in the next event loop too, if this process listens to it."""
        self._begin()
        if topic in self._stale:
            await self._broker.subscribe(topic)
            self._stale.discard(topic)

    async def _leave(self, topic: str) -> None:
        self._stale.discard(topic)
        await self._broker.unsubscribe(topic)

    async def _enter(self, group: str, channel: str) -> None:
        """Put a channel of this process into a group."""
        await self._open()
        self._vacate(self._groups.sweep())
        self._groups.add(group, channel)
        try:
            await self._broker.subscribe(self._group(group))
        except BaseException:
            self._groups.discard(group, channel)
            raise

    async def _take_out(self, group: str, channel: str) -> None:
        if self._groups.discard(group, channel):
            await self._leave(self._group(group))

    async def _clear(self) -> None:
        self._queues.clear()
        await self._leave_groups(self._groups.clear())

    async def _leave_groups(self, groups: Iterable[str]) -> None:
        """Leave the topics of groups that are empty, unless a channel comes into one meanwhile."""

        async def leave(group: str) -> None:
            if group not in self._groups:
                await self._leave(self._group(group))

        await asyncio.gather(*map(leave, groups))

    def _sized(self, body: Body) -> Body:
        """What is to be sent, as it is.

        Raises:
            MessageTooLarge: it has more bytes than a message may have.
        """
        if size_of(body) > self.max_message_size:
            raise MessageTooLarge(close=False, context={"limit": self.max_message_size})
        return body

    def _put(self, channel: str, body: Body, size: int | None = None) -> bool:
        """Let a message wait in a channel of this process; False where that is full."""
        return self._queues.put(channel, body, size)

    def _deliver(self, group: str, body: Body) -> None:
        members = self._groups.members(group)
        self._vacate(self._groups.sweep() if members else [group, *self._groups.sweep()])
        size = size_of(body)
        full = sum(not self._put(channel, body, size) for channel in members)
        if full:
            self._dropped.warn(
                f"a message to the group {group!r} was dropped for {full} of {len(members)} channels, "
                "which are full"
            )

    def _vacate(self, groups: list[str]) -> None:
        """Leave the topics of groups that are empty, in the background."""
        if groups:
            self._vacated.update(groups)
            self._spawn(self._leave_vacated)

    async def _leave_vacated(self) -> None:
        while groups := list(self._vacated):
            self._vacated.clear()
            await self._leave_groups(groups)

    def _read(self, channel: str, body: Body) -> dict[str, Any] | None:
        """The message that waited in a channel; None where it is none."""
        try:
            return self._decode(body)
        except ValueError as exc:
            logger.warning("a message in %r is ignored: %s", channel, exc)
            return None

    def _connected(self, up: bool) -> None:  # noqa: B027 - not every layer has to do something
        """The broker has come, or gone."""

    def _spawn(self, call: Callable[P, Awaitable[None]], *args: P.args, **kwargs: P.kwargs) -> None:
        if len(self._tasks) < MAX_TASKS:
            self._tasks.spawn(_tried(call, *args, **kwargs))


async def _tried(call: Callable[P, Awaitable[None]], *args: P.args, **kwargs: P.kwargs) -> None:
    try:
        await call(*args, **kwargs)
    except (ChannelsError, OSError) as exc:
        logger.info("another process of the layer was not told: %s", exc)


def _compiled(pattern: str | re.Pattern[str]) -> re.Pattern[str]:
    return re.compile(translate(pattern)) if isinstance(pattern, str) else pattern
