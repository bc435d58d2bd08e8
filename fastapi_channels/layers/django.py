"""A layer that Django's processes share: the wire format of channels_redis' `RedisPubSubChannelLayer`.

There each channel is a topic of Redis pub/sub, under the name of the channel, and each group one under
`<prefix>__group__<group>`. A message is one MessagePack map, and nothing else is on the wire. So nobody
answers: neither who sends to a channel nor who sends to a group learns whether anybody is there.
"""

from __future__ import annotations

import logging
import re
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import msgpack  # type: ignore[import-untyped]  # it has no types
from pydantic_core import to_jsonable_python

from fastapi_channels.brokers import SCHEMES, create_backend, schemes
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.wire.messages import Body, Publication
from fastapi_channels.wire.packing import BARE
from fastapi_channels.wire.rooms import check_room

from .base import BaseChannelLayer
from .home import at_home
from .messages import plain

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

__all__ = ["DjangoChannelLayer"]

logger = logging.getLogger("fastapi_channels")

SERVERS: Final = {
    name: SCHEMES[name] for name in ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
}
"""The URLs of the servers that channels_redis has too."""


class DjangoChannelLayer(BaseChannelLayer):
    """Shares channels and groups with Django processes whose `CHANNEL_LAYERS` says
    `channels_redis.pubsub.RedisPubSubChannelLayer`, with one host and the serializer `msgpack`.

    Args:
        url: of the Redis that Django's `hosts` names.
        prefix: as there.
        symmetric_encryption_keys: as there: the first encrypts, each decrypts.
        capacity: messages that wait in one channel of this process; further ones are dropped, and logged.
        channel_capacity: others, by a pattern of names: `{"http.*": 200}`, or a compiled expression. The
            first that matches counts.
        capacity_bytes: bytes of the messages that wait in one channel.
        max_message_size: bytes of one message, once it is encoded.
        expiry: seconds that a message waits.
        group_expiry: seconds that a channel stays in a group, from when it was added last.
        timeout: seconds that a call may take.

    Raises:
        ConfigurationError: the URL is not of such a server, a number makes no sense, keys are no list of
            texts, or the package `cryptography` is missing.
    """

    _packing = BARE

    def __init__(
        self,
        url: str = "redis://localhost:6379",
        *,
        prefix: str = "asgi",
        symmetric_encryption_keys: Sequence[str | bytes] = (),
        capacity: int = 100,
        channel_capacity: Mapping[str | re.Pattern[str], int] | None = None,
        capacity_bytes: int = 8 * 1024 * 1024,
        max_message_size: int = 1024 * 1024,
        expiry: float = 60.0,
        group_expiry: float = 86_400.0,
        timeout: float = 2.0,
    ) -> None:
        schemes.of(url, SERVERS, "a layer of Django's")
        super().__init__(
            create_backend(url),
            capacity=capacity,
            channel_capacity=channel_capacity,
            capacity_bytes=capacity_bytes,
            max_message_size=max_message_size,
            expiry=expiry,
            group_expiry=group_expiry,
            timeout=timeout,
        )
        self._prefix = prefix
        self._cipher = _cipher(symmetric_encryption_keys)
        self._channels: set[str] = set()
        """Those that this process receives from."""

    @at_home
    async def new_channel(self, prefix: str = "specific.") -> str:
        """The name of a new channel of this process.

        Raises:
            ParseError: the name is not usable.
            BrokerUnavailable: it would not be reached: the broker did not confirm in time.
        """
        name = check_room(f"{self._prefix}{prefix}{secrets.token_hex(16)}")
        await self._listen(name)
        return name

    @at_home
    async def send(self, channel: str, message: Mapping[str, Any]) -> None:
        """Have `message` wait in a channel, in each process that receives from it. Nothing happens where none
        does, or where it is full.

        Raises:
            ParseError: the name is not usable.
            MessageTooLarge: the message has more than `max_message_size` bytes.
            ValueError: the message cannot be encoded.
            BrokerUnavailable: the broker did not take it before its deadline.
        """
        await self._publish(check_room(channel), message)

    @at_home
    async def receive(self, channel: str) -> dict[str, Any]:
        """The next message of a channel; waits for one. In this process one caller gets it. Another process
        that receives from the same name gets it too.

        Raises:
            ParseError: the name is not usable.
            BrokerUnavailable: the broker did not confirm in time that messages come, or the layer was closed.
        """
        await self._listen(check_room(channel))
        while (message := self._read(channel, await self._queues.get(channel))) is None:
            pass
        return message

    @at_home
    async def group_add(self, group: str, channel: str) -> None:
        """Put a channel of this process into a group. What is sent there after this returned, it gets.

        Raises:
            ParseError: a name is not usable.
            ConfigurationError: the channel is not one that this process receives from.
            BrokerUnavailable: the broker did not confirm in time.
        """
        check_room(group)
        if check_room(channel) not in self._channels:
            raise ConfigurationError(
                f"{channel!r} is no channel of this process: only that which receives puts one into a group"
            )
        await self._enter(group, channel)

    @at_home
    async def group_discard(self, group: str, channel: str) -> None:
        """Take a channel of this process out of a group; nothing happens where it is not in.

        Raises:
            ParseError: a name is not usable.
        """
        check_room(channel)
        await self._take_out(check_room(group), channel)

    @at_home
    async def group_send(self, group: str, message: Mapping[str, Any]) -> None:
        """Send `message` to each channel in a group, in Django's processes too. Those that are full do not
        get it; all others do.

        Raises:
            ParseError: the name is not usable.
            MessageTooLarge: the message has more than `max_message_size` bytes.
            ValueError: the message cannot be encoded.
            BrokerUnavailable: the broker did not take it before its deadline.
        """
        await self._publish(self._group(check_room(group)), message)

    @at_home
    async def forget(self, channel: str) -> None:
        """Drop what waits in a channel of this process, and take it out of its groups: for a channel that
        nobody will receive from any more."""
        await super().forget(channel)
        if channel in self._channels:
            self._channels.discard(channel)
            await self._leave(channel)

    @at_home
    async def flush(self) -> None:
        """Drop all messages, and empty all groups, of this process. There is no way to tell the others."""
        await self._clear()

    @at_home
    async def close(self) -> None:
        """Disconnect, and forget all channels and groups of this process; a later call connects again."""
        await super().close()
        self._channels.clear()

    async def _listen(self, channel: str) -> None:
        await self._open()
        # Before it is confirmed: what comes at once is for the channel.
        self._channels.add(channel)
        try:
            await self._broker.subscribe(channel)
        except BaseException:
            if channel not in self._broker.topics:
                self._channels.discard(channel)
            raise

    async def _publish(self, topic: str, message: Mapping[str, Any]) -> None:
        body = _encode(message)
        if self._cipher is not None:
            body = self._cipher.encrypt(body)
        publication = Publication(topic, self._sized(body))
        await self._hear(topic)
        await self._broker.publish(publication)

    @property
    def _topics(self) -> set[str]:
        return {*self._channels, *super()._topics}

    def _group(self, group: str) -> str:
        return f"{self._prefix}__group__{group}"

    def _receive(self, publication: Publication) -> None:
        topic, body, groups = publication.topic, publication.body, self._group("")
        if topic not in self._channels:
            # What comes for a channel that was forgotten is for no group of its name.
            if topic.startswith(groups):
                self._deliver(topic.removeprefix(groups), body)
        elif not self._put(topic, body):
            self._dropped.warn(f"a message to {topic!r} was dropped: it is full")

    def _decode(self, body: Body) -> dict[str, Any]:
        return _decode(body if self._cipher is None else _decrypted(self._cipher, body))


