"""The page loses its server, comes back, and never hammers."""

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.support.proxy import Proxy

from .guests import Guest, Guests
from .server import Example

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_a_lost_server_and_the_way_back(own_guests: Guests, own_server: Example) -> None:
    own_guests.may_lose = True
    ada = await (await own_guests.new()).enter("Ada", room="phoenix")
    bob = await (await own_guests.new()).enter("Bob", room="phoenix")
    await ada.sees_note("Bob joined")
    await bob.sees_people("Bob (you)", "Ada")
    avatar = ada.page.locator("#people .avatar").first
    await expect(avatar).to_have_css("filter", "none")

    await asyncio.to_thread(own_server.kill)
    await ada.sees_state("waiting")
    await expect(ada.page.locator("#state")).to_have_text("Reconnecting")
    await expect(avatar).to_have_css("filter", "grayscale(1)")
    for guest in (ada, bob):
        await guest.sees_state("waiting")
        await expect(guest.page.locator("#banner-text")).to_have_text("The connection was lost. Trying again")
        await expect(guest.send).to_be_disabled()
    await ada.say("written while away")
    await expect(ada.draft).to_have_value("written while away")

    await asyncio.to_thread(own_server.restart)
    for guest in (ada, bob):
        await guest.sees_state("open")
        await expect(guest.page.locator("#banner")).to_be_hidden()
        await guest.sees_note("Connected again")
    await expect(avatar).to_have_css("filter", "none")
    await expect(ada.draft).to_have_value("written while away")
    await ada.draft.press("Enter")
    await bob.sees("written while away", by="Ada")
    await ada.sees("written while away", by="Ada")
    # Those who come back are no news, whoever is first.
    for guest, before in ((ada, ["You joined", "Bob joined"]), (bob, ["You joined"])):
        await expect(guest.page.locator("#people-count")).to_have_text("2")
        notes = [*before, "Connected again", "Some messages may be missing here"]
        await expect(guest.log.locator(".note")).to_have_text(notes)


async def test_what_was_said_while_the_network_was_away_is_there_once(
    guests: Guests, server: Example
) -> None:
    guests.may_lose = True
    async with Proxy(server.port) as cable:
        await _through_a_tunnel(guests, cable)


async def _through_a_tunnel(guests: Guests, cable: Proxy) -> None:
    bob = await guests.new()
    await bob.page.goto(bob.url)
    await say(bob, "tunnel", [f"line {number}" for number in range(40)])
    ada = Guest((await guests.new()).page, f"http://127.0.0.1:{cable.port}/")
    await ada.enter("Ada", room="tunnel")
    await bob.enter("Bob", room="tunnel")
    await expect(bob.message("LINE 39")).to_be_in_viewport()
    await expect(bob.log.locator(".message")).to_have_count(30)
    await bob.log.focus()
    await bob.page.keyboard.press("Home")
    await expect(bob.log.locator(".message")).to_have_count(40)

    while await bob.page.locator("#typing").inner_text() != "Ada is typing…":
        await ada.draft.press("x")
    cable.freeze()
    await tell(ada, offline=True)
    await ada.sees_state("waiting")
    await say(bob, "tunnel", ["meanwhile"])
    cable.thaw()
    await tell(ada, offline=False)
    await ada.sees_state("open")
    await expect(ada.log.locator(".message")).to_have_count(31)
    await expect(ada.message("MEANWHILE")).to_be_visible()
    # Who speaks beside the page is news where that takes longer than presence waits for more of it.
    notes = ada.log.locator(".note").filter(has_not_text="admin")
    await expect(notes).to_have_text(["You joined", "Bob joined", "Connected again"])
    await expect(bob.page.locator("#typing")).to_be_empty()


