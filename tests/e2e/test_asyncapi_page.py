"""The page at /asyncapi as a document: what it says, its links, search, languages, themes, phones."""

import re
import runpy

import pytest
from playwright.async_api import Page, expect

from .accessibility import FAINT, FOCUSED, OVERFLOWING, SCROLLING, UNLABELLED, faults
from .console import Reader
from .everything import HOSTILE
from .guests import Guests
from .server import ROOT

pytestmark = pytest.mark.asyncio(loop_scope="session")

PHONE = {"viewport": {"width": 360, "height": 640}, "has_touch": True, "is_mobile": True}


async def test_it_says_what_an_action_takes_replies_and_refuses(reader: Reader) -> None:
    await reader.open("#operation/Shop.order")
    order = reader.operation("Shop.order")
    await expect(order).to_have_attribute("open", "")
    await expect(order).to_be_in_viewport()
    title = order.locator(".row", has=reader.page.locator("dt code:text-is('title')")).first
    await expect(title).to_contain_text("required")
    await expect(title).to_contain_text("characters: at most 60")
    payment = order.locator(".row", has=reader.page.locator("dt code:text-is('payment')")).first
    await expect(payment.locator(".type").first).to_have_text("Card or Invoice")
    await expect(order.locator(".chips").first).to_contain_text("50 in 60 s")
    await expect(order.locator(".chips").first).to_contain_text("IsWelcome")
    await order.locator(".errors summary").click()
    await expect(order.locator(".errors")).to_contain_text("rate_limited")
    await expect(reader.operation("Shop.old")).to_contain_text("until 2099-01-01")
    await expect(reader.operation("Shop.past")).to_contain_text("no longer served since 2020-01-01")
    await expect(reader.operation("Shop.gone")).to_contain_text("no longer served")
    await expect(reader.operation("Shop.count").locator(".mark").first).to_have_text("stream")


async def test_links_lead_into_it(reader: Reader) -> None:
    await reader.open("#operation/Shop.order")
    await reader.operation("Shop.order").get_by_role("link", name="Address").first.click()
    schema = reader.page.locator('[id="schema/Address"]')
    await expect(schema).to_have_attribute("open", "")
    await expect(schema).to_be_in_viewport()
    assert reader.page.url.endswith("#schema/Address")
    await reader.page.get_by_role("navigation").get_by_role("link", name="count").click()
    await expect(reader.operation("Shop.count")).to_have_attribute("open", "")
    await expect(reader.page.locator("#nav [aria-current]")).to_have_text("count")
    for wrong in ("#operation/%00no-such", "#%zz"):
        await reader.open(wrong)


async def test_what_is_opened_is_where_the_address_leads(reader: Reader) -> None:
    await reader.open()
    await reader.operation("Shop.count").locator("summary").first.click()
    assert reader.page.url.endswith("#operation/Shop.count")
    await reader.page.reload()
    await expect(reader.operation("Shop.count")).to_be_in_viewport()
    await expect(reader.operation("Shop.count")).to_have_attribute("open", "")


async def test_the_forms_of_a_union_have_their_names(reader: Reader) -> None:
    await reader.open("#operation/Shop.order")
    order = reader.operation("Shop.order")
    payment = order.locator(".row", has=reader.page.locator("dt code:text-is('payment')")).first
    await payment.locator("summary").first.click()
    await expect(payment.locator(".form")).to_have_text(["If it is Card", "If it is Invoice"])
    size = order.locator(".row", has=reader.page.locator("dt code:text-is('size')")).first
    await expect(size).to_contain_text('one of "small", "large"')


async def test_history_and_calls_are_shown(reader: Reader) -> None:
    await reader.open("#operation/Shop.where")
    named = reader.page.locator('[id="channel/Named"]')
    await expect(named.locator(".chips").first).to_contain_text("Keeps the last 20 for 300 s")
    await expect(named.locator(".chips").first).to_contain_text(
        "Shows who is there, and what changes every 0.1 s"
    )
    where = reader.operation("Shop.where")
    await expect(where.locator(".kind")).to_have_text("ask")
    await expect(where).to_contain_text("The client answers Address")


