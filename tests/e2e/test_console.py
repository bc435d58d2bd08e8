"""The console of the page at /asyncapi: forms, requests, streams, calls, frames, connections."""

import asyncio
import json
import subprocess
import sys

import pytest
from playwright.async_api import expect

from .console import Column, Reader
from .guests import Guests
from .pages import Pages
from .server import Example

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def shop(reader: Reader) -> Column:
    await reader.open()
    return await (await reader.connect("Shop")).connect()


async def fill_order(column: Column) -> None:
    await column.action.select_option(label="order")
    await column.field("title").fill("Tea")
    await column.field("street").fill("High Street 1")
    await column.field("zip").fill("12345")
    await column.field("number").fill("4111")
    await column.field("name").fill("green")
    await column.field("on").fill("2026-12-24")


async def test_a_form_of_everything_makes_the_frame_that_the_server_understands(reader: Reader) -> None:
    column = await shop(reader)
    await fill_order(column)
    await column.field("at").fill("2026-12-24T18:00:00")
    await column.field("size").select_option(label="large")
    await column.field("gift").select_option(label="true")
    await column.field("weight").fill("0.5")
    billing = column.root.locator(".optional", has_text="billing")
    await billing.get_by_role("button", name="Add").click()
    await column.root.locator("fieldset", has_text="billing").get_by_label("street").fill("Elsewhere 2")
    await column.root.locator("fieldset", has_text="billing").get_by_label("zip").fill("54321")
    card = await column.send()
    await expect(card).to_have_attribute("data-state", "ok")
    order = json.loads(await card.locator(".result pre").inner_text())
    assert order["address"] == {"street": "High Street 1", "zip": "12345"}
    assert order["payment"] == {"kind": "card", "number": "4111"}
    assert order["items"] == [{"name": "green", "count": 1, "parts": []}]
    assert (order["on"], order["gift"], order["weight"]) == ("2026-12-24", True, 0.5)
    assert (order["size"], order["note"], order["labels"]) == ("large", None, {})
    assert order["at"].startswith("2026-12-24T")
    assert order["billing"]["zip"] == "54321"
    await expect(card.locator(".lasting")).to_contain_text("s")


async def test_one_of_several_forms_is_chosen_and_lists_grow_and_shrink(reader: Reader) -> None:
    column = await shop(reader)
    await fill_order(column)
    payment = column.root.locator("fieldset", has=reader.page.locator("legend code:text-is('payment')")).first
    await payment.get_by_label("Form").select_option(label="Invoice")
    await payment.get_by_label("street").fill("Third 3")
    await payment.get_by_label("zip").fill("00000")
    items = column.root.locator("fieldset", has=reader.page.locator("legend code:text-is('items')")).first
    for name in ("black", "white"):
        await items.locator("> .parts > button").click()
        await items.get_by_label("name").last.fill(name)
    await items.locator("> .parts > .items > li").nth(1).get_by_role("button", name="Remove").last.click()
    card = await column.send()
    await expect(card).to_have_attribute("data-state", "ok")
    order = json.loads(await card.locator(".result pre").inner_text())
    assert order["payment"]["to"]["street"] == "Third 3"
    assert [item["name"] for item in order["items"]] == ["green", "white"]


async def test_what_the_server_refuses_is_said_at_the_field(reader: Reader) -> None:
    column = await shop(reader)
    await fill_order(column)
    await column.field("zip").fill("none")
    card = await column.send()
    await expect(card).to_have_attribute("data-state", "bad")
    await expect(card.locator(".bad-code")).to_have_text("invalid_payload")
    wrong = column.field("zip")
    await expect(wrong).to_have_attribute("aria-invalid", "true")
    await expect(wrong).to_be_focused()
    await expect(column.root.locator(".field-error", has_text="pattern")).to_be_visible()
    await column.field("zip").fill("12345")
    await expect(await column.send()).to_have_attribute("data-state", "ok")
    await expect(column.root.locator("[aria-invalid=true]")).to_have_count(0)


