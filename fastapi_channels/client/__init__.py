"""Clients that come back by themselves. Needs the extra `client`, which is the package `websockets`."""

from .client import Client, Socket
from .errors import ActionError, ClientError, ConnectionLost, NotSent, Overflow, Refused, TimedOut
from .feed import Feed
from .listeners import About, Gap
from .presence import Device, Person, Presence, PresenceChange
from .room import Room
from .settings import Times
from .sync import SyncClient, SyncRoom, SyncSocket

__all__ = [
    "About",
    "ActionError",
    "Client",
    "ClientError",
    "ConnectionLost",
    "Device",
    "Feed",
    "Gap",
    "NotSent",
    "Overflow",
    "Person",
    "Presence",
    "PresenceChange",
    "Refused",
    "Room",
    "Socket",
    "SyncClient",
    "SyncRoom",
    "SyncSocket",
    "TimedOut",
    "Times",
]