async def test_the_search_finds_by_any_word(reader: Reader) -> None:
    await reader.open()
    await reader.page.keyboard.press("/")
    search = reader.page.get_by_role("searchbox", name="Search channels, actions, fields")
    await expect(search).to_be_focused()
    await reader.page.keyboard.type("street order")
    await expect(reader.operation("Shop.order")).to_be_visible()
    await expect(reader.operation("Shop.count")).to_be_hidden()
    await expect(reader.page.locator('[id="channel/Named"]')).to_be_hidden()
    await expect(reader.page.locator("#found")).to_contain_text("found")
    await search.fill("nothing has these words")
    await expect(reader.page.locator("#nothing")).to_be_visible()
    await search.press("Escape")
    await expect(reader.operation("Shop.count")).to_be_visible()


async def test_what_others_wrote_is_never_markup(reader: Reader) -> None:
    await reader.open()
    await reader.page.get_by_role("button", name="Open all").click()
    await expect(reader.page.locator(".about .prose")).to_have_text(f"Hostile: {HOSTILE}")
    await expect(reader.page.get_by_role("heading", level=1)).to_contain_text("Everything <b>")
    await (await reader.connect("Shop")).connect()
    assert await reader.page.evaluate("document.querySelectorAll('img').length") == 0
    assert await reader.page.evaluate("window.hit") is None


async def test_its_policy_lets_nothing_else_in(reader: Reader) -> None:
    response = await reader.page.goto(reader.url)
    assert response is not None
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


async def _english_left(page: Page) -> list[str]:
    texts: list[str] = await page.evaluate(
        """() => [...document.querySelectorAll("body *")]
            .filter((element) => element.checkVisibility())
            .filter((element) => !element.closest(`code, .code, .prose, .row-about, .first, .welcome, select,
                noscript, a, h1, h2, #language, .links, .brand, .facts, .tag, .tab-text, .bounds, .lasting,
                .version`))
            .flatMap((element) => [element.getAttribute("aria-label"), element.placeholder,
                ...[...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data)])
            .filter(Boolean)"""
    )
    own = re.compile(r"JSON( Schema)?|UUID|Cookie|TypeScript|Python|WebSocket|bearer|app|\bs\b")
    return [text for text in texts if re.search(r"[A-Za-z]{2,}", own.sub("", text))]


async def test_the_language_changes_everywhere_with_connections_kept(reader: Reader) -> None:
    await reader.open("#operation/Shop.order")
    column = await (await reader.connect("Shop")).connect()
    await column.send("old")
    await reader.page.get_by_role("button", name="中文").click()
    await expect(reader.page.locator("html")).to_have_attribute("lang", "zh-CN")
    await column.sees_state("open")
    await expect(column.root.locator(".state-text")).to_have_text("已连接")
    await expect(reader.operation("Shop.order").locator(".required").first).to_have_text("必填")
    assert await _english_left(reader.page) == []
    await reader.page.get_by_role("button", name="新建连接").click()
    assert await _english_left(reader.page) == []
    await reader.open()
    await expect(reader.page.locator("html")).to_have_attribute("lang", "zh-CN")


async def test_the_server_writes_it_in_the_language_of_the_browser(guests_of_everything: Guests) -> None:
    guest = await guests_of_everything.new(locale="zh-CN", java_script_enabled=False)
    await guest.page.goto(guest.url + "asyncapi")
    await expect(guest.page.locator(".legend")).to_contain_text("由客户端发出")
    await expect(guest.page.get_by_role("heading", name="Shop")).to_be_visible()
    await guest.page.goto(guest.url + "asyncapi?lang=en")
    await expect(guest.page.locator(".legend")).to_contain_text("what a client sends")


async def test_every_control_has_a_name_and_every_text_contrast(reader: Reader) -> None:
    await reader.open()
    await reader.page.get_by_role("button", name="Open all").click()
    await _accessible(reader.page)
    column = await reader.connect("Named_2")
    await _accessible(reader.page)
    await column.root.get_by_label("Channel", exact=True).select_option("Shop")
    await column.connect()
    await column.send("order")
    await column.send("confirm")
    await expect(column.root.locator(".asked-card")).to_be_visible()
    await column.root.locator(".snippet summary").click()
    await _accessible(reader.page)
    await column.frames()
    await column.root.get_by_role("button", name="Disconnect").click()
    await column.sees_state("closed")
    await _accessible(reader.page)


