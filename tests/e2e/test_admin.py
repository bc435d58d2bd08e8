"""The page for operators, used by one."""

from __future__ import annotations

import asyncio
import json
import runpy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import pytest
from playwright.async_api import Locator, Page, expect
from websockets.asyncio.client import ClientConnection, connect

from tests.support.live import wait_until

from .accessibility import BROKEN, FAINT, FOCUSED, OVERFLOWING, SCROLLING, UNLABELLED, faults
from .guests import PATIENCE, Guests
from .operated import HOSTILE
from .server import ROOT

LONG = "tenants.of.the.organisation." * 4 + "ä" * 60
"""A name of a room, and of a user."""

pytestmark = pytest.mark.asyncio(loop_scope="session")


class Operator:
    """One who is signed in, before the page."""

    def __init__(self, page: Page, url: str) -> None:
        page.set_default_timeout(PATIENCE)
        self.page = page
        self.url = url

    async def open(self, view: str = "", path: str = "admin/") -> Operator:
        """Goes there, and returns when all of the view has been shown."""
        await self.page.goto(f"{self.url}{path}#{view}")
        opened = await self.page.evaluate("location.hash")
        await expect(self.page.locator("html")).to_have_attribute("data-ready", opened)
        return self

    def card(self, title: str) -> Locator:
        heading = self.page.get_by_role("heading", name=title, exact=True)
        return self.page.locator(".panel-card", has=heading)

    def row(self, text: str) -> Locator:
        return self.page.get_by_role("row").filter(has_text=text)

    async def click(self, name: str, within: Locator | None = None) -> None:
        await (within or self.page).get_by_role("button", name=name, exact=True).click()

    async def confirm(self, name: str, **fields: str) -> None:
        """Fills the dialog, and goes on."""
        dialog = self.page.get_by_role("dialog")
        for label, value in fields.items():
            control = dialog.get_by_label(label.replace("_", " "))
            if await control.evaluate("each => each.localName") == "select":
                await control.select_option(label=value)
            else:
                await control.fill(value)
        await self.click(name, dialog)

    @property
    def toast(self) -> Locator:
        return self.page.locator("#toast")


async def operator(guests: Guests, **options: Any) -> Operator:
    guest = await guests.new(**options)
    await guest.page.request.post(guest.url + "sign-in")
    return Operator(guest.page, guest.url)


@asynccontextmanager
async def client(
    guests: Guests, room: str, user: str | None = None, at: str = "chat"
) -> AsyncIterator[ClientConnection]:
    query = "" if user is None else f"?user={quote(user, safe='')}"
    url = f"{guests.url.replace('http', 'ws')}{at}/{quote(room, safe='')}{query}"
    async with connect(url, proxy=None) as websocket:
        yield websocket


async def test_it_shows_the_processes_and_what_passes(operators: Guests) -> None:
    async with client(operators, "busy", "ada") as ada:
        they = await (await operator(operators)).open()
        await expect(they.card("Processes").get_by_text("ready", exact=True)).to_be_visible()
        connections = they.page.locator('[data-tile="connections"] .value')
        await expect(connections).to_have_text("1")
        await expect(they.card("Jobs")).to_contain_text("Orders.tidy")
        await ada.send("nonsense")
        await expect(they.card("Errors")).to_contain_text("parse_error")
        await expect(they.page.locator('[data-tile="inRate"] .value')).not_to_have_text("—")


async def test_without_the_broker_it_says_that_it_sees_one_process_alone(operators: Guests) -> None:
    they = await operator(operators)

    async def answer(route: Any) -> None:
        found = await (await route.fetch()).json()
        await route.fulfill(json={id: report | {"broker_away": 2.7} for id, report in found.items()})

    await they.page.route("**/admin/nodes", answer)
    await they.open()
    row = they.row("broker away for 2.7 s")
    await expect(row).to_have_attribute("data-state", "warn")
    await expect(they.page.locator('[data-tile="processes"]')).to_contain_text("the others cannot be asked")


async def test_who_does_not_read_is_listed_and_closed(operators: Guests) -> None:
    they = await operator(operators)
    await they.open()
    await expect(they.card("Processes").get_by_text("ready", exact=True)).to_be_visible()
    await expect(they.card("Who does not read")).to_be_hidden()
    async with client(operators, "busy", "sleeper") as sleeper:
        (member,) = (await (await they.page.request.get(f"{they.url}admin/rooms/busy/members")).json())[
            "items"
        ]
        slow = {
            "process": "a",
            "user": "sleeper",
            "address": "127.0.0.1",
            "rooms": ["busy"],
            "waiting": 70_000,
        }

        async def answer(route: Any) -> None:
            await route.fulfill(json=[{"id": member["id"], **slow}])

        await they.page.route("**/admin/slow", answer)
        await they.page.reload()
        await expect(they.row("70,000").get_by_role("link", name="sleeper")).to_be_visible()
        await they.click("Disconnect", they.row("70,000"))
        await they.confirm("Disconnect")
        await sleeper.wait_closed()


