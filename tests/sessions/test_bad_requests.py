"""What a client may ask of actions, dependencies, streams and rooms: over a real server, beside a client that
must not notice."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

import pytest
import pytest_asyncio
from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from fastapi_channels import Channel, Connection, Socket, action, add_channel
from tests.support.live import Client, Site, serving, wait_until

pytestmark = pytest.mark.asyncio(loop_scope="module")

MEGABYTE = 1024 * 1024
MILLION = 1_000_000


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: Annotated[str, Field(max_length=100)]
    count: int = 1


class Circle(BaseModel):
    shape: Literal["circle"]
    radius: float


class Square(BaseModel):
    shape: Literal["square"]
    side: float


class Counted:
    """How many dependencies were opened, and how many closed."""

    def __init__(self) -> None:
        self.opened = 0
        self.closed = 0

    @property
    def open(self) -> int:
        return self.opened - self.closed


counted = Counted()


async def session() -> AsyncIterator[Counted]:
    counted.opened += 1
    try:
        yield counted
    finally:
        await asyncio.sleep(0)
        counted.closed += 1


async def refusing() -> None:
    raise HTTPException(402, {"pay": "first"}, headers={"Retry-After": "3"})


async def failing_to_close() -> AsyncIterator[None]:
    yield
    raise RuntimeError("a secret of the cleanup")


Session = Annotated[Counted, Depends(session)]


class Room(Channel):
    @action()
    async def strict(self, payload: Strict) -> int:
        return payload.count

    @action()
    async def draw(self, shape: Annotated[Circle | Square, Field(discriminator="shape")]) -> str:
        return shape.shape

    @action()
    async def total(self, numbers: list[int]) -> int:
        return sum(numbers)

    @action()
    async def few(self, numbers: Annotated[list[int], Field(max_length=10)]) -> int:
        return sum(numbers)

    @action(dependencies=[Depends(refusing)])
    async def refused(self, session: Session) -> None: ...

    @action(dependencies=[Depends(failing_to_close)])
    async def unclean(self, session: Session) -> str:
        return "done"

    @action()
    async def wait(self, session: Session) -> None:
        await asyncio.Event().wait()

    @action()
    async def stream(self, session: Session) -> AsyncIterator[int]:
        number = 0
        while True:
            yield number
            number += 1
            await asyncio.sleep(0.001)

    @action()
    async def echo(self, text: str) -> str:
        return text


class Big(Room):
    max_message_size = 16 * MEGABYTE


class Numbered(Room):
    room_pattern = "room:{number:int}"

    def __init__(self) -> None:
        super().__init__()
        self.joined = 0
        self.left = 0
        self.add_event_handler("join", self.count_join)
        self.add_event_handler("leave", self.count_leave)

    async def count_join(self, connection: Connection) -> None:
        self.joined += 1

    async def count_leave(self, connection: Connection) -> None:
        self.left += 1


numbered = Numbered()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Site]:
    app = FastAPI()
    add_channel(app)
    Room().mount(app, "/rooms/{channel}")
    Big().mount(app, "/big/{channel}")
    Socket(numbered).mount(app, "/many")
    # Who sends thousands of messages before it reads may be late with a pong.
    async with serving(app, ws_ping_interval=None) as site:
        yield site


@pytest_asyncio.fixture(loop_scope="module")
async def bystander(site: Site) -> AsyncIterator[Client]:
    """A client of its own room, who is served to the end."""
    async with site.connect("/rooms/quiet") as client:
        yield client
        reply = await client.call("echo", text="still here", request_id=1)
        assert reply["data"] == "still here"


@asynccontextmanager
async def client_of(site: Site, path: str = "/rooms/r") -> AsyncIterator[Client]:
    """A client that leaves nothing behind."""
    async with site.unharmed(), site.connect(path) as client:
        yield client
    await wait_until(lambda: counted.open == 0)


# Payloads


@pytest.mark.parametrize(
    ("fields", "faults"),
    [
        ({"action": "strict"}, [(["text"], "missing")]),
        (
            {"action": "strict", "text": 5, "count": "many"},
            [(["text"], "string_type"), (["count"], "int_parsing")],
        ),
        ({"action": "strict", "text": "hi", "more": 1}, [(["more"], "extra_forbidden")]),
        ({"action": "strict", "text": "x" * 101}, [(["text"], "string_too_long")]),
        ({"action": "strict", "text": None}, [(["text"], "string_type")]),
        ({"action": "draw", "shape": "triangle"}, [([], "union_tag_invalid")]),
        ({"action": "draw", "radius": 1}, [([], "union_tag_not_found")]),
        ({"action": "draw", "shape": ["circle"]}, [([], "union_tag_invalid")]),
        ({"action": "draw", "shape": "circle"}, [(["circle", "radius"], "missing")]),
        ({"action": "total", "numbers": {"a": 1}}, [(["numbers"], "list_type")]),
        ({"action": "few", "numbers": list(range(11))}, [(["numbers"], "too_long")]),
    ],
)
async def test_what_does_not_fit(site: Site, bystander: Client, fields: dict[str, Any], faults: Any):
    async with client_of(site) as client:
        error = await client.call(**fields, request_id="q")
        assert (error["code"], error["status"], error["request_id"]) == ("invalid_payload", "bad", "q")
        assert [(fault["loc"], fault["type"]) for fault in error["data"]] == faults
        assert (await client.call("strict", text="hi"))["data"] == 1


async def test_an_error_is_one_model_wherever_it_comes_from(site: Site):
    keys = {"type", "action", "status", "request_id", "data", "errors", "code"}
    async with client_of(site) as client:
        for name in ("strict", "refused", "unclean", "missing"):
            error = await client.call(name, request_id=name)
            assert set(error) - {"retry_after"} == keys
            assert (error["type"], error["action"], error["request_id"]) == ("response", name, name)


async def test_a_list_of_a_million_entries_is_beyond_the_limit(site: Site, bystander: Client):
    async with client_of(site) as client:
        await client.send(json.dumps({"action": "total", "numbers": [1] * MILLION}))
        assert (await client.closed()).code == 1009


async def test_a_list_of_a_million_entries_where_a_message_may_be_so_long(site: Site, bystander: Client):
    async with client_of(site, "/big/r") as client:
        reply = await client.call("total", numbers=[1] * MILLION, request_id=1)
        assert (reply["request_id"], reply["data"]) == (1, MILLION)
        error = await client.call("few", numbers=[1] * MILLION)
        assert [fault["type"] for fault in error["data"]] == ["too_long"]
        # A million faults: to list them would take the server seconds, and their frame megabytes.
        await client.send({"action": "total", "numbers": ["x"] * MILLION, "request_id": 2})
        frame = await client.read()
        assert len(frame) < 1000
        assert json.loads(frame)["data"][0]["type"] == "too_many_errors"


async def test_a_hundred_faults_are_listed_and_no_more(site: Site, bystander: Client):
    async with client_of(site) as client:
        error = await client.call("total", numbers=["x"] * 500)
        assert [fault["loc"] for fault in error["data"]] == [["numbers", index] for index in range(100)]


# Dependencies


async def test_a_dependency_that_refuses(site: Site, bystander: Client):
    async with client_of(site) as client:
        error = await client.call("refused", request_id=1)
        assert (error["status"], error["code"], error["request_id"]) == (402, "http_error", 1)
        assert (error["errors"], error["retry_after"]) == ({"pay": "first"}, 3.0)
        assert (await client.call("echo", text="hi"))["data"] == "hi"


async def test_a_dependency_that_fails_in_its_cleanup(
    site: Site, bystander: Client, caplog: pytest.LogCaptureFixture
):
    async with client_of(site) as client:
        error = await client.call("unclean", request_id=1)
        assert (error["code"], error["data"]) == ("internal_error", None)
        assert "secret" not in json.dumps(error)
        assert (await client.call("echo", text="hi"))["data"] == "hi"
    (record,) = [record for record in caplog.records if record.exc_info]
    assert "a secret of the cleanup" in caplog.text
    assert record.getMessage().split()[1] in error["errors"]


@pytest.mark.parametrize("name", ["wait", "stream"])
@pytest.mark.parametrize("way", ["close", "reset"])
async def test_a_client_that_leaves_while_something_is_open(
    site: Site, bystander: Client, name: str, way: str
):
    async with client_of(site) as client:
        before = counted.opened
        for number in range(3):
            await client.send({"action": name, "request_id": number})
        await wait_until(lambda: counted.opened == before + (1 if name == "wait" else 3))
        if way == "close":
            await client.close()
        else:
            client.reset()


@pytest.mark.parametrize("kind", ["cancel", "credit"])
@pytest.mark.parametrize("path", ["/rooms/r", "/many"])
async def test_a_thousand_words_about_unknown_requests(site: Site, bystander: Client, path: str, kind: str):
    async with client_of(site, path) as client:
        if path == "/many":
            assert (await join(client, "room:1"))["type"] == "joined"
        await client.send({"action": "stream", "channel": "room:1", "request_id": "mine"})
        for number in range(1000):
            await client.send({"type": kind, "request_id": number, "count": 10**300})
            await client.send({"type": kind, "request_id": "mine" * (number % 64), "count": number + 1})
        await client.send({"type": "cancel", "request_id": "mine"})
        last = await client.receive_until(lambda frame: not frame.get("more"))
        assert last["code"] == "cancelled"
        reply = await client.call("echo", channel="room:1", text="hi", request_id=7)
        assert (reply["request_id"], reply["data"]) == (7, "hi")


# Rooms


async def join(client: Client, room: str) -> Any:
    await client.send({"type": "join", "channel": room, "request_id": room})
    return await client.receive()


async def test_joins_of_two_thousand_rooms(site: Site, bystander: Client):
    joined, left = numbered.joined, numbered.left
    async with client_of(site, "/many") as client:
        for number in range(2_000):
            await client.send({"type": "join", "channel": f"room:{number}", "request_id": number})
        answers = [await client.receive() for _ in range(2_000)]
        in_rooms = [answer["channel"] for answer in answers if answer["type"] == "joined"]
        assert len(in_rooms) == len(set(in_rooms)) == Socket.max_rooms
        refused = [answer for answer in answers if answer["type"] == "response"]
        assert {answer["code"] for answer in refused} == {"too_many_rooms"}
        assert sorted(answer["request_id"] for answer in answers) == list(range(2_000))
        reply = await client.call("echo", channel=in_rooms[0], text="hi")
        assert reply["data"] == "hi"
    await wait_until(lambda: numbered.left - left == Socket.max_rooms)
    assert numbered.joined - joined == Socket.max_rooms


async def test_joins_and_leaves_of_two_thousand_rooms(site: Site, bystander: Client):
    joined = numbered.joined
    async with client_of(site, "/many") as client:
        for number in range(2_000):
            await client.send({"type": "join", "channel": f"room:{number}"})
            await client.send({"type": "leave", "channel": f"room:{number}"})
        kinds = [(await client.receive())["type"] for _ in range(4_000)]
        assert (kinds.count("joined"), kinds.count("left")) == (2_000, 2_000)
    assert numbered.joined - joined == 2_000


@pytest.mark.parametrize("room", ["room:2", "room:x", "", None, 5, [], {"a": 1}, "x" * 1000])
async def test_a_call_for_a_room_that_was_not_joined(site: Site, bystander: Client, room: Any):
    async with client_of(site, "/many") as client:
        assert (await join(client, "room:1"))["type"] == "joined"
        error = await client.call("echo", channel=room, text="hi", request_id=1)
        assert (error["code"], error["request_id"]) == ("not_joined", 1)
        assert len(json.dumps(error)) < 500
        assert (await client.call("echo", channel="room:1", text="hi"))["data"] == "hi"


async def test_many_rooms_are_left_once_when_their_client_goes(site: Site, bystander: Client):
    joined, left = numbered.joined, numbered.left
    async with client_of(site, "/many") as client:
        for number in range(50):
            assert (await join(client, f"room:{number}"))["type"] == "joined"
        for number in range(50):
            await client.send({"action": "stream", "channel": f"room:{number}"})
        await client.receive_until(lambda frame: frame["channel"] == "room:49")
        client.reset()
    await wait_until(lambda: numbered.left - left == 50)
    assert numbered.joined - joined == 50
