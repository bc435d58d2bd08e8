"""A room as Server-Sent Events, in a browser: its own EventSource comes back, or stays away."""

from __future__ import annotations

import asyncio

import pytest
from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from fastapi_channels import Channel, Connection, Publisher, action, add_channel
from fastapi_channels.wire import stream
from tests.support.live import DEADLINE, serving, wait_until

from .pages import Pages

pytestmark = pytest.mark.asyncio(loop_scope="session")

LISTEN = """
window.heard = [];
window.events = new EventSource("/rooms/tea/events");
events.onmessage = ({ data }) => heard.push(JSON.parse(data));
events.addEventListener("close", ({ data }) => heard.push(JSON.parse(data)));
"""
SAY = """
async (text) => {
  const how = { method: "POST", body: JSON.stringify({ text }) };
  return (await fetch("/rooms/tea/actions/say", how)).json();
}
"""


class Room(Channel):
    history = 10

    @action()
    async def say(self, text: str, connection: Connection) -> str:
        await self.broadcast(connection.room, "said", text)
        return "said it"


async def test_a_page_misses_nothing_and_stays_away_when_it_is_told_to(
    pages: Pages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "RETRY", (50, 50))
    app, room = FastAPI(), Room()
    add_channel(app)
    room.mount(app, "/rooms/{channel}", sse=True, http=True, user=lambda: "ada")

    @app.get("/", response_class=HTMLResponse)
    async def page_of_its_own() -> str:
        return "<title>tea</title><link rel=icon href=data:,>"

    async with serving(app) as site, pages.one() as page:
        publisher = Publisher._of(site.node)
        await page.goto(site.http)

        async def heard(count: int) -> list[object]:
            await page.wait_for_function(
                "(count) => heard.length >= count", arg=count, timeout=1000 * DEADLINE
            )
            found: list[dict[str, object]] = await page.evaluate("heard.splice(0)")
            return [each.get("data", each.get("recovered", each.get("code"))) for each in found]

        await page.evaluate(LISTEN)
        assert await heard(1) == [None]
        assert (await page.evaluate(SAY, "one"))["data"] == "said it"
        assert await heard(1) == ["one"]
        await publisher.disconnect_user("ada", 4000, "go, and come back")
        await wait_until(lambda: not site.node.sessions)
        await room.broadcast("tea", "said", "two")
        assert await heard(3) == [4000, True, "two"]
        await publisher.disconnect_user("ada", 4503, "go")
        assert await heard(1) == [4503]
        await wait_until(lambda: not site.node.sessions)
        await asyncio.sleep(0.2)  # four times as long as it would wait
        assert not site.node.sessions
        assert await page.evaluate("events.readyState") == 0