def _cipher(keys: Sequence[str | bytes]) -> MultiFernet | None:
    """Of Fernet keys that are the hashes of what was given, as channels_redis makes them."""
    if isinstance(keys, str | bytes) or not all(isinstance(key, str | bytes) and key for key in keys):
        raise ConfigurationError("symmetric_encryption_keys is a list of texts, none of them empty")
    if not keys:
        return None
    try:
        from cryptography.fernet import Fernet, MultiFernet
    except ImportError as exc:
        raise ConfigurationError(
            "symmetric_encryption_keys needs 'cryptography': pip install fastapi-channels[encryption]"
        ) from exc
    given = [key.encode() if isinstance(key, str) else key for key in keys]
    return MultiFernet([Fernet(urlsafe_b64encode(sha256(key).digest())) for key in given])


def _decrypted(cipher: MultiFernet, body: Body) -> bytes:
    from cryptography.fernet import InvalidToken

    try:
        return cipher.decrypt(body)
    except InvalidToken:
        raise ValueError("not encrypted with one of the keys") from None


def _encode(message: Mapping[str, Any]) -> bytes:
    """Also what pydantic can turn into JSON. What Django could not read is refused here: there it would end
    each consumer of the group.

    Raises:
        ConfigurationError: it is no mapping.
        ValueError: it holds what cannot be encoded.
    """
    sent = plain(message)
    try:
        body: Any = msgpack.packb(sent, default=to_jsonable_python)
        _decode(body)
    except (TypeError, ValueError, OverflowError, RecursionError) as exc:
        raise ValueError(f"the message cannot be encoded: {exc}") from None
    return bytes(body)


def _decode(body: Body) -> dict[str, Any]:
    try:
        found: Any = msgpack.unpackb(body)
    except (msgpack.UnpackException, ValueError, TypeError) as exc:
        raise ValueError(f"not MessagePack: {exc}") from None
    if not isinstance(found, dict):
        raise ValueError(f"not a map, but {type(found).__name__}")
    return found
