"""The application that has everything, shown by AsyncAPI's own React component."""

from __future__ import annotations

import os

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from fastapi_channels import add_channel

from .everything import named, shop

app = FastAPI(title="Everything <b>")
app.mount("/component", StaticFiles(directory=os.environ["ASYNCAPI_COMPONENT"]))
add_channel(app, asyncapi_component_url="/component")
shop.mount(app, "/shop/{channel}")
named.mount(app, "/named/{channel}")
