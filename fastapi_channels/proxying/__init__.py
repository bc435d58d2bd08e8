"""WebSockets that another server answers. Needs the extra `client`, which is the package `websockets`."""

from .line import BadGateway
from .proxy import WebSocketProxy

__all__ = ["BadGateway", "WebSocketProxy"]
