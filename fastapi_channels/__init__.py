"""Class-based channels for FastAPI WebSockets."""

from .api import FastAPIChannel, add_channel
from .channels import BaseChannel, Channel
from .connection import Connection
from .decorators import action, limiter
from .exceptions import (
    ActionIsDeprecated,
    ActionNotExist,
    BrokerUnavailable,
    ChannelFull,
    ChannelsError,
    CloseCode,
    ConfigurationError,
    InvalidPayload,
    MethodNotAllowed,
    NotFound,
    ParseError,
    PermissionDenied,
    RateLimitExceeded,
    Unavailable,
    WebSocketException,
)
from .messages import Envelope, RequestId
from .permission import AllowAny, BasePermission, IsAuthenticated
from .throttling import rate
from .used import GroupChannel, PersonChannel

__all__ = [
    "ActionIsDeprecated",
    "ActionNotExist",
    "AllowAny",
    "BaseChannel",
    "BasePermission",
    "BrokerUnavailable",
    "Channel",
    "ChannelFull",
    "ChannelsError",
    "CloseCode",
    "ConfigurationError",
    "Connection",
    "Envelope",
    "FastAPIChannel",
    "GroupChannel",
    "InvalidPayload",
    "IsAuthenticated",
    "MethodNotAllowed",
    "NotFound",
    "ParseError",
    "PermissionDenied",
    "PersonChannel",
    "RateLimitExceeded",
    "RequestId",
    "Unavailable",
    "WebSocketException",
    "action",
    "add_channel",
    "limiter",
    "rate",
]
__version__ = "0.1.0"
