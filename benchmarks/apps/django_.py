"""Django Channels: a consumer in a group of the memory layer."""

# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false, reportGeneralTypeIssues=false
# pyright: reportArgumentType=false

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="benchmark",  # noqa: S106 - it protects nothing
    ALLOWED_HOSTS=["*"],
    INSTALLED_APPS=["channels"],
    CHANNEL_LAYERS={
        # Enough for 32 messages in flight: the default of 100 would drop the rest.
        "default": {"BACKEND": "channels.layers.InMemoryChannelLayer", "CONFIG": {"capacity": 1000}}
    },
)
django.setup()

from channels.generic.websocket import AsyncJsonWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.urls import path  # noqa: E402


class Chat(AsyncJsonWebsocketConsumer):
    groups = ["lobby"]  # noqa: RUF012

    async def receive_json(self, content):
        if content["action"] == "say":
            await self.channel_layer.group_send("lobby", {"type": "said", "data": content})
        else:
            await self.send_json(content)

    async def said(self, event):
        await self.send_json(event["data"])


routes = URLRouter([path("ws", Chat.as_asgi())])
app = ProtocolTypeRouter({"http": get_asgi_application(), "websocket": routes})
