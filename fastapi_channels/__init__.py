"""Class-based channels for FastAPI WebSockets."""

from .actions.router import ActionRouter
from .api import FastAPIChannel, add_channel
from .channels import BaseChannel, Channel
from .channels.pagination import Cursor, Page, Paginated, Paginator, current_paginator
from .channels.publisher import Publisher, current_publisher
from .channels.reading import HistoryPage, history_router
from .channels.socket import Socket
from .channels.sync_publisher import SyncPublisher
from .cluster.users import Member
from .connection import Connection
from .decorators import ActionOptions, action, limiter
from .exceptions import (
    ActionIsDeprecated,
    ActionNotExist,
    BrokerUnavailable,
    CallFailed,
    Cancelled,
    ChannelFull,
    ChannelsError,
    CloseCode,
    ConfigurationError,
    Disconnected,
    InvalidPayload,
    MethodNotAllowed,
    NotFound,
    ParseError,
    PermissionDenied,
    RateLimitExceeded,
    TooManyRooms,
    Unavailable,
    WebSocketException,
)
from .permission import AllowAny, BasePermission, IsAuthenticated
from .signatures.graph import current_connection, current_message
from .throttling import rate
from .used import GroupChannel, PersonChannel
from .wire.messages import Envelope, RequestId
from .wire.positions import Published
from .wire.words import Call, Event

__all__ = [
    "ActionIsDeprecated",
    "ActionNotExist",
    "ActionOptions",
    "ActionRouter",
    "AllowAny",
    "BaseChannel",
    "BasePermission",
    "BrokerUnavailable",
    "Call",
    "CallFailed",
    "Cancelled",
    "Channel",
    "ChannelFull",
    "ChannelsError",
    "CloseCode",
    "ConfigurationError",
    "Connection",
    "Cursor",
    "Disconnected",
    "Envelope",
    "Event",
    "FastAPIChannel",
    "GroupChannel",
    "HistoryPage",
    "InvalidPayload",
    "IsAuthenticated",
    "Member",
    "MethodNotAllowed",
    "NotFound",
    "Page",
    "Paginated",
    "Paginator",
    "ParseError",
    "PermissionDenied",
    "PersonChannel",
    "Published",
    "Publisher",
    "RateLimitExceeded",
    "RequestId",
    "Socket",
    "SyncPublisher",
    "TooManyRooms",
    "Unavailable",
    "WebSocketException",
    "action",
    "add_channel",
    "current_connection",
    "current_message",
    "current_paginator",
    "current_publisher",
    "history_router",
    "limiter",
    "rate",
]
__version__ = "0.1.0"