async def tell(guest: Guest, *, offline: bool) -> None:
    """Lets the browser believe in a network or not. (One that it takes away itself is asked all the time.)"""
    session = await guest.page.context.new_cdp_session(guest.page)
    network = {"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    await session.send("Network.overrideNetworkState", network)
    await session.detach()


async def say(guest: Guest, room: str, texts: list[str]) -> None:
    """As an admin, who has no limit, and beside the page."""
    await guest.page.evaluate(
        """([room, texts]) => new Promise((said) => {
            const socket = new WebSocket(`ws://${location.host}/rooms/${room}?name=admin`);
            const shout = (text) => socket.send(JSON.stringify({ action: "shout", text }));
            socket.onopen = () => texts.forEach(shout);
            socket.onmessage = ({ data }) => {
                if (!data.includes(texts.at(-1).toUpperCase())) return;
                socket.close(1000);
                said();
            };
        })""",
        [room, texts],
    )


# A server that is there or not, without one: what `new WebSocket` does is `window.fate`.
SOCKETS = """
window.attempts = [];
window.fate = "refuse";
window.WebSocket = class {
  sent = [];
  constructor() {
    window.attempts.push(performance.now());
    window.socket = this;
    setTimeout(() => this.meet(window.fate), 1);
  }
  meet(fate) {
    if (fate !== "refuse") this.dispatchEvent(new Event("open"));
    if (fate === "refuse") this.lose(1006);
    if (fate === "restart") setTimeout(() => this.lose(1012), 1_000);
  }
  lose(code, reason = "") { this.dispatchEvent(new CloseEvent("close", { code, reason })); }
  dispatchEvent(event) { this[`on${event.type}`]?.(event); }
  send(text) {
    if (text !== '{"type":"ping"}') this.sent.push(text);
    else this.dispatchEvent(new MessageEvent("message", { data: '{"type":"pong"}' }));
  }
  close() {}
};
"""


async def _alone(guests: Guests, fate: str) -> Page:
    """The page in a room, with sockets that meet `fate` and a clock that stands still."""
    guest = await guests.new(own=True)
    await guest.page.add_init_script(SOCKETS + f"window.fate = '{fate}';")
    await guest.page.clock.install(time=0)
    await guest.page.clock.pause_at(1_000)
    await guest.ask_to_enter("Ada")
    return guest.page


async def _gaps(page: Page) -> list[float]:
    times = await page.evaluate("window.attempts")
    return [later - earlier for earlier, later in pairwise(times)]


@pytest.mark.parametrize("fate", ["refuse", "restart"])
async def test_attempts_thin_out(guests: Guests, fate: str) -> None:
    page = await _alone(guests, fate)
    await page.clock.run_for(300_000)
    gaps = await _gaps(page)
    assert min(gaps) >= 999
    assert max(gaps) <= 31_010  # the longest delay, after a second of being connected
    assert 10 <= len(gaps) <= 100


async def test_signs_of_life_hurry_an_attempt_but_never_more_than_one_a_second(guests: Guests) -> None:
    page = await _alone(guests, "refuse")
    await page.clock.run_for(120_000)
    await page.evaluate("window.attempts.length = 0")
    for _ in range(20):
        await page.evaluate("dispatchEvent(new Event('online'))")
        await page.evaluate("document.dispatchEvent(new Event('visibilitychange', { bubbles: true }))")
        await page.clock.run_for(250)
    assert 4 <= await page.evaluate("window.attempts.length") <= 6
    assert min(await _gaps(page)) >= 999


async def test_the_close_code_says_whether_to_come_back(guests: Guests) -> None:
    page = await _alone(guests, "accept")
    await page.clock.run_for(10)
    for code in (1001, 1006, 1011, 1012, 1013, 4000, 4499):
        await _lose(page, code, "waiting")
        await page.clock.run_for(60_000)
        await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    for code in (1000, 1003, 1008, 1009, 4500, 4999):
        await _lose(page, code, "closed")
        await expect(page.locator("#banner-text")).to_contain_text(f"({code} because)")
        attempts = await page.evaluate("window.attempts.length")
        await page.clock.run_for(60_000)
        assert await page.evaluate("window.attempts.length") == attempts
        await page.get_by_role("button", name="Try again").click()
        await page.clock.run_for(10)
        await expect(page.locator("#state")).to_have_attribute("data-state", "open")


async def test_the_server_says_how_long_to_stay_away(guests: Guests) -> None:
    page = await _alone(guests, "accept")
    await page.clock.run_for(10)
    await _lose(page, 1012, "waiting", "restart; retry_after=40.5")
    await page.clock.run_for(40_400)
    await expect(page.locator("#state")).to_have_attribute("data-state", "waiting")
    await page.clock.run_for(200)
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")


async def test_a_ping_is_answered(guests: Guests) -> None:
    page = await _alone(guests, "accept")
    await page.clock.run_for(10)
    await _receive(page, '{"type":"ping"}')
    assert await page.evaluate("window.socket.sent") == ['{"type":"pong"}']


async def _lose(page: Page, code: int, state: str, reason: str = "because") -> None:
    await page.evaluate("([code, reason]) => window.socket.lose(code, reason)", [code, reason])
    await expect(page.locator("#state")).to_have_attribute("data-state", state)


async def test_a_full_room_is_not_asked_again_until_somebody_wants_it(guests: Guests) -> None:
    page = await _alone(guests, "accept")
    await page.clock.run_for(10)
    full = {"type": "response", "status": "bad", "request_id": None, "errors": "full", "code": "channel_full"}
    await _receive(page, json.dumps(full))
    await _lose(page, 1013, "closed")
    await page.clock.run_for(300_000)
    await page.evaluate("dispatchEvent(new Event('online'))")
    await page.clock.run_for(10_000)
    assert await page.evaluate("window.attempts.length") == 1
    await page.get_by_role("button", name="Try again").click()
    await page.clock.run_for(10)
    assert await page.evaluate("window.attempts.length") == 2
    await _lose(page, 1013, "waiting")  # full no more: another reason to come back


async def test_a_message_without_an_answer_is_not_called_sent(guests: Guests) -> None:
    page = await _alone(guests, "accept")
    await page.clock.run_for(10)
    await page.locator("#draft").fill("Anybody?")
    await page.locator("#draft").press("Enter")
    delivery = page.locator(".message.own .delivery")
    await expect(delivery).to_contain_text("Sending…")
    await page.evaluate("window.socket.lose(1012)")
    await expect(delivery).to_contain_text("Not confirmed")

    await page.clock.run_for(2_000)
    await expect(page.locator("#state")).to_have_attribute("data-state", "open")
    await delivery.get_by_role("button", name="Send again").click()
    await expect(delivery).to_contain_text("Sending…")
    assert len(await page.evaluate("window.socket.sent")) == 1
    await page.clock.run_for(11_000)
    await expect(delivery).to_contain_text("Not confirmed")


async def test_a_refused_message_stays_refused_when_its_text_is_said_again(guests: Guests) -> None:
    page = await _alone(guests, "accept")
    await page.clock.run_for(10)
    messages = page.locator(".message.own")
    for _ in range(2):
        await page.locator("#draft").fill("Twice")
        await page.locator("#draft").press("Enter")
    await expect(messages).to_have_count(2)
    first = json.loads((await page.evaluate("window.socket.sent"))[0])["request_id"]
    error = {"type": "response", "status": "bad", "errors": "no", "code": "unavailable", "request_id": first}
    await _receive(page, json.dumps(error))
    said = {"type": "event", "event": "said", "data": {"by": "Ada", "text": "Twice"}}
    await _receive(page, json.dumps(said))
    await expect(messages).to_have_count(2)
    await expect(messages.first.locator(".delivery")).to_contain_text("Not sent")
    await expect(messages.last.locator(".delivery")).to_be_hidden()
    await page.evaluate("window.socket.lose(1012)")
    await expect(messages.first.locator(".delivery")).to_contain_text("Not sent")


async def test_a_handshake_that_hangs_is_given_up(guests: Guests) -> None:
    guest = await guests.new(own=True)
    await guest.page.add_init_script(SOCKETS + "WebSocket.prototype.meet = () => {};")
    await guest.page.add_init_script("WebSocket.prototype.close = function () { this.lose(1006); };")
    await guest.page.clock.install(time=0)
    await guest.page.clock.pause_at(1_000)
    await guest.ask_to_enter("Ada")
    await guest.page.clock.run_for(10_100)
    await guest.sees_state("waiting")


async def test_what_else_a_server_may_say(guests: Guests) -> None:
    page = await _alone(guests, "accept")
    await page.clock.run_for(10)
    ada, bob, nobody = ({"id": f"c{n}", "user": u, "data": None} for n, u in enumerate(("Ada", "Bob", None)))
    for frame in (
        {"type": "lagged", "channel": "lobby", "dropped": 12},
        {"type": "resync", "channel": "lobby"},
        {"type": "presence", "channel": "lobby", "version": 3, "present": [ada, nobody]},
        _diff(4, joined=[bob]),
        _diff(5, joined=[{**bob, "id": "c7"}], left=[bob["id"]]),
        _diff(6, left=[nobody["id"]]),
        _diff(8, left=["c7"]),
        {"type": "presence", "channel": "lobby", "version": 8, "present": [ada, nobody]},
        {"type": "event", "event": "weather", "data": {"sun": True}},
        {"type": "event", "event": "joined", "data": None},
    ):
        await _receive(page, json.dumps(frame))
    assert await page.evaluate("window.socket.sent") == ['{"type":"presence"}'], "one frame was missing"
    for text in ("Welcome!", "[1, 2]", "null", "{}"):
        await _receive(page, text)
    await expect(page.locator(".note")).to_have_text(
        [
            "You missed 12 messages: your connection was too slow",
            "Some messages may be missing here",
            *("You joined", "Bob joined", "Somebody left", "Bob left", "Somebody joined"),
            *("Welcome!", "[1, 2]", "null"),
        ]
    )
    error = {"type": "response", "status": "bad", "request_id": None, "errors": ["odd"], "code": "toString"}
    await _receive(page, json.dumps({**error, "retry_after": "soon"}))
    await expect(page.locator(".toast b")).to_have_text("Refused")
    await expect(page.locator(".toast .detail")).to_have_text('["odd"]')


async def _receive(page: Page, text: str) -> None:
    await page.evaluate("(data) => window.socket.dispatchEvent(new MessageEvent('message', { data }))", text)


def _diff(version: int, **what: list[Any]) -> dict[str, Any]:
    return {"type": "presence_diff", "version": version, "joined": [], "changed": [], "left": [], **what}
