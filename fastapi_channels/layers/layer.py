"""A channel layer: channels that messages wait in, and groups of them, over all processes.

A channel belongs to the process that made its name: `specific.<process>!<channel>`. What is sent to it waits
there, in memory; so its capacity is counted in one place, and only who sends to a full one is told. A group
is a topic of the broker. Each process that has channels in it listens, and hands out what comes: sending to
a group is one publication, however many are in it.

A channel without a `!` belongs to nobody: who receives from it first gets the message. That waits in the
process that has sent it, until another says that it wants one.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from broadcaster import BroadcastBackend

from fastapi_channels.brokers import the_backend
from fastapi_channels.exceptions import BrokerUnavailable, ChannelFull, ConfigurationError
from fastapi_channels.wire.log import Seldom
from fastapi_channels.wire.messages import Body, Publication
from fastapi_channels.wire.rooms import RESERVED, check_room

from .base import BaseChannelLayer
from .home import at_home
from .messages import decode, encode

logger = logging.getLogger("fastapi_channels")

TOPICS: Final = RESERVED + "layer:"
"""Begins the topics of layers, which no room's name does."""
DONE, FULL, GONE = "done", "full", "gone"
"""What became of a request to another process."""


class ChannelLayer(BaseChannelLayer):
    """A layer over any broker, or in memory.

    Args:
        url: of a broker, as of `add_channel()`; `memory://` stays in this object.
        backend: in place of a URL, as of `add_channel()`.
        namespace: begins every topic, so that several can share a server.
        capacity: messages that wait in one channel.
        channel_capacity: others, by a pattern of names: `{"http.*": 200}`, or a compiled expression. The
            first that matches counts.
        capacity_bytes: bytes of the messages that wait in one channel.
        max_message_size: bytes of one message, once it is encoded.
        expiry: seconds that a message waits.
        group_expiry: seconds that a channel stays in a group, from when it was added last.
        timeout: seconds that a call may take.

    Raises:
        ConfigurationError: the URL cannot be used, or a number makes no sense.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        backend: BroadcastBackend | None = None,
        namespace: str = "",
        capacity: int = 100,
        channel_capacity: Mapping[str | re.Pattern[str], int] | None = None,
        capacity_bytes: int = 8 * 1024 * 1024,
        max_message_size: int = 1024 * 1024,
        expiry: float = 60.0,
        group_expiry: float = 86_400.0,
        timeout: float = 2.0,
    ) -> None:
        if url is not None and backend is not None:
            raise ConfigurationError("give one of url and backend, got both")
        super().__init__(
            the_backend(url, backend),
            capacity=capacity,
            channel_capacity=channel_capacity,
            capacity_bytes=capacity_bytes,
            max_message_size=max_message_size,
            expiry=expiry,
            group_expiry=group_expiry,
            timeout=timeout,
        )
        self.id = secrets.token_hex(6)
        """Of this process, in the names of its channels."""
        self._prefix = namespace + TOPICS
        self._everybody = f"{self._prefix}all"
        self._numbers = itertools.count(1)
        self._asked: dict[str, asyncio.Future[str]] = {}
        self._gone = Seldom(logger)

    # Channels

    @at_home
    async def new_channel(self, prefix: str = "specific") -> str:
        """The name of a new channel of this process.

        Raises:
            BrokerUnavailable: it would not be reached: the broker did not confirm in time.
        """
        if not isinstance(prefix, str):
            raise ConfigurationError(f"a prefix is a text, got {prefix!r}")
        name = check_room(f"{prefix.rstrip('.')}.{self.id}!{secrets.token_hex(6)}")
        if _home_of(name) != self.id:
            raise ConfigurationError(f"a prefix has no '!', got {prefix!r}")
        await self._open()
        return name

    @at_home
    async def send(self, channel: str, message: Mapping[str, Any]) -> None:
        """Have `message` wait in a channel, whichever process has it. Nothing happens where that has gone.

        Raises:
            ChannelFull: as many messages as it takes, or bytes of them, wait in it.
            ParseError: the name is not usable.
            MessageTooLarge: the message has more than `max_message_size` bytes.
            ValueError: the message cannot be encoded.
            BrokerUnavailable: the broker did not take it before its deadline.
        """
        home, text = _home_of(check_room(channel)), self._sized(encode(message))
        if home is None or home == self.id:
            await self._open()
            sent = self._queues.put(channel, text)
            if sent and home is None:
                await self._offer(channel)
        else:
            sent = await self._ask(home, "put", channel, body=text) != FULL
        if not sent:
            limit, size = self.capacity_of(channel), self.capacity_bytes
            is_own = home is None or home == self.id
            why = (
                f"it takes {limit} messages, of {size} bytes together"
                if is_own
                else "its process takes no more"
            )
            raise ChannelFull(close=False, error_msg=f"{channel!r} is full: {why}")

    @at_home
    async def receive(self, channel: str) -> dict[str, Any]:
        """The next message of a channel; waits for one. Of several that wait, one gets it.

        Raises:
            ParseError: the name is not usable.
            ConfigurationError: the channel is one of another process.
            BrokerUnavailable: the broker did not confirm in time that messages come, or the layer was closed.
        """
        home = _home_of(check_room(channel))
        if home is not None and home != self.id:
            raise ConfigurationError(
                f"{channel!r} is a channel of another process, which alone receives from it"
            )
        await self._open()
        while True:
            if home is None and not self._broker.local and channel not in self._queues:
                self._spawn(self._want, channel)
            message = self._read(channel, await self._queues.get(channel))
            if message is not None:
                return message

    # Groups

    @at_home
    async def group_add(self, group: str, channel: str) -> None:
        """Put a channel, of whichever process, into a group. What is sent there after this returned, it gets.

        Raises:
            ParseError: a name is not usable.
            BrokerUnavailable: the broker did not confirm in time.
        """
        home = _home_of(check_room(channel))
        check_room(group)
        if home is not None and home != self.id:
            await self._ask(home, "add", group, channel)
        else:
            await self._enter(group, channel)

    @at_home
    async def group_discard(self, group: str, channel: str) -> None:
        """Take a channel out of a group; nothing happens where it is not in.

        Raises:
            ParseError: a name is not usable.
            BrokerUnavailable: the process of the channel could not be told.
        """
        home = _home_of(check_room(channel))
        check_room(group)
        if home is not None and home != self.id:
            await self._ask(home, "discard", group, channel)
        else:
            await self._take_out(group, channel)

    @at_home
    async def group_send(self, group: str, message: Mapping[str, Any]) -> None:
        """Send `message` to each channel in a group. Those that are full do not get it; all others do.

        Raises:
            ParseError: the name is not usable.
            MessageTooLarge: the message has more than `max_message_size` bytes.
            ValueError: the message cannot be encoded.
            BrokerUnavailable: the broker did not take it before its deadline.
        """
        topic, text = self._group(check_room(group)), self._sized(encode(message))
        await self._hear(topic)
        await self._tell(topic, "group", group, body=text)

    @at_home
    async def flush(self) -> None:
        """Drop all messages, and empty all groups, in every process.

        Raises:
            BrokerUnavailable: the broker did not take it before its deadline.
        """
        self._begin()
        await self._tell(self._everybody, "flush")
        await self._clear()

    # To the other processes, and from them

    @property
    def _topics(self) -> set[str]:
        return {self._topic(self.id), self._everybody, *super()._topics}

    def _topic(self, process: str) -> str:
        return f"{self._prefix}process:{process}"

    def _group(self, group: str) -> str:
        return f"{self._prefix}group:{group}"

    def _decode(self, body: Body) -> dict[str, Any]:
        return decode(str(body))

    async def _tell(self, topic: str, kind: str, *to: str, body: Body = "") -> None:
        await self._broker.publish(Publication(topic, body, kind=kind, to=to))

    async def _ask(self, home: str, kind: str, *to: str, body: Body = "") -> str:
        """What became of a request to the process `home`."""
        await self._open()
        number = str(next(self._numbers))
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        try:
            await self._tell(self._topic(home), kind, *to, self.id, number, body=body)
            async with asyncio.timeout(self._timeout):
                return await answer
        except TimeoutError:
            self._gone.warn(f"the process of {to[-1]!r} has gone: nothing was done")
            return GONE
        finally:
            del self._asked[number]

    def _receive(self, publication: Publication) -> None:
        body = str(publication.body)
        match publication.kind, *publication.to:
            case "group", group:
                self._deliver(group, body)
            case "put", channel, asker, number:
                outcome = DONE if self._queues.put(channel, body) else FULL
                self._spawn(self._tell, self._topic(asker), "answer", number, outcome)
            case "answer", number, outcome if number in self._asked:
                if not self._asked[number].done():
                    self._asked[number].set_result(outcome)
            case "add", group, channel, asker, number:
                self._spawn(self._done, self.group_add, group, channel, asker, number)
            case "discard", group, channel, asker, number:
                self._spawn(self._done, self.group_discard, group, channel, asker, number)
            case "have", channel, holder if channel in self._queues.wanted:
                self._spawn(self._tell, self._topic(holder), "want", channel, self.id)
            case "want", channel, asker if asker != self.id:
                self._spawn(self._give, channel, asker)
            case "given", channel:
                self._take(channel, body)
            case ("flush",):
                self._spawn(self._clear)
            case _:
                logger.debug("what is no message of a layer is ignored: %r", publication.kind)

    def _put(self, channel: str, body: Body, size: int | None = None) -> bool:
        taken = super()._put(channel, body, size)
        if taken and _home_of(channel) is None:
            self._spawn(self._offer, channel)
        return taken

    async def _done(
        self, change: Callable[[str, str], Awaitable[None]], group: str, channel: str, asker: str, number: str
    ) -> None:
        await change(group, channel)
        await self._tell(self._topic(asker), "answer", number, DONE)

    async def _offer(self, channel: str) -> None:
        """Say that a message waits in a channel that is nobody's, if it does."""
        if channel in self._queues and not self._broker.local:
            await self._tell(self._everybody, "have", channel, self.id)

    async def _want(self, channel: str) -> None:
        await self._tell(self._everybody, "want", channel, self.id)

    async def _give(self, channel: str, asker: str) -> None:
        body = self._queues.take(channel)
        if body is None:
            return
        try:
            await self._tell(self._topic(asker), "given", channel, body=body)
        except BrokerUnavailable:
            self._queues.put_back(channel, body)

    def _take(self, channel: str, text: str) -> None:
        """Have what was asked for. Whoever wanted it may have gone: another process may want it."""
        if not self._queues.put(channel, text):
            self._queues.put_back(channel, text)
        self._spawn(self._offer, channel)

    def _connected(self, up: bool) -> None:
        if up:
            for channel in self._queues.wanted:
                if _home_of(channel) is None:
                    self._spawn(self._want, channel)


def _home_of(channel: str) -> str | None:
    """The id of the process whose channel it is; None for nobody's."""
    head, mark, _ = channel.partition("!")
    return head.rpartition(".")[2] if mark else None
