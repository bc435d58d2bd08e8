"""Languages, themes, the keyboard, phones, and hostile texts."""

import base64
import hashlib
import re

import pytest
from playwright.async_api import Page, Route, expect

from .accessibility import FAINT, OVERFLOWING, UNLABELLED, faults, tab_stops
from .guests import GROUP, RELAY, Guest, Guests

pytestmark = pytest.mark.asyncio(loop_scope="session")

PHONE = {"viewport": {"width": 360, "height": 640}, "has_touch": True, "is_mobile": True}
HOSTILE = "<img src=x onerror=window.hit=1>"


async def _english_left(page: Page) -> list[str]:
    """What is still English on a page that is in Chinese; names, code and the product are in any language."""
    texts: list[str] = await page.evaluate(
        """() => [...document.querySelectorAll("body *")]
            .filter((element) => element.checkVisibility())
            .filter((element) => !element.closest("code, .code, select, #language"))
            .flatMap((element) => [element.getAttribute("aria-label"), element.title, element.placeholder,
                ...[...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data)])
            .filter(Boolean)"""
    )
    own = re.compile(r"FastAPI Channels|JSON|Shift|English|Ada|lobby")
    return [text for text in texts if re.search(r"[A-Za-z]{2,}", own.sub("", text))]


async def test_the_language_changes_everywhere_and_stays(guests: Guests) -> None:
    ada = await (await guests.new()).enter("Ada")
    await ada.call("shout", '{"text": "HEY"}')
    await expect(ada.toast("permission_denied").locator(".detail")).to_have_text("Permission Denied")
    await ada.say("hello")
    await ada.sees("hello", by="Ada")

    await ada.page.get_by_role("button", name="中文").click()
    await expect(ada.page.locator("html")).to_have_attribute("lang", "zh-CN")
    await expect(ada.page).to_have_title("lobby · FastAPI Channels")
    await expect(ada.draft).to_have_attribute("placeholder", "输入消息")
    await expect(ada.log.locator(".note").first).to_have_text("你已加入房间")
    await ada.toast("permission_denied").get_by_role("button").click()
    await ada.page.evaluate("document.querySelector('.message .text').textContent = ''")
    assert await _english_left(ada.page) == []

    await ada.page.get_by_role("button", name="离开").click()
    await expect(ada.page).to_have_title("聊天室 · FastAPI Channels")
    assert await _english_left(ada.page) == []
    await ada.page.reload()
    await expect(ada.page.get_by_role("button", name="加入")).to_be_visible()
    await ada.page.get_by_role("button", name="English").click()
    await expect(ada.page.get_by_role("button", name="Join")).to_be_visible()


async def test_a_chinese_browser_gets_chinese_from_page_and_server(guests: Guests) -> None:
    ada = await guests.new(locale="zh-CN")
    await ada.page.goto(ada.url)
    await ada.page.get_by_label("你的名字").fill("李雷")
    await ada.page.get_by_role("button", name="加入").click()
    await ada.sees_state("open")
    await ada.page.locator("#action").select_option("shout")
    await ada.page.locator("#call-button").click()
    await expect(ada.toast("permission_denied").locator("b")).to_have_text("没有权限")
    await expect(ada.toast("permission_denied").locator(".detail")).to_have_text("权限不足")


async def test_the_theme_follows_the_system_until_it_is_switched(guests: Guests) -> None:
    ada = await guests.new(color_scheme="dark")
    await ada.page.goto(ada.url)
    dark = await _background(ada.page)
    await ada.page.get_by_role("button", name="Switch between light and dark").click()
    light = await _background(ada.page)
    assert sum(dark) < 150 < 600 < sum(light)
    await ada.page.reload()
    assert await _background(ada.page) == light
    await ada.page.get_by_role("button", name="Switch between light and dark").click()
    assert await _background(ada.page) == dark


async def _background(page: Page) -> list[int]:
    color = await page.evaluate("getComputedStyle(document.body).backgroundColor")
    return [int(channel) for channel in re.findall(r"\d+", color)]


async def test_the_keyboard_is_enough(guests: Guests) -> None:
    bob = await (await guests.new()).enter("Bob", RELAY)
    ada = await guests.new()
    await ada.page.goto(ada.url)
    keyboard = ada.page.keyboard
    await expect(ada.page.get_by_label("Your name")).to_be_focused()
    await keyboard.type("Ada")
    await keyboard.press("Tab")
    relay = ada.page.get_by_role("radio", name=re.compile("^Open line"))
    while not await relay.is_checked():
        await keyboard.press("ArrowDown")
    await keyboard.press("Enter")
    await expect(ada.draft).to_be_focused()
    await ada.sees_state("open")
    await keyboard.type("first line")
    await keyboard.press("Shift+Enter")
    await keyboard.type("second line")
    await keyboard.press("Enter")
    received = bob.log.locator(".message .text")
    await expect(received).to_have_text("first line\nsecond line", use_inner_text=True)
    await expect(ada.draft).to_be_focused()


async def test_every_control_is_a_visible_tab_stop(guests: Guests) -> None:
    ada = await (await guests.new()).enter("Ada", room="stops")
    side = ["summary", "frames", "action", "fields", "call-button"]
    top = ["language", "theme", "leave"]
    assert await tab_stops(ada.page) == ["send", *side, *top, "log", "copy", "draft"]