async def test_rooms_are_found_by_name_and_by_pages(operators: Guests) -> None:
    they = await operator(operators)
    async with client(operators, "tea/green", "ada"), client(operators, "north", "bob", at="orders"):
        await they.open("rooms")
        await expect(they.row("tea/green")).to_be_visible()
        await they.page.get_by_label("Part of a name").fill("nor")
        await expect(they.row("tea/green")).to_be_hidden()
        await expect(they.row("north")).to_contain_text("orders")
        await they.page.get_by_role("link", name="north").click()
        await expect(they.card("Members").get_by_role("link", name="bob")).to_be_visible()
        await they.page.get_by_role("link", name="bob").click()
        await expect(they.card("Connections")).to_contain_text("127.0.0.1")


async def test_a_page_of_rooms_and_the_next(operators: Guests) -> None:
    they = await operator(operators)
    many = {"items": [{"name": f"r{n}", "scope": "", "members": 1} for n in range(50)], "complete": True}
    asked: list[str] = []

    async def answer(route: Any) -> None:
        asked.append(route.request.url)
        await route.fulfill(json={**many, "total": 120})

    await they.page.route("**/admin/rooms?*", answer)
    await they.open("rooms")
    await expect(they.page.get_by_text("1 to 50 of 120")).to_be_visible()
    await they.click("Next")
    await expect(they.page.get_by_text("51 to 100 of 120")).to_be_visible()
    assert "offset=50" in asked[-1]
    await they.click("Previous")
    await expect(they.page.get_by_text("1 to 50 of 120")).to_be_visible()


async def test_nothing_leads_through_pages_before_it_is_known_how_many_there_are(operators: Guests) -> None:
    they = await operator(operators)
    asked, known = asyncio.Event(), asyncio.Event()

    async def answer(route: Any) -> None:
        asked.set()
        await known.wait()
        await route.fulfill(json={"items": [], "total": 51})

    await they.page.route("**/members?*", answer)
    await they.page.goto(f"{they.url}admin/#room//tea")
    await asked.wait()
    following = they.card("Members").get_by_role("button", name="Next")
    await expect(they.card("Members")).to_be_visible()
    assert not await following.is_visible()
    known.set()
    await expect(following).to_be_visible()


async def test_a_room_is_heard_as_its_messages_pass(operators: Guests) -> None:
    they = await operator(operators)
    async with client(operators, "loud", "ada") as ada:
        await they.open("room//loud")
        await they.click("Listen")
        await expect(they.page.get_by_text("Passed: 0")).to_be_visible()
        for number in range(2):
            await ada.send(json.dumps({"action": "say", "text": f"hello {number}"}))
        messages = they.card("Messages").locator(".passing > li")
        await expect(messages).to_have_count(2)
        await expect(messages.first).to_contain_text("hello 1")
        await messages.first.locator("summary").click()
        await expect(messages.first.locator("pre")).to_contain_text('"event": "said"')
        await expect(they.page.get_by_text("Passed: 2, not shown: 0")).to_be_visible()
        await they.click("Stop")
        await expect(they.page.get_by_text("Stopped. Passed: 2")).to_be_visible()
        await they.click("Clear")
        await they.click("Read the history")
        await expect(messages).to_have_count(2)


async def test_an_event_is_published_by_its_form(operators: Guests) -> None:
    they = await operator(operators)
    async with client(operators, "south", "ada", at="orders") as ada:
        await they.open("room/orders/south")
        form = they.card("Publish")
        await they.click("Publish", form)
        await expect(form.locator(".field-error").first).not_to_be_empty()
        await form.get_by_label("number").fill("0")
        await they.click("Publish", form)
        await expect(form.locator(".field-error").first).not_to_be_empty()
        await form.get_by_label("number").fill("7")
        await they.click("Publish", form)
        await expect(they.toast).to_have_text("placed was published.")
        while (frame := json.loads(await ada.recv()))["type"] != "event":
            pass
        assert (frame["event"], frame["data"]["number"]) == ("placed", 7)