async def test_what_is_no_number_stays_here_and_a_large_one_is_exact(reader: Reader) -> None:
    column = await shop(reader)
    await column.action.select_option(label="count")
    await column.field("to").fill("many")
    await column.send()
    await expect(column.root.locator(".field-error", has_text="not a number")).to_be_visible()
    await expect(column.root.locator(".calls > li")).to_have_count(0)
    await column.action.select_option(label="large")
    await expect(column.field("pin")).to_have_attribute("type", "password")
    await column.field("number").fill("9007199254740993")
    card = await column.send()
    await expect(card.locator(".result")).to_contain_text('"twice": 18014398509481986')
    await expect(card.locator(".result")).to_contain_text('"pin": "1234"')  # as it is where none is sent
    await column.action.select_option(label="at")
    await column.field("when").fill("2026-12-24T18:00:00")
    await expect((await column.send()).locator(".result")).to_have_text('"2026-12-24T18:00:00"')


async def test_the_form_and_the_text_say_the_same(reader: Reader) -> None:
    column = await shop(reader)
    await column.action.select_option(label="count")
    await column.field("to").fill("2")
    area = await column.as_json()
    frame = json.loads(await area.input_value())
    assert (frame["action"], frame["to"]) == ("count", 2)
    await area.fill(json.dumps({**frame, "to": 4}))
    await column.root.get_by_role("button", name="Form", exact=True).click()
    await expect(column.field("to")).to_have_value("4")
    await column.as_json("{")
    await column.root.get_by_role("button", name="Form", exact=True).click()
    await expect(column.root.locator(".text-fault")).to_contain_text("not JSON")
    card = await column.send()  # the server is the judge of that too
    await expect(card).to_have_attribute("data-state", "sent")
    await expect(column.root.locator(".banner .bad-code")).to_have_text("parse_error")


async def test_a_stream_is_shown_as_it_comes_and_can_be_cancelled(reader: Reader) -> None:
    column = await shop(reader)
    await column.action.select_option(label="confirm")
    await expect(column.root.locator(".fields").locator("input, textarea, select")).to_have_count(0)
    await column.action.select_option(label="count")
    await column.field("to").fill("1.5")
    await column.root.locator(".send").click()
    await expect(column.root.locator(".fields .field-error").first).to_have_text(
        "This must be a whole number."
    )
    await column.field("to").fill("3")
    card = await column.send()
    await expect(card).to_have_attribute("data-state", "ok")
    await expect(card.locator(".stream li")).to_have_text(["0", "1", "2"])
    await column.field("to").fill("100000")
    await column.field("wait").fill("0.02")
    card = await column.send()
    await expect(card).to_have_attribute("data-state", "streaming")
    await expect(card.locator(".stream li").nth(5)).to_be_visible()
    await card.get_by_role("button", name="Cancel").click()
    await expect(card.locator(".call-state")).to_have_text("cancelled")
    await expect(card.locator(".bad-code")).to_have_text("cancelled")
    await expect(card.locator(".stream li").nth(5)).to_be_visible()
    card = await column.send("broken")
    await expect(card.locator(".bad-code")).to_have_text("http_error")
    await expect(card.locator(".stream li")).to_have_text(["1", "2"])


async def test_a_call_of_the_server_is_answered_with_a_click(reader: Reader) -> None:
    column = await shop(reader)
    card = await column.send("confirm")
    asked = column.root.locator(".asked-card")
    await expect(asked).to_contain_text("sure")
    await expect(asked.locator(".question")).to_contain_text("</script>")
    await expect(asked.locator(".asked-within")).to_have_text("It waits 10 s.")
    await asked.get_by_role("button", name="true").click()
    await expect(asked).to_have_count(0)
    await expect(card).to_contain_text("you said True")
    card = await column.send("hurry")
    await expect(card).to_contain_text("nobody answered")
    await expect(asked).to_have_count(0)
    await expect((await column.frames()).filter(has_text="call sure")).to_have_count(2)


