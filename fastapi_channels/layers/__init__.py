"""Channel layers and consumers, in the shape of Django Channels: messages to channels and to groups, over all
processes, workers and scripts."""

from .aliases import ChannelLayers, channel_layers, get_channel_layer
from .base import BaseChannelLayer
from .consumer import Consumer
from .layer import ChannelLayer
from .messages import websocket_bytes_message, websocket_json_message
from .websocket import (
    AsyncJsonWebsocketConsumer,
    AsyncWebsocketConsumer,
    JsonWebsocketConsumer,
    WebsocketConsumer,
)

__all__ = [
    "AsyncJsonWebsocketConsumer",
    "AsyncWebsocketConsumer",
    "BaseChannelLayer",
    "ChannelLayer",
    "ChannelLayers",
    "Consumer",
    "JsonWebsocketConsumer",
    "WebsocketConsumer",
    "channel_layers",
    "get_channel_layer",
    "websocket_bytes_message",
    "websocket_json_message",
]
