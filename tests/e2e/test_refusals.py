"""What the page says when the server refuses something."""

import pytest
from playwright.async_api import expect

from .guests import GROUP, PERSON, ROOM, Guests

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_each_refusal_has_its_toast(guests: Guests) -> None:
    ada = await (await guests.new()).enter("Ada", room="refusals")
    for action, fields, code, title in (
        ("shout", '{"text": "HEY"}', "permission_denied", "Not permitted"),
        ("old_say", '{"text": "hey"}', "deprecated", "No longer in use"),
        ("no_such_action", "{}", "unknown_action", "Unknown action"),
        ("say", '{"text": 5}', "invalid_payload", "Fields do not fit"),
    ):
        await ada.call(action, fields)
        toast = ada.toast(code)
        await expect(toast).to_have_attribute("role", "alert")
        await expect(toast.locator("b")).to_have_text(title)
        await expect(toast.locator(".detail")).not_to_be_empty()
        await expect(ada.page.locator("#result")).to_contain_text(f'"code": "{code}"')
    await ada.toast("deprecated").get_by_role("button", name="Dismiss").click()
    await expect(ada.toast("deprecated")).to_have_count(0)
    await ada.sees_state("open")


async def test_an_action_answers_its_caller(guests: Guests) -> None:
    ada = await (await guests.new()).enter("Ada", room="answers")
    await ada.call("who")
    await expect(ada.page.locator("#result")).to_have_text('[ "Ada" ]')
    frames = ada.page.locator("#frames li")
    await expect(frames.filter(has_text='→who{"action":"who"')).to_have_count(1)
    await expect(frames.filter(has_text='←ok{"type":"response"')).to_have_count(1)


async def test_an_upstream_action_answers_its_caller_and_has_its_own_limit(guests: Guests) -> None:
    ada = await (await guests.new()).enter("Ada", PERSON)
    await ada.call("count")
    await expect(ada.page.locator("#result")).to_have_text("1")
    await ada.call("count")
    await ada.call("count")
    await expect(ada.toast("rate_limited").locator(".wait")).to_contain_text(":")
    await expect(ada.page.locator("#call-button")).to_be_disabled()
    await expect(ada.send).to_be_enabled()
    await ada.call("permission_denied")
    await expect(ada.toast("permission_denied")).to_be_visible()
    await ada.call("deprecated_action")
    await expect(ada.toast("deprecated")).to_be_visible()


async def test_fields_that_are_no_object_stay_here(guests: Guests) -> None:
    ada = await (await guests.new()).enter("Ada", room="fields")
    fault = ada.page.locator("#fields-error")
    for fields in ("{", "[1]", "null", '"text"'):
        await ada.call("say", fields)
        await expect(ada.page.get_by_label("Fields (JSON)")).to_have_attribute("aria-invalid", "true")
        await expect(fault).to_contain_text("This is not a JSON object")
        await expect(ada.page.locator("#frames li", has_text="→")).to_have_count(0)
        await ada.call("who", "{}")
        await expect(fault).to_be_empty()
        await expect(ada.page.locator("#result")).to_have_text('[ "Ada" ]')
        await ada.page.locator("#frames").evaluate("(frames) => frames.replaceChildren()")


async def test_a_close_for_good_is_told_and_the_way_back_is_a_button(guests: Guests) -> None:
    ada = await (await guests.new()).enter("Ada", GROUP)
    for action, why in (
        ("close", "The server ended the conversation. (1000"),
        ("error_true", "The server closed the connection: not permitted. (1008"),
    ):
        await ada.call(action)
        await ada.sees_state("closed")
        await expect(ada.page.locator("#banner-text")).to_contain_text(why)
        await expect(ada.send).to_be_disabled()
        await ada.page.get_by_role("button", name="Try again").click()
        await ada.sees_state("open")
        await expect(ada.send).to_be_enabled()


async def test_the_lobby_wants_a_name_and_a_room_that_fits_an_address(guests: Guests) -> None:
    ada = await guests.new()
    await ada.ask_to_enter("  ", room="../secret")
    await expect(ada.page.locator("#name-error")).to_have_text("Enter a name.")
    await expect(ada.page.locator("#room-name-error")).to_contain_text("Start with a letter or a digit")
    await expect(ada.page.get_by_label("Your name")).to_be_focused()
    await ada.page.locator(".choice", has_text=GROUP).click()
    await ada.page.locator(".choice", has_text=ROOM).click()
    await expect(ada.page.locator("#room-name-error")).to_be_empty()
    await ada.enter("Ada", room="房间 7.1")
    await expect(ada.page.get_by_role("heading", level=1)).to_have_text("房间 7.1")
