"""How the page looks, from a small phone to a large screen, in both themes and both languages."""

import runpy
from typing import Any

import pytest
from playwright.async_api import Locator, expect

from .accessibility import FAINT, OVERFLOWING, UNLABELLED, faults
from .guests import Guest, Guests
from .server import ROOT

pytestmark = pytest.mark.asyncio(loop_scope="session")

HEIGHTS = {320: 640, 390: 844, 1280: 720, 1920: 1080}
each_kind = pytest.mark.parametrize("widths", [(320, 390), (1280, 1920)], ids=["phones", "desktops"])
"""Runs a test once for each kind of screen: its page is made larger, as it need not be loaded anew."""
EDGES = """(selectors) => selectors.map((selector) => {
  const element = document.querySelector(selector);
  const { paddingLeft, paddingRight } = getComputedStyle(element);
  const { left, right } = element.getBoundingClientRect();
  return [Math.round(left + parseFloat(paddingLeft)), Math.round(right - parseFloat(paddingRight))];
})"""


async def _guest(guests: Guests, width: int, **options: Any) -> Guest:
    phone = {"has_touch": True, "is_mobile": True} if width < 600 else {}
    return await guests.new(viewport={"width": width, "height": HEIGHTS[width]}, **phone, **options)


async def _resize(guest: Guest, width: int) -> None:
    await guest.page.set_viewport_size({"width": width, "height": HEIGHTS[width]})


@each_kind
@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
async def test_it_fits_and_can_be_read(guests: Guests, widths: tuple[int, ...], locale: str) -> None:
    ada = await _guest(guests, widths[0], locale=locale)
    page = ada.page
    await page.goto(ada.url)
    await _sound(ada, widths)
    await page.locator("#name").fill("Ada")
    await page.locator("#room-name").fill(f"look {widths[0]} {locale}")
    await page.locator("#lobby").get_by_role("button").click()
    await ada.sees_state("open")
    await expect(page.locator("#invite")).to_be_visible()
    await _sound(ada, widths)
    await ada.say("你好 " * 40)
    await expect(ada.log.locator(".message .delivery")).to_be_hidden()
    await _sound(ada, widths)
    if widths[0] <= 900:
        await page.locator("#side-toggle").click()
        await page.locator("#wire summary").click()
        await _sound(ada, widths)


async def _sound(guest: Guest, widths: tuple[int, ...]) -> None:
    for width in widths:
        await _resize(guest, width)
        for scheme in ("light", "dark"):
            await guest.page.emulate_media(color_scheme=scheme)
            assert await faults(guest.page, OVERFLOWING, FAINT, UNLABELLED) == []


@each_kind
async def test_title_messages_and_composer_have_one_gutter(guests: Guests, widths: tuple[int, ...]) -> None:
    ada = await (await _guest(guests, widths[0])).enter("Ada", room=f"gutter {widths[0]}")
    await ada.say("hello")
    await expect(ada.message("hello")).to_be_visible()
    lines = [".message", "#composer", "#banner", "#toasts"]
    await ada.page.evaluate("document.getElementById('banner').hidden = false")
    for width in widths:
        await _resize(ada, width)
        edges = await ada.page.evaluate(EDGES, lines if width < 600 else [*lines, ".chat-head"])
        assert all(edge == edges[0] for edge in edges), dict(zip([*lines, ".chat-head"], edges, strict=False))


async def test_a_phone_has_one_row_above_the_messages(guests: Guests) -> None:
    ada = await (await _guest(guests, 320)).enter("Ada", room="a long name of a room")
    await _one_row(ada)
    await _resize(ada, 390)
    await _one_row(ada)


async def _one_row(ada: Guest) -> None:
    row = [
        ada.page.locator(f"#{id}")
        for id in ("leave", "state", "room-title", "side-toggle", "language", "theme")
    ]
    boxes = [await _box(part) for part in row]
    middles = [box["y"] + box["height"] / 2 for box in boxes]
    assert max(middles) - min(middles) < 3
    ends = [box["x"] + box["width"] for box in boxes]
    assert all(end <= box["x"] for end, box in zip(ends, boxes[1:], strict=False)), (
        "they lie over one another"
    )
    assert (await _box(ada.log))["y"] < 60


async def _box(part: Locator) -> Any:
    box = await part.bounding_box()
    assert box is not None
    return box


@pytest.mark.parametrize("width", HEIGHTS)
async def test_a_toast_covers_no_message(guests: Guests, width: int) -> None:
    ada = await (await _guest(guests, width)).enter(f"Ada {width}", room="toasts")
    for number in range(5):
        await ada.say("\n".join([f"line {number}"] * 9))
        await expect(ada.log.locator(".message .delivery:visible")).to_have_count(0)
    await ada.say("too soon")
    refused = ada.message("too soon")
    await expect(ada.toast("rate_limited")).to_be_in_viewport(ratio=1)
    await expect(refused).to_be_in_viewport(ratio=1)
    toast, message = await _box(ada.toast("rate_limited")), await _box(refused)
    assert message["y"] + message["height"] <= toast["y"]
    assert toast["y"] + toast["height"] <= (await _box(ada.page.locator("#composer")))["y"]