async def test_a_call_of_the_server_is_answered_by_a_form(reader: Reader) -> None:
    column = await shop(reader)
    card = await column.send("deliver")
    asked = column.root.locator(".asked-card")
    await expect(asked).to_contain_text("Where it goes.")
    await asked.get_by_role("button", name="Answer", exact=True).click()
    await expect(asked.locator(".field-error", has_text="This is needed.")).to_have_count(2)
    await expect(asked.get_by_role("button", name="true")).to_be_hidden()
    await Column(asked).field("street").fill("Main Street 1")
    await Column(asked).field("zip").fill("123")
    await asked.get_by_role("button", name="Answer", exact=True).click()
    await expect(asked.locator(".field-error:not(:empty)")).to_have_text("This is not as the label asks.")
    await Column(asked).field("zip").fill("12345")
    await asked.get_by_role("button", name="Answer", exact=True).click()
    await expect(asked).to_have_count(0)
    await expect(card).to_have_attribute("data-state", "ok")
    await expect(card.locator(".result")).to_contain_text('"street": "Main Street 1"')
    card = await column.send("pick")
    await asked.get_by_role("button", name="Answer", exact=True).click()
    await expect(asked.locator(".field-error")).to_have_text("This is needed.")
    await Column(asked).field("data").select_option(label="large")
    await asked.get_by_role("button", name="Answer", exact=True).click()
    await expect(card.locator(".result")).to_have_text('"large"')


async def test_a_call_that_is_not_declared_takes_any_json(reader: Reader) -> None:
    await reader.open()
    column = await (await reader.connect("Named")).connect()
    card = await column.send("ask")
    asked = column.root.locator(".asked-card")
    await Column(asked).field("result").fill('{"a": [1]}')
    await asked.get_by_role("button", name="Answer", exact=True).click()
    await expect(card.locator(".result")).to_contain_text('"a"')


async def test_who_cannot_answer_says_so(reader: Reader) -> None:
    column = await shop(reader)
    card = await column.send("deliver")
    asked = column.root.locator(".asked-card")
    await asked.get_by_text("Cannot answer").click()
    await asked.get_by_label("Why not").fill("I do not know")
    await asked.get_by_role("button", name="Answer as an error").click()
    await expect(asked).to_have_count(0)
    await expect(card).to_contain_text("internal_error")
    await expect((await column.frames()).filter(has_text="I do not know")).to_have_count(1)


async def test_several_connections_stand_side_by_side(reader: Reader) -> None:
    first = await shop(reader)
    await reader.page.get_by_role("button", name="New connection").click()
    second = await (await reader.last_column()).connect()
    await fill_order(first)
    await first.send()
    frames = await second.frames()
    await expect(frames.filter(has_text="event placed")).to_have_count(1)
    assert await frames.filter(has_text="event placed").locator(".size").inner_text() != ""
    await expect(reader.page.locator("#console-count")).to_have_text("2")
    await second.root.evaluate(
        "(root) => ['disconnect', 'send'].map((name) => root.querySelector(`.${name}`).click())"
    )
    await second.sees_state("closed")
    await expect(second.root.locator(".banner")).to_contain_text("1000")
    await second.root.get_by_role("button", name="Connect again").click()
    await second.sees_state("open")
    await second.root.get_by_role("button", name="Close and remove this connection").click()
    await expect(reader.page.locator(".connection")).to_have_count(1)


async def test_a_flood_leaves_a_page_that_answers_and_a_bounded_list(reader: Reader) -> None:
    column = await shop(reader)
    await column.action.select_option(label="flood")
    await column.field("frames").fill("1000")
    card = await column.send()
    frames = await column.frames()  # it answers meanwhile
    await expect(card).to_have_attribute("data-state", "ok")
    await expect(column.root.locator(".frames-count")).to_have_text("1003")
    await expect(frames).to_have_count(500)
    await expect(column.root.locator(".skipped")).to_contain_text("504")


async def test_a_huge_frame_is_clipped(reader: Reader) -> None:
    column = await shop(reader)
    await column.action.select_option(label="flood")
    await column.field("frames").fill("1")
    await column.field("size").fill("600000")
    await column.send()
    frame = (await column.frames()).filter(has_text="600.0 kB")
    await frame.locator("summary").click()
    text = await frame.locator("pre").inner_text()
    assert len(text) < 21_000
    assert text.endswith("kB)")
    kept = """import("/asyncapi/files/frames.js").then(({ Newest }) => {
        const kept = new Newest();
        const gone = kept.add(...Array.from({ length: 12 }, () => ({ body: "x".repeat(1e6) })));
        return [gone.length, kept.take().length, kept.add({ body: "" }).length];
    })"""
    assert await reader.page.evaluate(kept) == [2, 10, 0]


