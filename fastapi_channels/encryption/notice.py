"""That an application encrypts, said in its store: who speaks to it with other keys, without any, or with
keys where it has none, learns that nobody can read it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, Protocol

from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.stores import Store, StoreUnavailable
from fastapi_channels.wire.rooms import RESERVED

logger = logging.getLogger("fastapi_channels")

LASTS: Final = 60.0
"""Seconds for which it is believed after it was said."""
RENEWAL: Final = 5.0
"""Seconds after which it is said again: so long are those with the keys refused when a store has lost it."""
_WHAT: Final = "notice"


class Keys(Protocol):
    """Those of a `Cipher`, which this module does without: it also runs where `cryptography` is missing."""

    def samples(self, what: str) -> list[str]: ...

    def is_read_by(self, what: str, samples: Sequence[str]) -> bool: ...

    def reads(self, what: str, samples: Sequence[str]) -> bool: ...


class Notice:
    """Says it for as long as a process of the application runs.

    Args:
        store: that of the application, as it is below the encryption.
        namespace: that of the application.
        keys: those of the application.
    """

    def __init__(self, store: Store, namespace: str, keys: Keys) -> None:
        self._store = store
        self._key = _key(namespace)
        self._keys = keys
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return when it was said, or could not be."""
        said = " ".join(self._keys.samples(_WHAT))
        await self._say(said)
        self._task = asyncio.create_task(self._renew(said))

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))

    async def _renew(self, said: str) -> None:
        while True:
            await asyncio.sleep(RENEWAL)
            await self._say(said)

    async def _say(self, said: str) -> None:
        try:
            await self._store.put(self._key, said, LASTS)
        except StoreUnavailable as exc:
            logger.debug("who publishes is not told of encryption_keys=: %s", exc)


async def check(store: Store, namespace: str, keys: Keys | None, listens: bool = False) -> None:
    """Whether the application can read what is encrypted with `keys`, or with none, as its store says. Where
    one `listens`, also whether what the application encrypts can be read with them.

    An application without keys says nothing, so none is taken to have keys that does not say so.

    Raises:
        ConfigurationError: it cannot.
        StoreUnavailable: the store does not say.
    """
    samples = await store.get(_key(namespace))
    if samples is None:
        if keys is not None:
            raise ConfigurationError(
                f"no application with encryption_keys= has said in this store that it runs, in the last "
                f"{LASTS:g} s: it has none, another store or namespace, or has not started; nothing was sent"
            )
        return
    if keys is None:
        raise ConfigurationError(
            "the application has encryption_keys=, and nobody there can read what is said without: give the "
            "same ones here; nothing was sent"
        )
    if not keys.is_read_by(_WHAT, samples.split()):
        raise ConfigurationError(
            "the application has other encryption_keys=, and nobody there can read what the first one of "
            "these encrypts; nothing was sent"
        )
    if listens and not keys.reads(_WHAT, samples.split()):
        raise ConfigurationError(
            "the application has other encryption_keys=, and what its first one encrypts cannot be read with "
            "these: give all of them; nothing was sent"
        )


def _key(namespace: str) -> str:
    return f"{namespace}{RESERVED}encryption"