async def test_a_text_that_nobody_has_typed_is_asked_for_and_may_be_empty(operators: Guests) -> None:
    they = await operator(operators)
    async with client(operators, "untyped", "ada", at="orders") as ada:
        await they.open("room/orders/untyped")
        form = they.card("Publish")
        await form.get_by_label("Event", exact=True).select_option("remark")
        await they.click("Publish", form)
        await expect(form.locator(".field-error:not(:empty)")).to_have_text(
            "This is needed. If it is to be empty, write something and delete it."
        )
        await form.get_by_label("text").fill("something")
        await form.get_by_label("text").fill("")
        await they.click("Publish", form)
        await expect(they.toast).to_have_text("remark was published.")
        await form.get_by_label("text").fill("last")
        await they.click("Publish", form)
        heard = []
        while heard[-1:] != ["last"]:
            frame = json.loads(await ada.recv())
            if frame["type"] == "event":
                heard.append(frame["data"]["text"])
        assert heard == ["", "last"]


async def test_a_room_of_no_channel_that_is_known_is_shown_all_the_same(operators: Guests) -> None:
    they = await operator(operators)
    async with client(operators, "away", "eve"), client(operators, "back", "ada", at="hidden"):
        await they.open("user/eve")
        await they.open("room/hidden/back")
        await expect(they.page.get_by_text("has no channel for this room")).to_be_visible()
        await expect(they.card("Members").get_by_role("link", name="ada")).to_be_visible()
        await expect(they.card("Publish")).to_be_hidden()
        await they.click("Listen")
        await expect(they.page.get_by_text("Passed: 0")).to_be_visible()


async def test_nothing_of_a_view_stays_where_the_next_cannot_be_shown(operators: Guests) -> None:
    they = await operator(operators)
    broken = "export class Bans { constructor() { throw new Error('on purpose'); } }"
    await they.page.route(
        "**/files/bans.js", lambda route: route.fulfill(body=broken, content_type="text/javascript")
    )
    await they.open("user/eve")
    await expect(they.page.get_by_role("button", name="Disconnect all")).to_be_visible()
    await they.open("bans")
    await expect(they.page.locator("#view")).to_have_text("This cannot be shown: on purpose")
    await wait_until(lambda: operators.problems)
    assert "on purpose" in str(operators.problems)
    operators.problems.clear()  # it is told in the console too


async def test_connections_and_users_are_ended(operators: Guests) -> None:
    they = await operator(operators)
    async with client(operators, "end", "eve") as one, client(operators, "other", "eve") as other:
        await they.open("room//end")
        await they.click("Disconnect", they.row("eve"))
        await they.page.keyboard.press("Escape")
        await expect(they.row("eve")).to_be_visible()
        await they.click("Disconnect", they.row("eve"))
        await they.confirm("Disconnect", Close_code="4500", Reason="enough")
        await expect(they.page.get_by_text("Nobody is in this room.")).to_be_visible()
        await one.wait_closed()
        assert (one.close_code, one.close_reason) == (4500, "enough")
        await they.open("user/eve")
        await expect(they.row("other")).to_be_visible()
        await they.click("Disconnect all")
        await they.confirm("Disconnect all")
        await expect(they.page.get_by_text("No connections.")).to_be_visible()
        await other.wait_closed()
        assert other.close_code == 4503


async def test_a_user_is_banned_and_let_in_again(operators: Guests) -> None:
    they = await operator(operators)
    async with client(operators, "ban", "mallory") as mallory:
        await they.open("user/mallory")
        await they.click("Ban")
        await they.confirm("Ban", For_how_long="1 hour", Reason="spam")
        await expect(they.toast).to_have_text("mallory is banned.")
        await mallory.wait_closed()
        assert mallory.close_code == 4503
    await they.open("bans")
    await expect(they.row("mallory")).to_contain_text("spam")
    await expect(they.row("mallory")).to_contain_text("grace")
    with pytest.raises(Exception, match="403"):
        async with client(operators, "ban", "mallory"):
            pass
    await they.click("End", they.row("mallory"))
    await they.confirm("End")
    await expect(they.page.get_by_text("Nobody is banned.")).to_be_visible()
    async with client(operators, "ban", "mallory"):
        pass


async def test_who_has_no_name_is_banned_by_the_address(operators: Guests) -> None:
    they = await operator(operators)
    async with client(operators, "nameless"):
        await they.open("room//nameless")
        await they.click("Ban address", they.row("nobody known"))
        await expect(they.page.get_by_role("dialog")).to_contain_text("127.0.0.1")
        await they.page.keyboard.press("Escape")
        await expect(they.page.get_by_role("dialog")).to_be_hidden()
        await expect(they.row("nobody known")).to_be_visible()


async def test_read_only_there_is_nothing_to_be_done(operators: Guests) -> None:
    they = await operator(operators)
    async with client(operators, "quiet", "ada"):
        for view in ("", "room//quiet", "user/ada", "bans"):
            await they.open(view, "look/")
            await expect(they.page.get_by_text("read-only")).to_be_visible()
            await expect(they.page.locator("#view")).not_to_be_empty()
            names = await they.page.locator("#view button:visible").all_text_contents()
            assert {*names} <= {"Listen", "Read the history", "Clear"}, names
        refused = await they.page.request.post(they.url + "look/users/ada/disconnect", data={})
        assert refused.status == 404