async def test_there_is_one_accent(guests: Guests) -> None:
    ada = await (await guests.new()).enter("Ada", room="accent")
    await ada.say("hello")
    colors = []
    for scheme in ("light", "dark"):
        await ada.page.emulate_media(color_scheme=scheme)
        color = await _css(ada.message("hello").locator(".text"), "background-color")
        await expect(ada.send).to_have_css("background-color", color)
        await expect(ada.page.locator("#call-button")).to_have_css("background-color", color)
        await expect(ada.page.locator(".brand rect")).to_have_css("fill", color)
        await expect(ada.draft).to_have_css("outline-color", color)
        colors.append(color)
    assert colors[0] != colors[1]


async def _css(part: Locator, name: str) -> str:
    return await part.evaluate("(element, name) => getComputedStyle(element)[name]", name)


async def test_the_switch_shows_what_it_switches_to(guests: Guests) -> None:
    ada = await guests.new(color_scheme="dark")
    await ada.page.goto(ada.url)
    sun, moon = ada.page.locator("#theme .sun"), ada.page.locator("#theme .moon")
    for _ in range(2):
        await expect(sun).to_be_visible()
        await expect(moon).to_be_hidden()
        await ada.page.locator("#theme").click()
        await expect(moon).to_be_visible()
        await expect(sun).to_be_hidden()
        await ada.page.locator("#theme").click()


async def test_ones_own_bubbles_have_no_name(guests: Guests) -> None:
    ada = await (await guests.new()).enter("Ada", room="names")
    bob = await (await guests.new()).enter("Bob", room="names")
    await ada.say("mine")
    await bob.sees("mine", by="Ada")
    assert (await _box(ada.message("mine").locator(".author")))["width"] <= 1
    assert (await _box(bob.message("mine").locator(".author")))["width"] > 10


async def test_the_frames_are_beside_the_chat_newest_last_and_in_columns(guests: Guests) -> None:
    ada = await (await _guest(guests, 1920)).enter("Ada", room="frames")
    chat, wire, side = [await _box(ada.page.locator(f"#{id}")) for id in ("chat", "wire", "side")]
    assert chat["x"] + chat["width"] <= wire["x"]
    assert wire["x"] + wire["width"] <= side["x"]
    for _ in range(12):
        await ada.call("who")
        await expect(ada.page.locator("#result")).to_have_text('[ "Ada" ]')
    await ada.call("nothing")
    frames = ada.page.locator("#frames li")
    await expect(frames.last.locator(".what")).to_have_text("bad")
    await expect(frames.last).to_be_in_viewport()
    await expect(frames.first).not_to_be_in_viewport()
    for column in ("time", ".way", ".what", ".raw"):
        places = await ada.page.locator(f"#frames li > {column}").evaluate_all(
            "(parts) => parts.map((part) => Math.round(part.getBoundingClientRect().left))"
        )
        assert len(set(places)) == 1, column
    colors = {
        await _css(ada.page.locator(f'#frames [data-kind="{kind}"]').last.locator(".what"), "color")
        for kind in ("sent", "reply", "error")
    }
    assert len(colors) == 3
    text = await frames.last.locator(".raw").inner_text()
    assert text.startswith('{"type":"response"')
    await expect(frames.last.locator(".raw .string").first).to_have_text('"response"')


async def test_frames_that_are_opened_are_scrolled_to(guests: Guests) -> None:
    ada = await guests.new(viewport={"width": 1000, "height": 500})
    await ada.enter("Ada", room="opened")
    await ada.call("who")
    frames = ada.page.locator("#frames li")
    await expect(frames.first).to_be_hidden()
    await ada.page.get_by_text("Frames on the wire").click()
    await expect(frames.last).to_be_in_viewport(ratio=1)


async def test_frames_stay_at_their_end_on_a_screen_that_gets_lower(guests: Guests) -> None:
    ada = await (await _guest(guests, 1280)).enter("Ada", room="lower")
    for _ in range(10):
        await ada.call("who")
    frames = ada.page.locator("#frames li")
    await expect(frames.last).to_be_in_viewport(ratio=1)
    # As where the browser has still to tell that the page itself has scrolled.
    lower = 'list => { list.style.maxHeight = "150px"; list.dispatchEvent(new Event("scroll")); }'
    await ada.page.locator("#frames").evaluate(lower)
    await expect(frames.last).to_be_in_viewport(ratio=1)
    await ada.page.set_viewport_size({"width": 1280, "height": 400})
    await expect(frames.last).to_be_in_viewport(ratio=1)


async def test_a_screen_that_grows_gets_the_frames_beside_the_chat(guests: Guests) -> None:
    ada = await (await _guest(guests, 1280)).enter("Ada", room="growing")
    frames = ada.page.locator("#room > #wire")
    await expect(frames).to_be_visible()
    await ada.page.set_viewport_size({"width": 1100, "height": 720})
    await expect(ada.page.locator("#side > #wire")).to_be_attached()
    await ada.page.set_viewport_size({"width": 1280, "height": 720})
    await expect(frames).to_be_visible()


async def test_the_readme_shows_the_page_as_it_is() -> None:
    made = runpy.run_path(str(ROOT / "docs/images/make_demo.py"))
    taken = (ROOT / "docs/images/demo.txt").read_text().strip()
    assert taken == made["page_of_today"](), (
        "the page has changed: run docs/images/make_demo.py, and look at both"
    )
