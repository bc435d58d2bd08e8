"""What a test says and expects, in process and over a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from fastapi import FastAPI
from starlette.websockets import WebSocketClose

from fastapi_channels import add_channel
from fastapi_channels.client import Client as RealClient
from fastapi_channels.testing import (
    ActionError,
    Refused,
    Site,
    in_process,
    refused,
    running,
    serving,
    timeless,
)

from .app import Place, Room, Said, create_app


@pytest.fixture(params=[running, serving])
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    async with request.param(create_app()) as site:
        yield site


async def test_calls_streams_events_and_answers(site: Site):
    ann, bob = await site.client("/rooms/lobby"), await site.client("/rooms/lobby")
    assert await ann.call("say", text="hello") == 5
    assert await bob.expect(Said) == Said(by=None, text="hello")
    assert await ann.expect("said", text="hello") == {"by": None, "text": "hello"}
    assert [number async for number in ann.stream(Room.count, upto=3)] == [0, 1, 2]
    assert await ann.call("whisper", user="nobody", text="x") is None
    for answer in (True, lambda data: data["question"] == "Really?"):
        ann.answers["sure"] = answer
        assert await ann.call(Room.delete) is True
    with pytest.raises(ActionError, match="invalid_payload"):
        await ann.call("say")
    await bob.call("say", text="one")
    await bob.call("say", text="two")
    assert (await ann.expect(Said, text="two")).text == "two"
    assert (await ann.expect(Said)).text == "one"
    await ann.expect_nothing("said")
    await ann.send({"action": "end"})
    assert (await ann.expect_close(1013)).reason == "full"


async def test_who_is_not_let_in(site: Site):
    refused = await site.refusal("/rooms/closed")
    assert (refused.code, refused.close_code) == ("permission_denied", 1008)
    assert "HTTP 403" in str(await site.refusal("/rooms/closed", fluent=False))
    with pytest.raises(Refused, match="permission_denied"):
        await site.client("/rooms/closed")
    with pytest.raises(AssertionError, match="/rooms/lobby was let in"):
        await site.refusal("/rooms/lobby")


async def test_who_has_no_route_is_told_so_and_who_is_refused_is_not(site: Site):
    missing = "No WebSocket route of the application has that path."
    for path in ("/nowhere", "/rooms", "/docs", "/nowhere?room=lobby"):
        assert missing in (await site.refusal(path)).__notes__
    refused = await site.refusal("/rooms/closed", fluent=False)
    assert missing not in refused.__notes__


@pytest.mark.parametrize("root_path", ["", "/api"])
async def test_routes_below_a_mount_are_found(root_path: str):
    app = FastAPI()
    app.root_path = root_path
    app.mount("/inner", create_app())
    app.mount("/foreign", lambda scope, receive, send: WebSocketClose()(scope, receive, send))
    async with running(app) as site:
        told = {
            path: len((await site.refusal(root_path + path, fluent=False)).__notes__) == 2
            for path in ("/inner/rooms/closed", "/inner/nowhere", "/foreign/any")
        }
    assert told == {"/inner/rooms/closed": False, "/inner/nowhere": True, "/foreign/any": False}


async def test_the_tests_own_mistake_is_no_refusal():
    async with serving(create_app()) as site:
        with pytest.raises(ValueError, match="a b"):
            await site.client("/rooms/lobby", protocols=["a b"])


async def test_what_is_called_after_the_end_fails_at_once(site: Site):
    ann = await site.client("/rooms/lobby", within=3600)
    await ann.send({"action": "end"})
    for expected in (r"no reply to say\. ", r"no event 'said'\. "):
        with pytest.raises(AssertionError, match=expected + r"(.|\n)* closed: 1013 'full'"):
            await (ann.call("say", text="x") if "say" in expected else ann.expect("said"))


async def test_many_rooms(site: Site):
    ann = await site.client("/many")
    assert (await ann.join("a"))["type"] == "joined"
    assert await ann.call("say", room="a", text="x") == 1
    assert (await ann.expect_frame(lambda frame: frame.get("event") == "said"))["channel"] == "a"
    assert (await refused(ann.join("closed"))).code == "permission_denied"
    with pytest.raises(AssertionError, match="not refused, but answered: 1"):
        await refused(ann.call("say", room="a", text="x"))
    counting = ann.stream("forever", room="a", request_id="c")
    assert await anext(counting) == 0
    await ann.cancel("c")
    assert (await refused(anext(counting))).code == "cancelled"
    assert await ann.expect("said")
    await ann.join("b")
    await ann.call("say", room="a", text="in a")
    await ann.call("say", room="b", text="in b")
    assert (await ann.expect(Said, room="b")).text == "in b"
    await ann.expect_nothing(Said, room="b")
    with pytest.raises(AssertionError, match="expected nothing of the room 'a'"):
        await ann.expect_nothing(room="a")
    with pytest.raises(AssertionError, match=r"no event 'said' of the room 'b' with \{'text': 'in a'\}"):
        await ann.expect(Said, {"text": "in a"}, room="b", within=0)
    assert (await ann.expect(Said, room="a")).text == "in a"
    assert (await ann.leave("a"))["type"] == "left"
    await ann.expect_nothing()


async def test_fields_of_any_name_and_types_of_methods(site: Site):
    ann = await site.client("/rooms/lobby")
    place = Place(room="attic", within=uuid4())
    assert await ann.call(Room.move, place) == place
    assert await ann.call("move", {"room": "attic"}, within=place.within) == place.model_dump(mode="json")
    assert await ann.expect("moved", {"room": "attic"}, within=1) == place.model_dump(mode="json")
    assert await ann.expect("moved", {"within": place.within})
    with pytest.raises(AssertionError, match=r"count streams: read it with stream\(\)"):
        await ann.call("count", upto=1000)
    with pytest.raises(AssertionError, match="count streams"):
        await ann.call("count", upto=0)
    await ann.expect_nothing()


async def test_what_is_no_json_is_a_frame_of_its_own(site: Site):
    ann, bob = [await site.client("/relay/a") for _ in range(2)]
    for frame in ("hello", [1, 2], {"event": "said"}):
        await ann.send(frame)
    assert await bob.expect_frame(lambda frame: frame == [1, 2]) == [1, 2]
    assert await bob.expect("said") is None
    assert await bob.expect_frame(lambda frame: frame == "hello") == "hello"
    await bob.expect_nothing(within=0)
    hasty = await site.client("/relay/a", within=1)
    with pytest.raises(AssertionError, match="no answer to a ping"):
        await hasty.expect_nothing()


async def test_a_question_that_has_no_answer_waits_for_one(site: Site):
    ann = await site.client("/rooms/lobby")
    deleting = asyncio.create_task(ann.call("delete"))
    asked = await ann.expect_frame(lambda frame: frame.get("call") == "sure")
    await ann.send({"type": "answer", "call_id": asked["call_id"], "data": True})
    assert await deleting is True


# In process


@timeless
async def test_a_failure_says_what_came():
    async with running(create_app(), within=0.05) as site:
        ann = await site.client("/rooms/lobby")
        await ann.call("say", text="hello")
        with pytest.raises(AssertionError) as failure:
            await ann.expect("said", text="bye")
        text = str(failure.value)
        assert "no event 'said' with {'text': 'bye'} within 0.05 s" in text
        assert '"event": "said"' in text
        assert "The connection is open." in text
        with pytest.raises(AssertionError, match="expected nothing named 'said'"):
            await ann.expect_nothing(Said)
        with pytest.raises(AssertionError, match=r"no close with 1000 within 0\.05 s"):
            await ann.expect_close(1000)
        with pytest.raises(AssertionError, match="no reply to hang"):
            await ann.call("hang")
        bob = await site.client("/rooms/lobby")
        await bob.send({"action": "end"})
        with pytest.raises(AssertionError, match="The connection is closed: 1013 'full'"):
            await bob.expect("bye")


async def test_the_text_of_a_failure_has_a_bound():
    async with running(create_app()) as site:
        ann = await site.client("/rooms/lobby")
        for number in range(100):
            await ann.call("say", text=f"{number} " + "x" * 10_000)
        with pytest.raises(AssertionError) as failure:
            await ann.expect("said", text="y" * 10_000, within=0)
        text = str(failure.value)
        assert len(text) < 15_000
        assert "(80 older ones)" in text
        assert '"text": "99 x' in text
        assert '"text": "79 x' not in text
        assert "characters)" in text
        with pytest.raises(AssertionError) as failure:
            await refused(ann.stream("count", upto=1).__anext__())
        assert str(failure.value) == "not refused, but answered: 0"


async def test_what_a_server_says_that_does_not_start():
    @asynccontextmanager
    async def fails(app: FastAPI) -> AsyncIterator[None]:
        raise ValueError("no database")
        yield

    app = FastAPI(lifespan=fails)
    add_channel(app)
    for opening in (running, serving):
        with pytest.raises(ValueError, match="no database"):
            await opening(app).__aenter__()


async def test_who_it_is_and_where_from():
    async with running(create_app()) as site:
        async with site.connect("/rooms/lobby", user="ann", headers={"x": "y"}, cookies={"a": "b"}) as ann:
            await ann.call("say", text="hello")
            assert (await ann.expect(Said)).by == "ann"
            assert ann.id
        bob = await site.client("/rooms/lobby", user="bob", query={"lang": "zh"})
        await bob.call("whisper", user="bob", text="psst")
        assert await bob.expect(Said, text="psst")
        with pytest.raises(ActionError, match="不存在"):
            await bob.call("no such action")
    async with serving(create_app()) as served:
        with pytest.raises(TypeError, match="log in over this one"):
            await served.client("/rooms/lobby", user="ann")


async def test_what_goes_on_goes_on_when_a_wait_is_over():
    async with running(create_app()) as site:
        ann = await site.client("/rooms/lobby")
        with pytest.raises(AssertionError):
            await ann.expect("said", within=0)
        await ann.call("say", text="still here")
        assert await ann.expect("said")


@timeless
async def test_in_virtual_time_waits_cost_nothing():
    async with running(create_app(), within=3600) as site:
        ann = await site.client("/rooms/lobby")
        with pytest.raises(AssertionError):
            await ann.expect("said")


async def test_nothing_is_left():
    before = asyncio.all_tasks()
    async with running(create_app()) as site:
        await site.client("/rooms/lobby")
        async with site.connect("/rooms/lobby") as client:
            await client.send({"action": "hang"})
    assert asyncio.all_tasks() == before


async def test_the_real_client_reaches_an_application_in_process():
    async with running(create_app()) as site:
        dial = in_process(site.app, user="ann")
        async with RealClient("http://testserver", dial=dial) as client:
            room = client.room("/rooms/{channel}", channel="lobby")
            events = room.events(Said)
            assert await room.call(Room.say, {"text": "hello"}) == 5
            assert (await anext(events)).by == "ann"
