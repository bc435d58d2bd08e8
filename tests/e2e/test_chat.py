"""Two browsers talk in each kind of room."""

import re

import pytest
from playwright.async_api import expect

from .guests import GROUP, PERSON, RELAY, Guests, seconds_in
from .server import Example

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_two_guests_chat_in_a_room_of_their_own(guests: Guests) -> None:
    ada = await (await guests.new()).enter("Ada", room="engines")
    bob = await (await guests.new()).enter("Bob", room="engines")
    await ada.sees_note("Bob joined")
    await ada.sees_people("Ada (you)", "Bob")
    await bob.sees_people("Bob (you)", "Ada")

    await ada.say("Hello Bob")
    await bob.sees("Hello Bob", by="Ada")
    await bob.say("Hello Ada")
    await ada.sees("Hello Ada", by="Bob")

    await ada.sees("Hello Bob", by="Ada")
    await expect(ada.message("Hello Bob")).to_have_class("message own")
    await expect(bob.message("Hello Bob")).to_have_class("message")
    await expect(ada.draft).to_have_value("")

    await bob.page.get_by_role("button", name="Leave").click()
    await expect(bob.page.get_by_role("heading", name="Join a room")).to_be_visible()
    await ada.sees_note("Bob left")
    await ada.sees_people("Ada (you)")


async def test_a_page_that_is_loaded_anew_is_no_leave_and_no_join(guests: Guests) -> None:
    ada = await (await guests.new()).enter("Ada", room="reloading")
    bob = await (await guests.new()).enter("Bob", room="reloading")
    await ada.sees_note("Bob joined")
    await bob.page.reload()
    await bob.sees_state("open")
    await bob.sees_people("Bob (you)", "Ada")
    replaced = (
        ada.page.locator("#frames li .raw").filter(has_text="presence_diff").filter(has_not_text='"left":[]')
    )
    await expect(replaced).to_have_count(1)
    await expect(replaced).to_contain_text('"user":"Bob"')
    cut = await ada.page.locator("#frames .what").evaluate_all(
        "names => names.filter(name => name.scrollWidth > name.clientWidth).map(name => name.textContent)"
    )
    assert cut == [], "every name is whole"
    await expect(ada.log.locator(".note")).to_have_text(["You joined", "Bob joined"])
    await ada.sees_people("Ada (you)", "Bob")


async def test_rooms_are_apart(guests: Guests) -> None:
    here = await (await guests.new()).enter("Ada", room="here")
    there = await (await guests.new()).enter("Bob", room="there")
    await here.say("Only here")
    await there.say("Only there")
    await here.sees("Only here", by="Ada")
    await there.sees("Only there", by="Bob")
    await expect(here.log.locator(".note, .message .text")).to_have_text(["You joined", "Only here"])
    await expect(there.message("Only here")).to_have_count(0)
    await here.sees_people("Ada (you)")


async def test_somebody_of_the_same_name_is_somebody_else(guests: Guests) -> None:
    here = await (await guests.new()).enter("Ada", room="twins")
    there = await (await guests.new()).enter("Ada", room="twins")
    await here.say("from here")
    await here.sees("from here", by="Ada")
    await there.say("from there")
    await expect(here.message("from there")).to_have_class("message")
    await there.say("and again")
    await expect(here.message("and again")).to_have_class("message continued")


async def test_a_limit_counts_down_and_then_the_message_goes_out(
    own_guests: Guests, own_server: Example
) -> None:
    ada = await (await own_guests.new()).enter("Ada", GROUP)
    bob = await (await own_guests.new()).enter("Bob", GROUP)
    await ada.sees_note("You joined")

    await ada.say("first")
    await bob.sees("first", by="Ada")
    await bob.sees_people("Bob (you)", "Ada")
    await ada.say("second")

    toast = ada.toast("rate_limited")
    await expect(toast).to_have_attribute("role", "alert")
    assert 1 <= seconds_in(await toast.locator(".wait").inner_text()) <= 3
    assert len(re.findall(r"\d+ s\b", await ada.page.locator("body").inner_text())) == 1, "one countdown"
    await expect(ada.send).to_be_disabled()
    await expect(ada.page.locator("#call-button")).to_be_disabled()
    await expect(ada.message("second").locator(".delivery-text")).to_have_text("Not sent")

    await ada.say("third")
    await expect(ada.draft).to_have_value("third")
    await expect(ada.message("third")).to_have_count(0)

    await expect(toast).to_have_count(0)
    await expect(ada.send).to_be_enabled()
    await expect(ada.send).to_have_text("Send")
    await ada.message("second").get_by_role("button", name="Send again").click()
    await bob.sees("second", by="Ada")
    await ada.sees("second", by="Ada")

    await ada.say("fourth")
    await expect(toast).to_be_visible()
    own_guests.may_lose = True
    own_server.kill()
    await ada.sees_state("waiting")
    assert await toast.count() == 0, "it counts down to one thing at a time"


