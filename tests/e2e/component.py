"""A shop, shown by AsyncAPI's own React component, which takes its time for a long document."""

from __future__ import annotations

import os

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from fastapi_channels import Channel, action, add_channel

from .everything import Order, Placed


class Shop(Channel):
    event_types = (Placed,)

    @action()
    async def order(self, order: Order) -> Order:
        return order


app = FastAPI(title="Everything <b>")
app.mount("/component", StaticFiles(directory=os.environ["ASYNCAPI_COMPONENT"]))
add_channel(app, asyncapi_component_url="/component")
Shop().mount(app, "/shop/{channel}")
