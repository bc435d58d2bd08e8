"""A program on Django Channels, as they are written: run in a process of its own, on the Redis that its
environment names. `tests/layers/test_django.py` talks with it."""

import os
from typing import Any

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [os.environ["REDIS_URL"]]},
        }
    },
)
django.setup()

from asgiref.sync import async_to_sync  # noqa: E402
from channels.generic.websocket import AsyncJsonWebsocketConsumer  # noqa: E402
from channels.layers import get_channel_layer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402


class Chat(AsyncJsonWebsocketConsumer):
    async def connect(self) -> None:
        scope: Any = self.scope
        self.group = scope["url_route"]["kwargs"]["group"]
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()
        await self.send_json({"channel": self.channel_name})

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        message = {"type": "chat.said", "by": "django", "body": content["text"].encode()}
        if "to" in content:
            await self.channel_layer.send(content["to"], message)
        else:
            await self.channel_layer.group_send(self.group, message)

    async def chat_said(self, event: dict[str, Any]) -> None:
        await self.send_json({"by": event["by"], "text": event["body"].decode()})

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.group, self.channel_name)


def announce(request: HttpRequest, group: str) -> HttpResponse:
    """A view that does not await."""
    layer: Any = get_channel_layer()
    async_to_sync(layer.group_send)(group, {"type": "chat.said", "by": "a view", "body": request.body})
    return HttpResponse(status=204)


urlpatterns = [path("announce/<group>", announce)]
sockets: list[Any] = [path("ws/<group>", Chat.as_asgi())]
application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": URLRouter(sockets),
    }
)