async def test_hostile_names_are_names(operators: Guests) -> None:
    they = await operator(operators)
    async with client(operators, HOSTILE, HOSTILE) as hostile:
        await they.open("rooms")
        await they.page.get_by_role("link", name=HOSTILE).click()
        await they.click("Listen")
        await expect(they.page.get_by_text("Passed: 0")).to_be_visible()
        await hostile.send(json.dumps({"action": "say", "text": HOSTILE}))
        await expect(they.page.locator(".passing > li")).to_contain_text("window.hit")
        await they.card("Members").get_by_role("link", name=HOSTILE).click()
        await expect(they.page.get_by_role("heading", name=HOSTILE)).to_be_visible()
        await they.click("Ban")
        await they.confirm("Ban", Reason=HOSTILE)
        await hostile.wait_closed()
        await they.open("bans")
        await expect(they.row(HOSTILE)).to_be_visible()
        await they.click("End", they.row(HOSTILE))
        await they.confirm("End")
        await expect(they.page.get_by_text("Nobody is banned.")).to_be_visible()
    for wrong in ("room//..", "user/%2E", "%zz", "nothing", "room/only"):
        await they.open(wrong)
        await expect(they.page.locator("#view")).not_to_be_empty()
    assert await they.page.evaluate("window.hit") is None
    assert await they.page.locator("img").count() == 0


async def test_who_is_signed_out_is_told_so(operators: Guests) -> None:
    they = await (await operator(operators)).open("users")
    await they.page.request.post(they.url + "sign-out")
    await they.open("bans")
    await expect(they.page.get_by_role("alert")).to_contain_text("You are not let in")
    await wait_until(lambda: operators.problems)
    operators.problems.clear()  # the browser has told of the one 401: that view asks once
    await they.page.request.post(they.url + "sign-in")


SCREENS: tuple[tuple[int, Any], ...] = (
    (320, "light"),
    (390, "dark"),
    (768, "light"),
    (800, "dark"),
    (1024, "light"),
    (1440, "dark"),
)

VIEWS = ("", "rooms", f"room//{LONG}", "room//look", f"user/{LONG}", "user/ada", "users", "bans")


async def test_languages_themes_and_screens(operators: Guests) -> None:
    async with client(operators, LONG, "ada"), client(operators, "look", LONG):
        they = await operator(operators, locale="zh-CN")
        banned = {"user": f"{LONG}!", "seconds": 60, "reason": LONG[:100]}
        assert (await they.page.request.post(f"{they.url}admin/bans", data=banned)).ok
        try:
            for view in VIEWS:
                await they.open(view)
                await expect(they.page.locator("html")).to_have_attribute("lang", "zh-CN")
                for language in ("", "English"):
                    if language:
                        await they.click(language)
                    scripts = [OVERFLOWING, BROKEN, SCROLLING, *([] if language else [UNLABELLED, FAINT])]
                    for width, scheme in SCREENS:
                        await they.page.set_viewport_size({"width": width, "height": 800})
                        await they.page.emulate_media(color_scheme=scheme)
                        assert await faults(they.page, *scripts) == [], (view, width)
                await they.click("中文")
        finally:
            await they.page.request.delete(f"{they.url}admin/bans", params={"user": banned["user"]})
        await they.page.context.close()


async def test_the_keyboard_is_enough(operators: Guests) -> None:
    they = await operator(operators)
    keyboard = they.page.keyboard
    async with client(operators, "keys", "kim") as kim:
        await they.open()
        await keyboard.press("Tab")
        await expect(they.page.get_by_role("link", name="Skip to the content")).to_be_focused()
        for _ in range(10):
            await keyboard.press("Tab")
            focused = await they.page.evaluate(FOCUSED)
            assert focused["visible"] or focused["id"] == "body", focused
        await they.open("user/kim")
        await they.page.get_by_role("button", name="Disconnect all").focus()
        await keyboard.press("Enter")
        await expect(they.page.get_by_role("dialog")).to_be_visible()
        await keyboard.press("Enter")
        await kim.wait_closed()
        await expect(they.page.get_by_role("button", name="Disconnect all")).to_be_focused()


async def test_the_picture_in_the_readme_is_of_this_page() -> None:
    made = runpy.run_path(str(ROOT / "docs/images/make_admin.py"))
    assert (ROOT / "docs/images/admin.txt").read_text().strip() == made["page_of_today"](), (
        "the page has changed: run docs/images/make_admin.py, and look at all of them"
    )
