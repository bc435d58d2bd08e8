"""The store on Redis: one server, the one that sentinels name, or a cluster."""

from .store import RedisStore

__all__ = ["RedisStore"]
