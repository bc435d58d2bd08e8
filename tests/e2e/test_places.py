"""Where one is stands in the address and in the tab: a reload stays, a link invites, unread is counted."""

import pytest
from playwright.async_api import Page, expect

from .guests import GROUP, PERSON, RELAY, Guest, Guests

pytestmark = pytest.mark.asyncio(loop_scope="session")

HIDDEN = """(hidden) => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange", { bubbles: true }));
}"""


async def _in_lobby(page: Page) -> None:
    await expect(page.get_by_role("heading", name="Join a room")).to_be_visible()


async def test_every_channel_has_an_address_and_a_reload_stays(guests: Guests) -> None:
    ada = await guests.new()
    for path in (GROUP, PERSON, RELAY):
        await ada.ask_to_enter("Ada", path)
        await ada.sees_state("open")
        await expect(ada.page).to_have_url(f"{ada.url}#{path}")
        await ada.page.reload()
        await ada.sees_state("open")
        await expect(ada.page.locator("#room-path")).to_have_text(path)


async def test_a_room_of_ones_own_is_its_name_in_the_address(guests: Guests) -> None:
    ada = await (await guests.new()).enter("Ada", room="茶 7.1")
    assert await ada.page.evaluate("decodeURIComponent(location.hash)") == "#茶 7.1"
    await ada.page.reload()
    await ada.sees_state("open")
    await expect(ada.page.get_by_role("heading", level=1)).to_have_text("茶 7.1")
    await ada.sees_people("Ada (you)")
    second = await Guest(await ada.page.context.new_page(), ada.url).enter("Ada", room="茶 7.1")
    for window in (ada, second):
        await window.sees_people("Ada (you, in 2 windows)")
        await expect(window.page.locator("#invite")).to_be_hidden()
    await second.page.close()

    await ada.page.get_by_role("button", name="Leave").click()
    await expect(ada.page).to_have_url(ada.url)
    await ada.page.reload()
    await _in_lobby(ada.page)


async def test_the_browsers_buttons_go_from_room_to_room(guests: Guests) -> None:
    ada = await guests.new()
    await ada.ask_to_enter("Ada", room="first")
    await ada.sees_state("open")
    await ada.page.evaluate("location.hash = 'second'")
    await expect(ada.page.get_by_role("heading", level=1)).to_have_text("second")
    await ada.sees_state("open")
    await ada.page.go_back()
    await expect(ada.page.get_by_role("heading", level=1)).to_have_text("first")
    await ada.sees_state("open")
    await ada.sees_people("Ada (you)")
    await ada.page.go_back()
    await _in_lobby(ada.page)


async def test_a_link_asks_for_a_name_and_nothing_else(guests: Guests) -> None:
    bob = await guests.new()
    await bob.page.goto(f"{bob.url}#tea")
    await _in_lobby(bob.page)
    await expect(bob.page.get_by_label("Name of the room")).to_have_value("tea")
    await bob.page.get_by_label("Your name").fill("Bob")
    await bob.page.keyboard.press("Enter")
    await bob.sees_state("open")
    await expect(bob.page.get_by_role("heading", level=1)).to_have_text("tea")


@pytest.mark.parametrize("address", ["#%E8%8C", "#/nowhere", "#../secret", "#<img src=x>"])
async def test_an_address_that_names_no_room_is_the_lobby(guests: Guests, address: str) -> None:
    ada = await guests.new()
    await ada.page.goto(ada.url + address)
    await _in_lobby(ada.page)
    await expect(ada.page.get_by_label("Name of the room")).to_have_value("lobby")


async def test_who_is_alone_may_copy_the_link(guests: Guests) -> None:
    ada = await guests.new(permissions=["clipboard-read", "clipboard-write"])
    await ada.enter("Ada", room="empty")
    button = ada.page.get_by_role("button", name="Copy link")
    await button.click()
    await expect(ada.page.locator("#copy")).to_have_text("Copied")
    link = await ada.page.evaluate("navigator.clipboard.readText()")
    assert link == f"{ada.url}#empty"

    bob = await guests.new()
    await bob.page.goto(link)
    await bob.page.get_by_label("Your name").fill("Bob")
    await bob.page.keyboard.press("Enter")
    await ada.sees_people("Ada (you)", "Bob")
    await expect(ada.page.locator("#invite")).to_be_hidden()
    await expect(bob.page.locator("#invite")).to_be_hidden()


async def test_without_a_clipboard_the_link_is_selected(guests: Guests) -> None:
    ada = await guests.new(own=True)
    await ada.page.add_init_script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    await ada.enter("Ada", room="insecure")
    await ada.page.get_by_role("button", name="Copy link").click()
    assert await ada.page.evaluate("getSelection().toString()") == f"{ada.url}#insecure"


async def test_the_tab_says_where_one_is_and_what_is_unread(guests: Guests) -> None:
    ada = await (await guests.new()).enter("Ada", room="tab")
    bob = await (await guests.new()).enter("Bob", room="tab")
    await expect(ada.page).to_have_title("tab · FastAPI Channels")
    await ada.page.evaluate(HIDDEN, True)
    await bob.say("one")
    await bob.say("two")
    await expect(ada.page).to_have_title("(2) tab · FastAPI Channels")
    await ada.page.get_by_role("button", name="中文").click()
    await expect(ada.page).to_have_title("(2) tab · FastAPI Channels")
    await ada.page.evaluate(HIDDEN, False)
    await expect(ada.page).to_have_title("tab · FastAPI Channels")


async def test_what_lies_below_the_end_is_unread_too(guests: Guests) -> None:
    ada = await guests.new(viewport={"width": 900, "height": 400})
    await ada.enter("Ada", room="below")
    bob = await (await guests.new()).enter("Bob", room="below")
    await ada.say("\n".join("long" for _ in range(40)))
    await expect(ada.log.locator(".message")).to_have_count(1)
    await _to_the_top(ada)
    await bob.say("news")
    await expect(ada.page).to_have_title("(1) below · FastAPI Channels")
    await ada.page.get_by_role("button", name="New messages: 1").click()
    await expect(ada.page).to_have_title("below · FastAPI Channels")


async def _to_the_top(guest: Guest) -> None:
    await guest.log.focus()
    await guest.page.keyboard.press("Home")
    await guest.page.wait_for_function("document.getElementById('log').scrollTop === 0")
