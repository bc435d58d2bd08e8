"""For those who test channels: clients without a port, brokers that fail, time that passes at once."""

from fastapi_channels.client.errors import ActionError, Refused

from .asgi import in_process, living
from .broker import FaultyBackend, FaultyBroker
from .client import Client, refused
from .clock import TimelessLoop, timeless
from .receiver import Close
from .record import Broadcast, Record, record
from .site import Options, Site, running, serving
from .store import FaultyStore, StoreView
from .sync import SyncClient, SyncSite

__all__ = [
    "ActionError",
    "Broadcast",
    "Client",
    "Close",
    "FaultyBackend",
    "FaultyBroker",
    "FaultyStore",
    "Options",
    "Record",
    "Refused",
    "Site",
    "StoreView",
    "SyncClient",
    "SyncSite",
    "TimelessLoop",
    "in_process",
    "living",
    "record",
    "refused",
    "running",
    "serving",
    "timeless",
]