async def test_frames_are_filtered_paused_and_cleared(reader: Reader) -> None:
    column = await shop(reader)
    await column.send("old")
    frames = await column.frames()
    await expect(frames.filter(has_text="response old")).to_have_count(1)
    await column.root.get_by_label("Filter frames").fill("response old")
    await expect(frames.filter(visible=True)).to_have_count(1)
    await column.root.get_by_label("Filter frames").fill("")
    await column.root.get_by_role("button", name="Pause").click()
    await column.send("old")
    await column.frames()
    await expect(column.root.locator(".frames-count")).to_have_text("5")
    await expect(frames.filter(has_text="response old")).to_have_count(1)
    await column.root.get_by_role("button", name="Go on").click()
    await expect(frames.filter(has_text="response old")).to_have_count(2)
    await column.root.get_by_role("button", name="Clear").click()
    await expect(frames).to_have_count(0)


async def test_another_envelope_is_spoken(reader: Reader) -> None:
    await reader.open()
    column = await (await reader.connect("Named")).connect()
    await column.field("a").fill("2")
    await column.field("b").fill("3")
    card = await column.send()
    await expect(card.locator(".result")).to_have_text("5")
    await expect((await column.frames()).filter(has_text='{"method":"add"')).to_have_count(1)


async def test_who_is_there_is_listed(reader: Reader) -> None:
    await reader.open()
    first, second = [await (await reader.connect("Named")).connect() for _ in range(2)]
    chips = first.root.locator(".present li")
    for column in (first, second):
        await expect(column.root.locator(".present li")).to_have_count(2)
    await second.action.select_option(label="status")
    await second.field("value").fill("away")
    await second.root.locator(".send").click()
    await expect(first.root.locator(".present li[title='\"away\"']")).to_have_count(1)
    await second.root.get_by_role("button", name="Disconnect").click()
    await expect(chips).to_have_count(1)
    await expect(second.root.locator(".present")).to_be_hidden()


async def test_one_signs_in_by_what_a_browser_can_bring(guests_of_everything: Guests, reader: Reader) -> None:
    guests_of_everything.may_lose = True
    await reader.open()
    column = await reader.connect("Named_2")
    await expect(column.root.locator(".connect .note")).to_contain_text("x-key")
    await column.root.locator(".connect button[type=submit]").click()
    await column.sees_state("closed")
    await expect(column.root.locator(".banner")).to_contain_text("1006")
    for by, name, value in (
        ("query", "key", "good"),
        ("subprotocol", "Sec-WebSocket-Protocol", "app, bearer.good"),
        ("cookie", "session", "good"),
    ):
        await column.field(name).fill(value)
        await column.connect()
        card = await column.send("me")
        await expect(card.locator(".result")).to_have_text(f'"{by}"')
        await column.root.get_by_role("button", name="Disconnect").click()
        await column.root.get_by_role("button", name="Change…").click()
        await column.field(name).fill("")
    assert await reader.page.evaluate("document.cookie") == "session=good"
    await column.root.get_by_role("button", name="Remove the cookie session").click()
    assert await reader.page.evaluate("document.cookie + JSON.stringify(localStorage)") == "{}"
    await expect(column.root.get_by_role("button", name="Remove the cookie")).to_have_count(0)


