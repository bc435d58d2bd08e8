"""A Redis that is asked within a deadline, whatever becomes of its connections."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterDownError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from fastapi_channels.brokers.redis.link import Link
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.stores.deadline import Deadline

from .connections import Connections, One, Several
from .scripts import Script

logger = logging.getLogger("fastapi_channels")

PREFIX: Final = "fastapi-channels"
"""Begins the names of all keys."""
LOWEST: Final = (6, 2)
"""The version of Redis that is needed."""

_PASSING: Final = (AskError, ClusterDownError, ReadOnlyError, TryAgainError)
"""Refusals that another attempt may not meet: of a cluster that moves, or of a master that was one."""

Word: TypeAlias = bytes | str | int


class Server:
    """Commands and scripts, by key.

    Args:
        url: one server, sentinels or a cluster, as the brokers take it.
        namespace: is in the names of all keys.
        scripts: all that will be called; each new connection loads them.
        timeout: seconds in which each call is answered, connecting included.
    """

    def __init__(self, url: str, namespace: str, scripts: Iterable[Script], timeout: float) -> None:
        kind = Several if "+cluster://" in url.lower() else One
        self._deadline = Deadline("Redis", timeout, (RedisError,), _refusal)
        self._connections: Connections = kind(url, self._load, self._deadline)
        self.is_cluster = kind is Several
        self._prefix = f"{PREFIX}:{_escaped(namespace)}" if namespace else PREFIX
        self._scripts = [*scripts]
        self.connects = 0
        """How often a connection was made."""
        self._timeout = timeout

    def key(self, kind: str, slot: str, rest: str = "") -> bytes:
        """The name of a key; those of one `slot` are on one server of a cluster."""
        return f"{self._prefix}:{kind}:{{{_escaped(slot)}}}{rest}".encode()

    async def open(self) -> None:
        """As `Store.open`."""
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._connections.ask(b"", (b"INFO",))
        except (TimeoutError, ConnectionError, RedisError) as exc:
            self._judge(exc)
        else:
            self._check(dict(re.findall(r"^(\w+):(.*?)\r?$", answer.decode(), re.MULTILINE)))

    async def close(self) -> None:
        await self._connections.close()

    async def call(self, script: Script, keys: list[bytes], *arguments: Word) -> Any:
        """What a script returns; all `keys` are of one slot.

        Raises:
            StoreUnavailable: it was not answered in time, or was refused.
        """
        rest = (b"%d" % len(keys), *keys, *map(_packed, arguments))

        async def ask() -> Any:
            try:
                return await self._connections.ask(keys[0], (b"EVALSHA", script.sha, *rest))
            except NoScriptError:  # somebody has flushed them
                return await self._connections.ask(keys[0], (b"EVAL", script.text, *rest))

        return await self._deadline.answer(ask)

    async def ask(self, command: bytes, key: bytes) -> Any:
        """The answer to a command that reads one key; raises as `call`."""
        return await self._deadline.answer(lambda: self._connections.ask(key, (command, key)))

    async def _load(self, link: Link) -> None:
        self.connects += 1
        await asyncio.gather(*(link.ask(b"SCRIPT", b"LOAD", script.text) for script in self._scripts))

    def _judge(self, reason: Exception) -> None:
        """Whether the store can be used later, although it cannot be now."""
        refusal = _refusal(reason)
        if refusal is not None:
            raise ConfigurationError(f"the Redis of the store refuses it: {refusal}") from reason
        logger.warning("the Redis of the store cannot be reached, and is tried at each call: %s", reason)

    def _check(self, info: dict[str, str]) -> None:
        version = info.get("redis_version", "0.0")
        if tuple(map(int, version.split(".")[:2])) < LOWEST:
            raise ConfigurationError(f"the store needs Redis 6.2 or newer, and this is {version}")
        if info.get("redis_mode") == "cluster" and not self.is_cluster:
            raise ConfigurationError(
                "the Redis of the store is a cluster: its URL begins with redis+cluster://"
            )
        if info.get("maxmemory", "0") != "0" and info.get("maxmemory_policy") != "noeviction":
            logger.warning(
                "the Redis of the store drops keys when its memory is full (maxmemory-policy %s), and with "
                "them who is in a room, and histories; noeviction is what a store needs",
                info.get("maxmemory_policy"),
            )


def _refusal(reason: BaseException | None) -> Exception | None:
    """What the server has against us: who we are, or which database."""
    while reason is not None:
        if isinstance(reason, AuthenticationError | ResponseError) and not isinstance(reason, _PASSING):
            return reason
        reason = reason.__cause__
    return None


def _escaped(name: str) -> str:
    """A text that is not empty, without braces, which say what part of a key's name decides its slot."""
    return name.replace("%", "%25").replace("{", "%7B").replace("}", "%7D") or "%"


def _packed(word: Word) -> bytes:
    if isinstance(word, bytes):
        return word
    return str(word).encode()