async def test_the_enter_that_ends_a_chinese_word_does_not_send(guests: Guests) -> None:
    ada = await (await guests.new()).enter("Ada", room="words")
    await ada.draft.fill("你好")
    await ada.draft.dispatch_event("keydown", {"key": "Enter", "isComposing": True})
    await ada.draft.dispatch_event("keydown", {"key": "Enter", "keyCode": 229})
    await expect(ada.draft).to_have_value("你好")
    await ada.draft.press("Enter")
    await ada.sees("你好", by="Ada")
    await expect(ada.message("你好")).to_have_count(1)


async def test_names_and_texts_are_never_markup(guests: Guests) -> None:
    eve = await (await guests.new()).enter(HOSTILE, room="markup")
    ada = await (await guests.new()).enter("Ada", room="markup")
    await eve.say(HOSTILE)
    await eve.say("</script><script>window.hit=1</script>")
    await ada.sees(HOSTILE, by=HOSTILE)
    await ada.sees_people("Ada (you)", HOSTILE)
    await eve.call(HOSTILE)
    await expect(eve.toast("unknown_action")).to_be_visible()
    await eve.page.get_by_role("button", name="中文").click()
    await ada.page.get_by_role("button", name="中文").click()
    for guest in (ada, eve):
        assert await guest.page.evaluate("document.querySelectorAll('main img').length") == 0
        assert await guest.page.evaluate("window.hit") is None


async def test_a_phone_shows_everything_without_scrolling_sideways(guests: Guests) -> None:
    ada = await guests.new(**PHONE)
    await ada.page.goto(ada.url)
    await _fits(ada)
    await ada.enter("A" * 40, room="r" * 64)
    await ada.say("w" * 400)
    await expect(ada.log.locator(".message")).to_be_visible()
    await _fits(ada)
    assert await faults(ada.page, FAINT) == []

    side = ada.page.get_by_role("complementary")
    toggle = ada.page.get_by_role("button", name="People and actions")
    await expect(side).to_be_hidden()
    await toggle.click()
    await expect(toggle).to_have_attribute("aria-expanded", "true")
    await expect(ada.page.get_by_role("button", name="Close")).to_be_focused()
    await _fits(ada)
    assert "draft" not in await tab_stops(ada.page)
    await ada.call("shout", '{"text": "HEY"}')
    await expect(ada.toast("permission_denied")).to_be_in_viewport(ratio=1)
    await ada.page.keyboard.press("Escape")
    await expect(side).to_be_hidden()
    await expect(toggle).to_be_focused()


async def _fits(guest: Guest) -> None:
    assert await guest.page.evaluate("innerWidth") == 360
    assert await faults(guest.page, OVERFLOWING) == []


async def test_every_control_has_a_name_and_every_text_contrast(guests: Guests) -> None:
    ada = await guests.new()
    await ada.page.goto(ada.url)
    await _accessible(ada.page)
    await ada.page.get_by_role("button", name="Join").click()
    await expect(ada.page.locator("#name-error")).not_to_be_empty()
    await _accessible(ada.page)

    await ada.enter("Ada", GROUP)
    await ada.say("said")
    await ada.say("said too soon")
    await expect(ada.toast("rate_limited")).to_be_visible()
    await ada.call("error_false")
    await expect(ada.toast("permission_denied")).to_be_visible()
    await _accessible(ada.page)
    await ada.call("error_true")
    await ada.sees_state("closed")
    await _accessible(ada.page)


async def _accessible(page: Page) -> None:
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)
        assert await faults(page, UNLABELLED, FAINT) == []
    await expect(page.get_by_role("heading", level=1)).to_have_count(1)


async def test_the_log_and_the_state_speak_to_screen_readers(guests: Guests) -> None:
    ada = await (await guests.new()).enter("Ada", room="speaking")
    await expect(ada.log).to_have_attribute("aria-live", "polite")
    await expect(ada.log).to_have_accessible_name("Messages")
    await expect(ada.page.locator("#state")).to_have_role("status")
    await expect(ada.page.locator("#state")).to_have_text("Connected")
    await expect(ada.draft).to_have_accessible_name("Message")
    await expect(ada.draft).to_have_accessible_description("Enter sends, Shift + Enter starts a new line.")
    await expect(ada.page.get_by_role("complementary")).to_have_accessible_name("People and actions")


async def test_the_page_lives_under_a_strict_content_security_policy(guests: Guests) -> None:
    # To Chromium, a page that was answered by a test comes from nowhere near the server.
    ada = await guests.new(permissions=["local-network-access"])
    await ada.page.route(ada.url, _with_policy)
    await ada.enter("Ada", room="policy")
    await ada.say("still here")
    await ada.sees("still here", by="Ada")


async def _with_policy(route: Route) -> None:
    """Lets the inline style and scripts run by their hashes, and nothing else."""
    response = await route.fetch()
    body = await response.text()
    hashes = {
        tag: " ".join(map(_hash, re.findall(rf"<{tag}(?: type=\"module\")?>(.*?)</{tag}>", body, re.DOTALL)))
        for tag in ("script", "style")
    }
    policy = (
        "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"script-src {hashes['script']}; style-src {hashes['style']}"
    )
    await route.fulfill(response=response, headers={**response.headers, "content-security-policy": policy})


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
