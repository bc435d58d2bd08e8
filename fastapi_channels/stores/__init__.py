"""State that outlives a connection and a process: who is where, what was published, which keys were used."""

from .memory import MemoryStore
from .store import LeaseLost, Store, StoreUnavailable

__all__ = ["LeaseLost", "MemoryStore", "Store", "StoreUnavailable"]
