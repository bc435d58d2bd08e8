"""Brokers on Redis: pub/sub on one server or on the one that sentinels name, on a cluster, and streams."""

from .cluster import ClusterBackend
from .pubsub import RedisBackend
from .streams import StreamBackend

__all__ = ["ClusterBackend", "RedisBackend", "StreamBackend"]
