"""The template, with the context that the upstream example gives it."""

import json
import re
from typing import Any

import httpx
from fastapi import FastAPI, Request, WebSocket
from starlette.responses import Response
from starlette.templating import Jinja2Templates

from .server import ROOT

UPSTREAM = {
    "BaselChatRoom": {"action": [], "room": "base_channel", "name": "base"},
    "GroupChatRoom": {"action": ["message"], "room": "channel", "name": "group"},
}


async def _listed(channels: dict[str, Any], mount: str = "") -> list[dict[str, Any]]:
    """What a page below `mount` gets to know of `channels`."""
    app = FastAPI()

    @app.get("/")
    async def homepage(request: Request) -> Response:
        templates = Jinja2Templates([ROOT / "templates", ROOT / "clients" / "typescript"])
        return templates.TemplateResponse(request, "index.html", {"channels": channels})

    @app.websocket("/base", name="base")
    @app.websocket("/group", name="group")
    async def anything(websocket: WebSocket) -> None: ...

    outer = FastAPI()
    outer.mount(mount, app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(outer), base_url="https://test") as client:
        page = (await client.get(f"{mount}/")).text
    island = re.search(r'<script type="application/json" id="channels">(.*?)</script>', page, re.DOTALL)
    assert island
    return json.loads(island[1])


async def test_the_upstream_context_is_enough() -> None:
    base, group = await _listed(UPSTREAM)
    assert base == {
        "title": "BaselChatRoom",
        "name": "base",
        "kind": "base_channel",
        "actions": [],
        "path": "wss://test/base",
    }
    assert (group["kind"], group["actions"], group["path"]) == ("channel", ["message"], "wss://test/group")


async def test_a_mounted_app_keeps_its_prefix() -> None:
    room = {"name": "room", "path": "/rooms/{channel}", "action": ["say"], "room": "room"}
    paths = [channel["path"] for channel in await _listed({**UPSTREAM, "Room": room}, "/below")]
    assert paths == ["wss://test/below/base", "wss://test/below/group", "/below/rooms/{channel}"]


async def test_names_cannot_end_the_script_that_carries_them() -> None:
    hostile = "</script><script>alert(1)</script>"
    channels = {hostile: {"action": [hostile], "room": "channel", "name": "group"}}
    (channel,) = await _listed(channels)
    assert (channel["title"], channel["actions"]) == (hostile, [hostile])
