"""The document is held against the server: what it allows is served as it says, the rest is refused."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from pydantic import BaseModel, Field, RootModel

from fastapi_channels import (
    BasePermission,
    Call,
    CallFailed,
    Channel,
    Connection,
    Envelope,
    Event,
    Socket,
    action,
    add_channel,
)
from fastapi_channels.testing.asgi import living
from fastapi_channels.wire.messages import SUBPROTOCOL
from tests.support.asyncapi import described, values
from tests.support.asyncapi import message as schema_of
from tests.support.live import DEADLINE, Client, serving
from tests.support.wire import Wire, dial


class Address(BaseModel, extra="forbid"):
    street: Annotated[str, Field(min_length=1, max_length=5)]
    number: Annotated[int, Field(ge=0, le=99)] | None = None


class Person(BaseModel):
    name: str
    kind: Literal["person", "robot"] = "person"
    addresses: Annotated[list[Address], Field(max_length=2)] = []
    friend: "Person | None" = None


class Tags(RootModel[Annotated[list[str], Field(max_length=2)]]):
    """No object: a field of the payload."""


class Told(Event):
    person: Person


class Where(Call[Address]):
    person: Person


class Nobody(BasePermission):
    pass


class Desk(Channel):
    event_types = (Told,)
    call_types = (Where,)

    @action()
    async def address(self, address: Address) -> Address:
        return address

    @action()
    async def tags(self, tags: Tags) -> Tags:
        return tags

    @action()
    async def fields(
        self, count: Annotated[int, Field(ge=1, le=3)], flag: bool | None = None
    ) -> dict[str, int]:
        return {"count": count}

    @action()
    async def count(self, to: Annotated[int, Field(ge=0, le=3)]) -> AsyncIterator[int]:
        for each in range(to):
            yield each

    @action()
    async def tell(self, connection: Connection, loudly: bool = False) -> Literal["told"]:
        person = Person(name="ada", friend=Person(name="bob"))
        await connection.send_event(Told(person=person))
        return "told"

    @action(detached=True)
    async def ask(self, connection: Connection) -> Address | Literal["failed"]:
        try:
            return await connection.call(Where(person=Person(name="ada")), timeout=DEADLINE)
        except CallFailed:
            return "failed"

    @action(permission=Nobody)
    async def never(self) -> None: ...

    @action()
    async def open(self, data: dict, **kwargs: Any) -> int:
        return len(data)


class Nested(Desk):
    envelope = Envelope(action="method", request_id="id", payload="params", errors="error", type="kind")


ACTIONS = ("address", "tags", "fields", "count", "never", "open")


class Served:
    """One of the channels over one WebSocket, and its document."""

    def __init__(self, name: str, client: Client, document: dict[str, Any], runner: asyncio.Runner) -> None:
        self.name = name
        self.client = client
        self.document = document
        self.runner = runner
        self.envelope = Nested.envelope if name == "Nested" else Desk.envelope
        self._values: dict[str, st.SearchStrategy[Any]] = {}

    def values(self, message: str) -> st.SearchStrategy[Any]:
        """What the schema of a message allows; a strategy that were new for each example would be slow."""
        if message not in self._values:
            schema = self.schema(message)
            self._values[message] = values(schema, schema)
        return self._values[message]

    def schema(self, message: str) -> dict[str, Any]:
        return schema_of(self.document, self.name, message)

    def answers(self, action: str) -> list[dict[str, Any]]:
        listed = self.document["operations"][f"{self.name}.{action}"]["reply"]["messages"]
        return [self.schema(each["$ref"].rpartition("/")[2]) for each in listed]

    def call(self, frame: dict[str, Any]) -> list[dict[str, Any]]:
        """All that comes for a request, which is given an id of its own."""
        return self.runner.run(self._call({**frame, self.envelope.request_id: "mine"}))

    async def _call(self, frame: dict[str, Any]) -> list[dict[str, Any]]:
        await self.client.send(frame)
        found = [await self.client.receive()]
        names = self.envelope
        while found[-1].get("more") or found[-1][names.type] == "event":
            if "index" in found[-1]:
                await self.client.send({names.type: "credit", names.request_id: "mine", "count": 1})
            found.append(await self.client.receive())
        return found


def application() -> FastAPI:
    app = FastAPI()
    add_channel(app)
    Desk().mount(app, "/desk")
    Nested().mount(app, "/nested")
    Socket(Desk()).mount(app, "/socket")
    return app


@pytest.fixture(scope="module", params=["Desk", "Nested", "Socket"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    app = application()
    document = described(app)

    async def talk(ready: asyncio.Future[Client], done: asyncio.Event) -> None:
        async with serving(app) as site, site.connect(f"/{request.param.lower()}") as client:
            if request.param == "Socket":
                await client.send({"type": "join", "channel": "r", "request_id": 1})
                joined = await client.receive()
                Draft7Validator(schema_of(document, "Socket", "joined.control")).validate(joined)
            ready.set_result(client)
            await done.wait()

    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        ready: asyncio.Future[Client] = loop.create_future()
        done = asyncio.Event()
        task = loop.create_task(talk(ready, done))
        yield Served(request.param, loop.run_until_complete(ready), document, runner)
        done.set()
        loop.run_until_complete(task)


def in_room(served: Served, frame: dict[str, Any]) -> dict[str, Any]:
    return {**frame, "channel": "r"} if served.name == "Socket" else frame


patient = settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize("name", ACTIONS)
@patient
@given(st.data())
def test_what_it_allows_is_served_as_it_says(served: Served, name: str, data: st.DataObject):
    frame = data.draw(served.values(f"{name}.request"))
    answers = served.call(in_room(served, frame))
    wanted = Draft7Validator({"anyOf": served.answers(name), **_components(served)})
    for answer in answers:
        wanted.validate(answer)
        assert answer[served.envelope.status] == ("bad" if name == "never" else "ok"), (frame, answer)


@pytest.mark.parametrize("name", ACTIONS[:3])
@patient
@given(st.data())
def test_what_it_forbids_is_refused(served: Served, name: str, data: st.DataObject):
    payload: Any = data.draw(PAYLOADS)
    envelope = served.envelope
    nested: dict[str, Any] = {envelope.payload: payload} if envelope.payload else payload
    frame = in_room(served, {envelope.action: name, envelope.request_id: "mine", **nested})
    allowed = Draft7Validator(served.schema(f"{name}.request")).is_valid(frame)
    answers = served.call(frame)
    assert allowed == (envelope.code not in answers[0]), (frame, answers)
    if not allowed:
        Draft7Validator(served.answers(name)[-1]).validate(answers[0])
        known = served.answers(name)[-1]["properties"][envelope.code]["anyOf"][0]["enum"]
        assert answers[0][envelope.code] in known


FIELDS = ("street", "number", "count", "to", "other")
# Numbers and lists: a text that says a number is taken for one, and 0 for false: more than is promised.
TEXTS = st.sampled_from(["street", "", "!" * 9])
VALUES = st.one_of(st.integers(-5, 120), st.lists(st.none(), max_size=1), TEXTS)
PAYLOADS = st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=3)
ANSWERS = st.sampled_from(["where.answer", "any.failure"])


def test_an_event_is_as_it_says(served: Served):
    event, reply = served.call(in_room(served, {served.envelope.action: "tell"}))
    if event[served.envelope.type] != "event":
        event, reply = reply, event
    Draft7Validator(served.schema("told.event")).validate(event)
    Draft7Validator(served.answers("tell")[0]).validate(reply)


@patient
@given(st.data())
def test_the_server_asks_and_takes_the_answers_that_it_says(served: Served, data: st.DataObject):
    envelope = served.envelope
    (call,) = served.call(in_room(served, {envelope.action: "ask"}))
    Draft7Validator(served.schema("where.call")).validate(call)
    name = data.draw(ANSWERS)
    answer = {**data.draw(served.values(name)), "call_id": call["call_id"]}
    Draft7Validator(served.schema(name)).validate(answer)
    (reply,) = served.call(answer)
    Draft7Validator({"anyOf": served.answers("ask"), **_components(served)}).validate(reply)
    assert (reply[envelope.data] == "failed") == (envelope.errors in answer)


@pytest.mark.parametrize("wrong", [None, 1, {}, {"street": ""}, {"street": "a", "more": 1}])
def test_an_answer_that_it_forbids_fails_the_call(served: Served, wrong: Any):
    envelope = served.envelope
    (call,) = served.call(in_room(served, {envelope.action: "ask"}))
    answer = {envelope.type: "answer", "call_id": call["call_id"], envelope.data: wrong}
    assert not Draft7Validator(served.schema("where.answer")).is_valid(answer)
    (reply,) = served.call(answer)
    assert reply[envelope.data] == "failed"


def test_what_belongs_to_no_action_is_as_it_says(served: Served):
    (answer,) = served.call(in_room(served, {served.envelope.action: "no such"}))
    Draft7Validator(served.schema("any.error")).validate(answer)
    assert answer[served.envelope.code] == "unknown_action"


class Quiet(Channel):
    @action()
    async def done(self) -> None: ...


class Closed(Quiet):
    permission_classes = Nobody


async def test_who_offers_the_subprotocol_is_told_more_and_that_is_as_it_says():
    app = FastAPI()
    add_channel(app)
    Quiet().mount(app, "/quiet")
    Closed().mount(app, "/closed")
    document = described(app)

    def check(channel: str, name: str, frame: Any) -> None:
        Draft7Validator(schema_of(document, channel, name)).validate(frame)

    async with living(app):
        async with dial(app, "/quiet", subprotocols=[SUBPROTOCOL]) as wire:
            check("Quiet", "welcome.control", await wire.receive())
            wire.call("done", request_id=1)
            check("Quiet", "done.reply", await wire.receive())
        async with dial(app, "/closed", subprotocols=[SUBPROTOCOL]) as wire:
            refused = await wire.receive()
            check("Closed", "any.error", refused)
    error = schema_of(document, "Closed", "any.error")["properties"]["code"]["anyOf"][0]["enum"]
    assert refused["code"] in error


class Filed(Quiet):
    room_pattern = "filed:{number:int}"
    history = 10


class Guarded(Closed):
    room_pattern = "guarded"


MANY = 3


class Shared(Socket):
    max_joins = MANY


JOINS: dict[str, list[dict[str, Any]]] = {
    "one": [{"channel": "filed:1"}],
    "as many as may be": [{"channel": f"filed:{number}"} for number in range(MANY)],
    "each in its own way": [
        {"channel": "filed:1", "request_id": "mine"},
        {"channel": "filed:2", "since": "3f9a1c02:12", "connection": "5d0c.7"},
        {"channel": "filed:3", "request_id": None},
    ],
    "one that is refused beside others": [{"channel": "filed:1"}, {"channel": "guarded"}],
    "one that is nowhere": [{"channel": "nowhere", "request_id": 8}, {"channel": "filed:1"}],
}
NO_JOINS: dict[str, dict[str, Any]] = {
    "none": {"channels": []},
    "more than may be": {"channels": [{"channel": f"filed:{number}"} for number in range(MANY + 1)]},
    "no list": {"channels": {"channel": "filed:1"}},
    "names alone": {"channels": ["filed:1"]},
    "no name": {"channels": [{"channel": "filed:1"}, {"request_id": 8}]},
    "a number as a name": {"channels": [{"channel": 1}]},
    "one room beside several": {"channel": "filed:1", "channels": [{"channel": "filed:2"}]},
}


@asynccontextmanager
async def many_rooms() -> AsyncIterator[tuple[Wire, Callable[[str], Any]]]:
    """A client of a socket, and what the document says of its messages."""
    app = FastAPI()
    add_channel(app)
    Shared(Filed(), Guarded()).mount(app, "/socket")
    document = described(app)
    async with living(app), dial(app, "/socket", subprotocols=[SUBPROTOCOL]) as wire:
        yield wire, lambda name: Draft7Validator(schema_of(document, "Shared", name))


async def test_what_may_be_joined_at_once_is_said_to_the_client_as_in_the_document():
    async with many_rooms() as (wire, saying):
        welcome = await wire.receive()
        saying("welcome.control").validate(welcome)
        assert welcome["max_joins"] == MANY
        assert saying("join.many.control").schema["properties"]["channels"]["maxItems"] == MANY
        for field in ("max_joins", "max_window", "max_message_size", "connection"):
            less = {name: said for name, said in welcome.items() if name != field}
            assert not saying("welcome.control").is_valid(less)


@pytest.mark.parametrize("name", JOINS)
async def test_a_join_of_many_rooms_that_it_allows_is_answered_for_each_as_it_says(name: str):
    frame = {"type": "join", "channels": JOINS[name], "request_id": 7}
    async with many_rooms() as (wire, saying):
        await wire.receive()
        saying("join.many.control").validate(frame)
        wire.send(frame)
        told = [await wire.receive() for _ in JOINS[name]]
        assert {each["channel"]: each["request_id"] for each in told} == {
            each["channel"]: each.get("request_id", 7) for each in JOINS[name]
        }
        for each in told:
            is_filed = each["channel"].startswith("filed:")
            saying("joined.control" if is_filed else "any.error").validate(each)
            assert (each["type"] == "joined") == is_filed
        codes = saying("any.error").schema["properties"]["code"]["anyOf"][0]["enum"]
        assert {each["code"] for each in told if "code" in each} <= set(codes)


@pytest.mark.parametrize("name", NO_JOINS)
async def test_a_join_of_many_rooms_that_it_forbids_is_an_error_and_joins_none(name: str):
    frame = {"type": "join", "request_id": 7, **NO_JOINS[name]}
    async with many_rooms() as (wire, saying):
        await wire.receive()
        assert not saying("join.many.control").is_valid(frame)
        wire.send(frame)
        wire.send({"type": "leave", "channel": "filed:1", "request_id": 9})
        refused, left = await wire.receive(), await wire.receive()
        for each, id, code in ((refused, 7, "parse_error"), (left, 9, "not_joined")):
            saying("any.error").validate(each)
            assert (each["request_id"], each["code"]) == (id, code)


def _components(served: Served) -> dict[str, Any]:
    return {"components": {"schemas": served.document["components"]["schemas"]}}