async def test_a_refusal_is_told_and_the_form_is_there_again(
    guests_of_everything: Guests, reader: Reader
) -> None:
    await reader.open()
    column = await reader.connect("Vault")
    await expect(column.field("channel")).to_have_value("vault:1")
    connect, banner = column.root.locator(".connect button[type=submit]"), column.root.locator(".banner")
    await column.field("channel").fill("vault:1/2")
    await connect.click()
    await expect(column.root.locator(".connect .field-error").first).to_contain_text("No / here")
    await column.field("channel").fill("vault:12")
    await column.field("BearerSubprotocol").fill("bad")
    for token, code in (("bad", "unauthenticated"), ("good", "permission_denied")):
        await column.field("BearerSubprotocol").fill(token)
        await connect.click()
        await expect(banner.locator(".bad-code")).to_have_text(code)
        await expect(connect).to_be_visible()
        await expect(column.field("channel")).to_have_value("vault:12")
    other = await reader.connect("Archive")
    await expect(other.root.locator(".banner")).to_be_hidden()
    await expect(reader.page.locator(".connection")).to_have_count(2)
    await other.root.get_by_role("button", name="Close and remove").click()
    await reader.connect("Vault")
    await expect(reader.page.locator(".connection")).to_have_count(1)
    await column.field("channel").fill("vault:2")
    await column.connect()
    await expect(banner).to_be_hidden()
    await expect(column.root.locator(".welcome")).to_contain_text("65.5 kB")
    await expect((await column.send("me")).locator(".result")).to_have_text('"ada"')

    await column.root.get_by_role("button", name="Disconnect").click()
    await column.root.get_by_role("button", name="Change…").click()
    await column.field("BearerSubprotocol").fill("")
    await column.field("token").fill("good")
    await column.connect()
    await expect((await column.send("me")).locator(".result")).to_have_text('"ada"')
    frames = await column.frames()
    await expect(frames.filter(has_text="auth")).to_contain_text(["•••", "authenticated"])

    await column.root.get_by_role("button", name="Disconnect").click()
    await column.root.get_by_role("button", name="Change…").click()
    await column.field("token").fill("short")
    await column.connect()
    await expect(banner).to_contain_text("The token ends in")
    await column.root.get_by_label("New token").fill("good")
    await column.root.get_by_role("button", name="Renew").click()
    await expect(banner).to_be_hidden()
    await expect(column.root.get_by_label("New token")).to_be_hidden()
    await expect(frames.filter(has_text="refresh")).to_contain_text("•••")
    assert await reader.page.evaluate("JSON.stringify(localStorage)") == (
        r'{"room Vault":"{\"channel\":\"vault:2\"}"}'
    )


async def test_a_refused_join_says_why(reader: Reader) -> None:
    await reader.open()
    column = await (await reader.connect("Bank")).connect()
    room, fault = column.root.get_by_label("Room to join"), column.root.locator(".join-fault")
    await room.fill("safe:10")
    await room.press("Enter")
    await expect(fault).to_contain_text("safe:10")
    await expect(fault.locator(".bad-code")).to_have_text("permission_denied")
    await expect(fault).to_contain_text("Permission Denied")
    await room.fill("safe:1")
    await room.press("Enter")
    await expect(column.root.locator(".joined")).to_contain_text("safe:1")
    await expect(fault).to_be_hidden()

    archive = await (await reader.connect("Archive")).connect()
    await expect(archive.root.locator(".codec")).to_contain_text("not JSON")
    await expect(archive.root.locator(".send")).to_be_hidden()
    shelf = await reader.connect("Shelf")
    await shelf.field("number").fill("x")
    await shelf.root.locator(".connect button[type=submit]").click()
    await expect(shelf.root.locator(".field-error:not(:empty)")).to_have_text(
        ["This is needed.", "This is not a number.", "This is needed."]
    )
    await shelf.field("number").fill("9007199254740993")
    await shelf.field("size").select_option(label="large")
    await shelf.field("pin").fill("1234")
    await shelf.connect()
    await expect(shelf.root.locator(".fields .type", has_text="9223372036854775807")).to_be_visible()
    await expect(shelf.field("mixed").locator("..").locator(".type")).to_have_text("text or number or null")
    await expect(shelf.root.locator("fieldset", has_text="either").get_by_role("textbox")).to_have_value("7")
    result = (await shelf.send("where")).locator(".result")
    await expect(result).to_contain_text("large-9007199254740993")
    await expect(result).to_contain_text("9223372036854775807")
    area = await shelf.as_json()
    await area.fill('{"action":"where","request_id":9007199254740993,"most":9223372036854775807}')
    await expect((await shelf.send()).locator(".id")).to_contain_text("#9007199254740993")
    await shelf.root.get_by_role("button", name="Form", exact=True).click()
    await expect(shelf.field("most")).to_have_value("9223372036854775807")
    await expect(shelf.root.locator(".address")).to_have_text("/shelves/large/9007199254740993/•••")
    assert await reader.page.evaluate("localStorage.getItem('room Shelf')") == (
        '{"size":"large","number":9007199254740993}'
    )

    await reader.page.get_by_role("button", name="Give the console the whole page").click()
    wide = await reader.page.locator("#console").bounding_box()
    assert wide is not None
    assert (wide["x"], wide["width"]) == (0, reader.page.viewport_size["width"])  # type: ignore[index]  # it has one