async def _accessible(page: Page) -> None:
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)
        assert await faults(page, UNLABELLED, FAINT) == []
    await expect(page.get_by_role("heading", level=1)).to_have_count(1)


async def test_the_theme_can_be_switched_and_stays(guests_of_everything: Guests) -> None:
    guest = await guests_of_everything.new(color_scheme="dark")
    reader = await Reader(guest.page, guest.url).open()
    await expect(guest.page.locator("#theme .sun")).to_be_visible()
    await guest.page.get_by_role("button", name="Switch between light and dark").click()
    await expect(guest.page.locator("#theme .moon")).to_be_visible()
    await expect(guest.page.locator("#theme .sun")).to_be_hidden()
    await reader.open()
    await expect(guest.page.locator("html")).to_have_attribute("data-theme", "light")


async def test_a_phone_shows_everything_without_scrolling_sideways(guests_of_everything: Guests) -> None:
    guest = await guests_of_everything.new(**PHONE)
    reader = await Reader(guest.page, guest.url).open("#operation/Shop.order")
    assert await faults(guest.page, OVERFLOWING) == []
    menu = guest.page.get_by_role("button", name="Contents")
    await expect(guest.page.locator("#nav")).to_be_hidden()
    await menu.click()
    await expect(menu).to_have_attribute("aria-expanded", "true")
    await guest.page.get_by_role("navigation").get_by_role("link", name="count").click()
    await expect(guest.page.locator("#nav")).to_be_hidden()
    await expect(reader.operation("Shop.count")).to_be_in_viewport()

    column = await (await reader.connect("Shop")).connect()
    card = await column.send("count")
    await expect(card).to_have_attribute("data-state", "ok")
    assert await faults(guest.page, OVERFLOWING) == []
    await guest.page.set_viewport_size({"width": 320, "height": 640})
    for language in ("中文", "English"):
        await guest.page.get_by_role("button", name=language).click()
        assert await faults(guest.page, OVERFLOWING, SCROLLING) == []
    frames = await column.frames()
    await expect(frames.first).to_be_visible()
    await guest.page.get_by_role("button", name="Hide the console").click()
    await expect(guest.page.get_by_role("main")).to_be_visible()


async def test_the_keyboard_is_enough(reader: Reader) -> None:
    await reader.open()
    keyboard = reader.page.keyboard
    await keyboard.press("Tab")
    await expect(reader.page.get_by_role("link", name="Skip to the document")).to_be_focused()
    for _ in range(25):
        await keyboard.press("Tab")
        focused = await reader.page.evaluate(FOCUSED)
        assert focused["visible"], focused
    column = await reader.connect("Shop")
    await expect(column.field("channel")).to_be_focused()
    await keyboard.press("Enter")
    await column.sees_state("open")
    await column.action.focus()
    await column.action.select_option(label="count")
    await column.field("to").press("Enter")
    await expect(column.root.locator(".calls > li").first).to_have_attribute("data-state", "ok")
    await column.root.get_by_role("tab", name="Requests").focus()
    await keyboard.press("ArrowRight")
    await expect(column.root.get_by_role("tab", name="Frames")).to_have_attribute("aria-selected", "true")
    await expect(column.root.get_by_role("tabpanel", name="Frames")).to_be_visible()


async def test_it_is_linked_from_fastapi_and_leads_back(guests: Guests) -> None:
    guest = await guests.new()
    await Reader(guest.page, guest.url).open()
    back = guest.page.get_by_role("link", name="HTTP API")
    assert await back.get_attribute("href") == "docs"
    spec = await (await guest.page.request.get(guest.url + "openapi.json")).json()
    assert spec["externalDocs"]["url"] == "asyncapi"


async def test_the_pictures_in_the_readme_are_of_this_page() -> None:
    made = runpy.run_path(str(ROOT / "docs/images/make_asyncapi.py"))
    assert (ROOT / "docs/images/asyncapi.txt").read_text().strip() == made["page_of_today"](), (
        "the page has changed: run docs/images/make_asyncapi.py, and look at all of them"
    )
