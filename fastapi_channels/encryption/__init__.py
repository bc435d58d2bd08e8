"""Encryption of what is said in rooms, where it leaves the process: in the broker and in the store.

Names stay readable: of rooms, which brokers route by, of users, connections and keys, which stores compare.
So do times, sizes and positions. Without keys none of it runs, and `cryptography` is not imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.stores import Store
from fastapi_channels.wire.packing import PLAIN, Packing

from .notice import Keys, Notice


class Over(Protocol):
    def __call__(self, store: Store | None, strict: bool = False) -> Store | None:
        """The store through which to use `store`. `strict` is as `SealedStore` has it."""


class Encryption(NamedTuple):
    """
    Attributes:
        packing: of what the broker carries.
        over: the store through which to use a store.
        keys: None where nothing is encrypted.
    """

    packing: Packing
    over: Over
    keys: Keys | None

    def notices(self, store: Store | None, namespace: str) -> list[Notice]:
        """What tells those who speak without the keys, where anybody can be told."""
        if self.keys is None or store is None or not store.shared:
            return []
        return [Notice(store, namespace, self.keys)]


NONE: Final = Encryption(PLAIN, lambda store, strict=False: store, None)


def encryption_by(keys: str | Sequence[str] | None) -> Encryption:
    """
    Args:
        keys: the first encrypts, and each decrypts; a text has them separated by commas. None: nothing is
            encrypted.

    Raises:
        ConfigurationError: one is no key, there is none, or `cryptography` is not installed. Shows no key.
    """
    if keys is None:
        return NONE
    try:
        from .cipher import Cipher
    except ImportError as exc:
        raise ConfigurationError(
            "encryption_keys= needs the package 'cryptography': pip install fastapi-channels[encryption]"
        ) from exc
    from .packing import SealedPacking
    from .store import SealedStore

    cipher = Cipher(keys.split(",") if isinstance(keys, str) else keys)

    def over(store: Store | None, strict: bool = False) -> Store | None:
        return SealedStore(store, cipher, strict) if store is not None and store.shared else store

    return Encryption(SealedPacking(cipher), over, cipher)
