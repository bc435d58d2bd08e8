"""The support desk in a browser: signed in by a ticket, renewed, and signed out by somebody else."""

import httpx
import pytest

from .guests import Guests
from .pages import Pages
from .server import Example

pytestmark = pytest.mark.asyncio(loop_scope="session")
SIGN_IN = """async () => {
    const post = (path, body) => fetch(path, {
        method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    }).then((response) => response.json());
    await post("/login", { name: "cleo" });
    const socket = new WebSocket(`ws://${location.host}/desk`, ["app", `bearer.${await post("/pass")}`]);
    const next = () => new Promise((heard) => { socket.onmessage = ({ data }) => heard(JSON.parse(data)); });
    window.signedOut = new Promise((over) => { socket.onclose = (it) => over([it.code, it.reason]); });
    await new Promise((opened) => { socket.onopen = opened; });
    socket.send(JSON.stringify({ type: "join", channel: "team:billing", request_id: 1 }));
    const joined = await next();
    socket.send(JSON.stringify({ type: "refresh", token: await post("/token"), request_id: 2 }));
    const renewed = await next();
    return [socket.protocol, joined.type, renewed.type, document.cookie];
}"""


async def test_a_page_signs_in_by_a_ticket_renews_and_is_signed_out(pages: Pages, desk: Example) -> None:
    guests = Guests(pages, desk.url)
    guest = await guests.new()
    await guest.page.goto(desk.url + "asyncapi")
    signed_in = await guest.page.evaluate(SIGN_IN)
    assert signed_in == ["app", "joined", "authenticated", ""], "the page cannot read its cookie"
    async with httpx.AsyncClient(base_url=desk.url) as dan:
        await dan.post("/login", json={"name": "dan"})
        assert (await dan.delete("/people/cleo/sessions")).status_code == 204
    assert await guest.page.evaluate("window.signedOut") == [4501, "revoked"]
    await guests.close()