async def test_the_programs_that_are_copied_do_the_same(reader: Reader) -> None:
    column = await shop(reader)
    await column.action.select_option(label="count")
    await column.field("to").fill("2")
    await column.root.locator(".snippet summary").click()
    code, language = column.root.locator(".snippet-code"), column.root.get_by_label("Language")
    await expect(code).to_contain_text("new WebSocket(")
    await expect(code).to_contain_text('"to": 2')
    await language.select_option("wscat")
    await expect(code).to_contain_text("wscat -c 'ws://127.0.0.1:")
    await language.select_option("python")
    await expect(code).to_contain_text("async with connect(")
    program = (await code.inner_text()).replace("async for frame in socket:", "for _ in range(4):")
    program = program.replace("print(json.loads(frame))", "print(await socket.recv())")
    words = [sys.executable, "-c", program]
    done = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True, timeout=300)
    frames = [json.loads(line) for line in done.stdout.splitlines()]
    assert [frame.get("data", frame["type"]) for frame in frames] == ["welcome", 0, 1, None], done.stderr


async def test_the_desk_is_joined_and_talked_to(pages: Pages, desk: Example) -> None:
    guests = Guests(pages, desk.url)
    guest = await guests.new()
    await guest.page.request.post(desk.url + "login", data={"name": "ada"})
    opened = await guest.page.request.post(desk.url + "tickets", data={"room": "billing", "subject": "Hi"})
    room = f"ticket:{(await opened.json())['id']}"
    reader = await Reader(guest.page, guest.url).open()
    column = await reader.connect("Desk")
    ticket = await guest.page.evaluate("fetch('/pass', { method: 'POST' }).then((answer) => answer.json())")
    await column.field("BearerSubprotocol").fill(ticket)
    await column.connect()
    await column.root.get_by_label("Room to join").fill(room)
    await column.root.get_by_role("button", name="Join", exact=True).click()
    await expect(column.root.locator(".joined")).to_contain_text(room)
    await column.action.select_option(label="ticket.say")
    await expect(column.root.get_by_label("Room", exact=True)).to_have_value(room)
    await column.field("text").fill("the invoice is wrong")
    await expect(await column.send()).to_contain_text('"id": 1')
    await column.action.select_option(label="assistant.ask")
    await column.field("question").fill("where is my invoice?")
    card = await column.send()
    await expect(card).to_have_attribute("data-state", "ok")
    await expect(card.locator(".stream li").first).to_have_text('"You "')
    await expect((await column.frames()).filter(has_text="event said")).to_have_count(2)
    await column.action.select_option(label="ticket.history")
    await column.field("limit").fill("1")
    newest = json.loads(await (await column.send()).locator(".result pre").inner_text())
    assert newest["items"][0]["author"] == "assistant"
    await column.field("cursor").fill(newest["next"])
    older = json.loads(await (await column.send()).locator(".result pre").inner_text())
    assert [line["author"] for line in older["items"]] == ["ada"]
    await column.field("limit").fill("1000000000")
    await expect(await column.send()).to_have_attribute("data-state", "bad")
    await expect(column.field("limit")).to_have_attribute("aria-invalid", "true")
    await column.root.get_by_role("button", name="Leave this room").click()
    await expect(column.root.locator(".joined li")).to_have_count(0)
    await guests.close()
    assert guests.problems == []


async def test_the_relay_of_the_demo_takes_a_text(guests: Guests) -> None:
    guest = await guests.new()
    reader = await Reader(guest.page, guest.url).open()
    column = await (await reader.connect("BaselChatRoom")).connect()
    await column.root.get_by_label("Frame", exact=True).fill("anything at all")
    await column.root.locator(".send").click()
    frames = await column.frames()
    await expect(frames.filter(has_text="anything at all")).to_have_count(2)


async def test_an_answer_in_the_upstream_style_is_joined_to_its_request(guests: Guests) -> None:
    guest = await guests.new()
    reader = await Reader(guest.page, guest.url).open()
    column = await (await reader.connect("GroupChatRoom")).connect()
    await column.action.select_option(label="message")
    await column.root.get_by_label("Fields, as one JSON object").fill('{"user": "ada", "message": "hello"}')
    card = await column.send()
    await expect(card).to_have_attribute("data-state", "ok")
    await expect(card.locator(".result")).to_contain_text('"message": "hello"')
    again = await column.send()
    await expect(again.locator(".bad-code")).to_have_text("rate_limited")
    await expect(again).to_contain_text("Again in")
