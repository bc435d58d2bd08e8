"""State that outlives a connection and a process: who is where, what was published, which keys were used."""

from __future__ import annotations

from .memory import MemoryStore
from .store import LeaseLost, Page, Record, Retention, Store, StoreUnavailable

__all__ = [
    "LeaseLost",
    "MemoryStore",
    "Page",
    "Record",
    "Retention",
    "Store",
    "StoreUnavailable",
    "create_store",
]


def create_store(url: str) -> Store | None:
    """The store of a URL; None where what it names keeps no state.

    Args:
        url: `memory://`.
    """
    return MemoryStore() if url.partition("://")[0].lower() == "memory" else None
