"""Class-based channels for FastAPI WebSockets."""

from .actions.router import ActionRouter
from .api import FastAPIChannel, add_channel
from .channels import BaseChannel, Channel
from .channels.manager import Manager
from .channels.pagination import Cursor, Page, Paginated, Paginator, current_paginator
from .channels.people import Device, Person
from .channels.publisher import Publisher, current_publisher
from .channels.reading import HistoryPage, history_router
from .channels.socket import Socket
from .channels.subscribing import topics_router
from .channels.sync_publisher import SyncPublisher
from .channels.throttled import throttled
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
    MessageTooLarge,
    MethodNotAllowed,
    NotFound,
    ParseError,
    PermissionDenied,
    RateLimitExceeded,
    TokenExpired,
    TooManyConnections,
    TooManyRooms,
    Unauthenticated,
    Unavailable,
    WebSocketException,
)
from .operations.admin import Admin
from .operations.connection_log import log_connections
from .operations.jobs.job import cron, every
from .operations.log_ids import log_ids
from .operations.tracing import Tracing
from .permission import AllowAny, BasePermission, IsAuthenticated
from .signatures.graph import current_connection, current_message
from .stores import StoreUnavailable
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
    "Admin",
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
    "Device",
    "Disconnected",
    "Envelope",
    "Event",
    "FastAPIChannel",
    "GroupChannel",
    "HistoryPage",
    "InvalidPayload",
    "IsAuthenticated",
    "Manager",
    "Member",
    "MessageTooLarge",
    "MethodNotAllowed",
    "NotFound",
    "Page",
    "Paginated",
    "Paginator",
    "ParseError",
    "PermissionDenied",
    "Person",
    "PersonChannel",
    "Published",
    "Publisher",
    "RateLimitExceeded",
    "RequestId",
    "Socket",
    "StoreUnavailable",
    "SyncPublisher",
    "TokenExpired",
    "TooManyConnections",
    "TooManyRooms",
    "Tracing",
    "Unauthenticated",
    "Unavailable",
    "WebSocketException",
    "action",
    "add_channel",
    "cron",
    "current_connection",
    "current_message",
    "current_paginator",
    "current_publisher",
    "every",
    "history_router",
    "limiter",
    "log_connections",
    "log_ids",
    "rate",
    "throttled",
    "topics_router",
]
__version__ = "0.1.0"