async def test_a_third_guest_is_told_that_a_room_for_two_is_full(own_guests: Guests) -> None:
    ada = await (await own_guests.new()).enter("Ada", PERSON)
    bob = await (await own_guests.new()).enter("Bob", PERSON)
    await ada.say("Just us")
    await bob.sees("Just us", by="Ada")

    eve = await own_guests.new()
    await eve.ask_to_enter("Eve", PERSON)
    for _ in range(2):
        await eve.sees_state("closed")
        await expect(eve.page.locator("#banner-text")).to_have_text(
            "The room is full. Try again when somebody has left."
        )
        await expect(eve.send).to_be_disabled()
        await expect(eve.log.locator(".note, .message")).to_have_count(0)
        await eve.sees_people()
        await eve.page.get_by_role("button", name="Try again").click()
    await eve.sees_state("closed")

    await bob.page.get_by_role("button", name="Leave").click()
    await expect(bob.page.get_by_role("heading", name="Join a room")).to_be_visible()
    await eve.page.get_by_role("button", name="Try again").click()
    await eve.sees_state("open")
    await eve.say("May I?")
    await ada.sees("May I?", by="Eve")
    await expect(eve.message("Just us")).to_have_count(0)


async def test_a_relay_passes_on_what_the_page_and_others_send(guests: Guests) -> None:
    ada = await (await guests.new()).enter("Ada", RELAY)
    bob = await (await guests.new()).enter("Bob", RELAY)
    await expect(ada.page.locator("#no-actions")).to_be_visible()
    await ada.say("As it is")
    await bob.sees("As it is", by="Ada")
    await ada.sees("As it is", by="Ada")
    pretended = '{"type":"response","status":"bad","errors":"no","code":"rate_limited","retry_after":999}'
    await _flood(bob, ["plain text", pretended])
    await ada.sees("plain text", by="Somebody")
    await ada.sees(pretended, by="Somebody")
    await expect(ada.page.get_by_role("alert").filter(has_text="Too fast")).to_have_count(0)
    await expect(ada.send).to_be_enabled()


async def test_the_list_is_bounded_and_stays_where_the_reader_is(guests: Guests) -> None:
    ada = await (await guests.new()).enter("Ada", RELAY)
    bob = await guests.new()  # at the door: one page that shows six hundred lines is enough
    await bob.page.goto(bob.url)
    await _flood(bob, [f"line {number}" for number in range(100)])
    await expect(ada.message("line 99")).to_be_in_viewport()

    await ada.log.focus()
    await ada.page.keyboard.press("Home")
    await expect(ada.message("line 0")).to_be_in_viewport()
    # The list scrolls, and the page around it does not.
    assert await ada.page.evaluate("document.scrollingElement.scrollHeight - innerHeight") == 0
    await _flood(bob, [f"line {number}" for number in range(100, 600)])
    jump = ada.page.get_by_role("button", name="New messages: 500")
    await expect(jump).to_be_visible()
    await expect(ada.message("line 599")).not_to_be_in_viewport()
    await expect(ada.log.locator(".message")).to_have_count(500)

    await jump.click()
    await expect(ada.message("line 599")).to_be_in_viewport()
    await expect(jump).to_be_hidden()


async def test_a_reader_who_scrolls_up_as_something_comes_stays_there(guests: Guests) -> None:
    ada = await (await guests.new()).enter("Ada", RELAY)
    bob = await guests.new()
    await bob.page.goto(bob.url)
    await _flood(bob, [f"line {number}" for number in range(100)])
    await expect(ada.message("line 99")).to_be_in_viewport()
    await ada.log.evaluate(
        "log => new MutationObserver(() => { log.scrollTop = 0; }).observe(log, { childList: true })"
    )
    await _flood(bob, ["while scrolling"])
    await expect(ada.message("while scrolling")).to_have_count(1)
    await _flood(bob, ["afterwards"])
    await expect(ada.page.get_by_role("button", name="New messages: 1")).to_be_visible()
    await expect(ada.message("line 0")).to_be_in_viewport()


async def _flood(guest, texts: list[str]) -> None:
    """Sends bare texts through the relay, as a program that is not this page does."""
    await guest.page.evaluate(
        """(texts) => new Promise((sent, failed) => {
            const socket = new WebSocket(`ws://${location.host}/base`);
            let echoes = 0;
            socket.onclose = ({ code }) => failed(new Error(`closed with ${code}`));
            socket.onopen = () => texts.forEach((text) => socket.send(text));
            socket.onmessage = () => {
                if (++echoes < texts.length) return;
                sent();
                socket.close();
            };
        })""",
        texts,
    )
