"""A channel's actions by POST, and what FastAPI's document says of them."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, WebSocket
from fastapi.testclient import TestClient
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse

from fastapi_channels import (
    BaseChannel,
    BasePermission,
    Channel,
    ConfigurationError,
    Connection,
    Disconnected,
    Socket,
    Unauthenticated,
    WebSocketException,
    action,
    add_channel,
    limiter,
)
from fastapi_channels.wire import stream
from fastapi_channels.wire.messages import Envelope
from tests.support.events import Reader, listening
from tests.support.live import RawClient, Site, serving, wait_until


class Say(BaseModel):
    text: Annotated[str, Field(max_length=10)]


class Said(BaseModel):
    by: str | None
    text: str


class Short(WebSocketException):
    error_code = "short"
    http_status = 418
    close = False


class IsKnown(BasePermission):
    def has_permission(self, websocket: WebSocket, action: str | None, **kwargs: Any) -> bool:
        return websocket.headers.get("x-name") is not None


class IsLetIn(BasePermission):
    asked = asyncio.Event()
    let_in = asyncio.Event()

    async def has_permission(self, websocket: WebSocket, action: str | None, **kwargs: Any) -> bool:
        self.asked.set()
        await self.let_in.wait()
        return True


def name_of(x_name: Annotated[str | None, Header()] = None) -> str | None:
    return x_name


def only_members(connection: HTTPConnection) -> None:
    if connection.headers.get("x-banned"):
        raise HTTPException(402)


class Room(Channel):
    history = 10
    room_pattern = "{name:str}"
    max_message_size = 1000
    finish_timeout = 0.05

    def __init__(self) -> None:
        super().__init__()
        self.joined: list[str] = []
        self.cancelled = asyncio.Event()
        self.thought = asyncio.Event()
        self.began = asyncio.Event()
        self.go_on = asyncio.Event()
        self.freed = threading.Event()
        self.add_event_handler("join", self.remember)

    async def remember(self, connection: Connection) -> None:
        self.joined.append(connection.room)

    def authorize(self, connection: Connection, name: str) -> bool:
        return name != "secret"

    @action(summary="Say something", tags=["talk"])
    async def say(self, payload: Say, connection: Connection) -> Said:
        """To all in the room."""
        await self.broadcast(connection.room, "said", payload.text)
        return Said(by=connection.user, text=payload.text)

    @action()
    async def add(self, one: int, two: int = 2) -> int:
        self.began.set()
        return one + two

    @action()
    async def quietly(self) -> None:
        pass

    @action()
    async def whisper(self, websocket: WebSocket) -> None:
        await websocket.send_text("psst")

    @action(permission=IsKnown)
    async def privately(self) -> str:
        return "ok"

    @limiter(times=1, seconds=60)
    @action()
    async def rarely(self) -> str:
        return "ok"

    @action()
    async def fail(self, how: str, connection: Connection) -> None:
        if how == "short":
            raise Short
        if how == "who":
            raise Unauthenticated(reason="sign in first")
        if how == "http":
            raise HTTPException(409, "not now")
        if how == "close":
            await connection.websocket.close(1011)
            return
        if how == "ask":
            await connection.call("where")
        raise {"": ZeroDivisionError, "key": KeyError, "index": IndexError, "type": TypeError}[how]

    @action(deprecated=True)
    async def old(self) -> None:
        pass

    @action(detached=True)
    async def aside(self) -> str:
        await asyncio.sleep(0)
        return "done"

    @action()
    async def count(self, upto: int) -> AsyncIterator[int]:
        for number in range(upto):
            yield number
        if upto > 2:
            raise Short

    @action()
    async def wait(self) -> None:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()

    @action()
    async def forever(self, yields: int) -> AsyncIterator[int]:
        try:
            for number in range(yields):
                yield number
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()

    @action()
    async def endless(self) -> AsyncIterator[int]:
        try:
            yield 0
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()

    @action()
    async def linger(self) -> str:
        self.began.set()
        await self.go_on.wait()
        return "done"

    @action()
    def hang(self) -> None:
        self.began.set()
        self.freed.wait(60)

    @action()
    async def think(self) -> AsyncIterator[int]:
        await self.thought.wait()
        raise Short
        yield

    @action(permission=IsLetIn)
    async def guarded(self) -> AsyncIterator[int]:
        self.joined.append("guarded")
        yield 1

    @action("any.*")
    async def whatever(self, action: str) -> str:
        return action

    @action()
    async def who(self, connection: Connection) -> list[str]:
        return sorted(connection.rooms)

    @action(idempotent=True)
    async def once(self, connection: Connection) -> str:
        return connection.id


def create_app(room: Room) -> FastAPI:
    app = FastAPI()
    add_channel(app)
    room.mount(app, "/rooms/{channel}", http=True, user=name_of, dependencies=[Depends(only_members)])
    return app


@pytest.fixture
def room() -> Room:
    return Room()


@pytest.fixture
async def site(room: Room) -> AsyncIterator[Site]:
    room.exception_handler(Disconnected)(lambda websocket, exc: {"told": str(exc)})
    async with serving(create_app(room)) as site:
        yield site


async def post(site: Site, action: str, body: Any = None, room: str = "r", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    how: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body}
    async with site.client(timeout=30) as http:
        return await http.post(f"/rooms/{room}/actions/{action}", headers=named, **how)


async def test_an_action_is_called_and_everybody_hears_it(site: Site, room: Room) -> None:
    async with site.connect("/rooms/r") as ada:
        await ada.receive()
        answer = await post(site, "say", {"text": "hi"}, x_name="bob")
        assert answer.status_code == 200
        assert answer.json() == {
            "type": "response",
            "action": "say",
            "status": "ok",
            "request_id": None,
            "data": {"by": "bob", "text": "hi"},
        }
        assert (await ada.receive())["data"] == "hi"
        assert room.joined == ["r"], "who calls is in no room"
        assert (await room.get_connection_count("r"), site.node.served) == (1, 1)


async def test_what_a_call_returns(site: Site) -> None:
    for name, body, data in (
        ("add", {"one": 1}, 3),
        ("add", {"one": 1, "two": 1, "action": "fail", "request_id": [1]}, 2),
        ("aside", b"", "done"),
        ("any.thing/else", b"", "any.thing/else"),
        ("who", b"", []),
    ):
        answer = await post(site, name, body)
        assert (answer.status_code, answer.json()["data"]) == (200, data), name


async def test_an_action_that_returns_nothing(site: Site) -> None:
    answer = await post(site, "quietly")
    assert (answer.status_code, answer.content) == (204, b"")
    answer = await post(site, "whisper")
    assert (answer.status_code, answer.text) == (200, "psst")


async def test_an_error_is_a_status_and_the_same_body(site: Site) -> None:
    calls: list[tuple[str, Any, dict[str, str], int, str]] = [
        ("say", {"text": 1}, {}, 422, "invalid_payload"),
        ("say", {"text": "x" * 11}, {}, 422, "invalid_payload"),
        ("say", b"{", {}, 400, "parse_error"),
        ("say", b"\xff", {}, 400, "parse_error"),
        ("say", b"[1]", {}, 400, "parse_error"),
        ("say", b"[" * 900, {}, 400, "parse_error"),
        ("say", b" " * 1001, {}, 413, "too_large"),
        ("nothing", {}, {}, 404, "unknown_action"),
        ("{action}", {}, {}, 404, "unknown_action"),
        ("privately", {}, {}, 403, "permission_denied"),
        ("old", {}, {}, 410, "deprecated"),
        ("fail", {"how": "short"}, {}, 418, "short"),
        ("fail", {"how": "http"}, {}, 409, "http_error"),
        ("fail", {"how": ""}, {}, 500, "internal_error"),
        ("quietly", {}, {"origin": "https://evil.example"}, 403, "origin_denied"),
        ("quietly", {}, {"idempotency_key": "x" * 300}, 400, "parse_error"),
        ("count", {"upto": "x"}, {}, 422, "invalid_payload"),
    ]
    for name, body, headers, status, code in calls:
        answer = await post(site, name, body, **headers)
        assert (answer.status_code, answer.json()["code"]) == (status, code), (name, body)
        assert answer.headers["content-type"] == "application/json"


async def test_an_error_that_closes_is_told_as_it_was_raised(site: Site) -> None:
    answer = await post(site, "fail", {"how": "who"})
    assert (answer.status_code, answer.json()["errors"]) == (401, "sign in first")


async def test_who_may_not_come_may_not_call(site: Site) -> None:
    answer = await post(site, "quietly", room="secret")
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    assert (await post(site, "quietly", x_banned="yes")).status_code == 402, "of the route"
    assert (await post(site, "privately", x_name="ada")).json()["data"] == "ok"


async def test_what_a_handler_answers_has_a_status(site: Site, room: Room) -> None:
    room.exception_handler(KeyError)(lambda websocket, exc: JSONResponse({"no": "tea"}, 418))
    room.exception_handler(IndexError)(lambda websocket, exc: {"error": "bam"})
    room.exception_handler(TypeError)(lambda websocket, exc: None)
    answers = [await post(site, "fail", {"how": how}) for how in ("key", "index", "type")]
    assert [answer.status_code for answer in answers] == [418, 500, 500]
    assert (answers[0].json()["status"], answers[0].json()["errors"]) == (418, {"no": "tea"})
    assert (answers[1].json(), answers[2].content) == ({"error": "bam"}, b"")


async def test_calls_count_under_the_same_rates(site: Site) -> None:
    async with site.connect("/rooms/r", additional_headers={"x-name": "ada"}) as ada:
        await ada.receive()
        assert (await ada.call("rarely"))["data"] == "ok"
        answer = await post(site, "rarely", x_name="ada")
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")
        assert 59 < answer.json()["retry_after"] <= 60
        assert (await post(site, "rarely", x_name="bob")).status_code == 200


async def test_a_client_without_a_websocket_cannot_be_asked(site: Site) -> None:
    answer = await post(site, "fail", {"how": "ask"})
    assert answer.json() == {"told": "a client without a WebSocket cannot be asked"}
    assert answer.status_code == 500


async def test_a_call_that_is_made_again_acts_once(site: Site) -> None:
    key = {"idempotency_key": '"1234567890abcdef"'}
    first, again, other, *without = [
        (await post(site, "once", **headers)).json()
        for headers in (
            key,
            key,
            {"idempotency_key": "f" * 16},
            {"idempotency_key": ""},
            {"idempotency_key": '""'},
        )
    ]
    assert first == again
    assert first["request_id"] == "1234567890abcdef"
    assert other["data"] != first["data"]
    assert [answer["request_id"] for answer in without] == [None, None], "an empty key is none"
    assert without[0]["data"] != without[1]["data"]


async def test_a_stream_of_replies(site: Site) -> None:
    answer = await post(site, "count", {"upto": 2})
    assert answer.headers["content-type"].startswith("text/event-stream")
    frames = [event.frame for event in Reader().read(answer.content)]
    assert [(frame["data"], frame["more"]) for frame in frames] == [(0, True), (1, True), (None, False)]
    frames = [event.frame for event in Reader().read((await post(site, "count", {"upto": 3})).content)]
    assert [frame.get("code") for frame in frames] == [None, None, None, "short"]


async def test_a_stream_with_nothing_to_say_is_not_silent(
    site: Site, room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "BEAT", 0.01)
    async with listening(site, "/rooms/r/actions/think", method="POST") as events:
        while len(events.reader.comments) < 2:
            await events.read_on()
        room.thought.set()
        (said,) = await events.rest()
    assert (said.name, said.frame["code"]) == ("message", "short")
    late = await post(site, "think")
    assert (late.status_code, late.json()["code"]) == (418, "short"), (
        "before anything was said it is a status"
    )
    await wait_until(lambda: site.node.served == 0)


async def test_who_goes_ends_what_it_has_asked_for(site: Site, room: Room) -> None:
    async with site.unharmed():
        asking = asyncio.create_task(post(site, "wait"))
        await wait_until(lambda: site.node.served == 1)
        asking.cancel()
        await asyncio.wait((asking,))
        await asyncio.wait_for(room.cancelled.wait(), 30)


@asynccontextmanager
async def asking(site: Site, action: str, body: bytes, length: int | None = None) -> AsyncIterator[RawClient]:
    """A client that has sent its request, or a part of it, and goes without a word."""
    raw = RawClient()
    try:
        await raw.send_post(site, f"/rooms/r/actions/{action}", body, length)
        yield raw
    finally:
        raw.close()


@pytest.mark.parametrize("yields", [0, 1])
@pytest.mark.parametrize("http", ["httptools", "h11"])
async def test_who_goes_ends_a_stream_also_before_its_first_item(room: Room, http: Any, yields: int) -> None:
    app = create_app(room)

    @app.middleware("http")
    async def passes_on(request: Request, call_next: Any) -> Any:
        return await call_next(request)

    async with serving(app, http=http) as site, site.unharmed():
        async with asking(site, "forever", b'{"yields": %d}' % yields) as client:
            if yields:
                assert (await client.read_head()).startswith("HTTP/1.1 200 ")
            await wait_until(lambda: site.node.served == 1)
        await asyncio.wait_for(room.cancelled.wait(), 30)
        await wait_until(lambda: site.node.served == site.open_connections == 0)


@pytest.mark.parametrize("http", ["httptools", "h11"])
async def test_who_goes_before_its_stream_may_begin_leaves_nothing(
    room: Room, http: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(IsLetIn, "asked", asyncio.Event())
    monkeypatch.setattr(IsLetIn, "let_in", asyncio.Event())
    async with serving(create_app(room), http=http) as site, site.unharmed():
        async with asking(site, "guarded", b"{}"):
            await asyncio.wait_for(IsLetIn.asked.wait(), 30)
        await wait_until(lambda: site.node.served == site.open_connections == 0)
        async with asking(site, "forever", b'{"yie', length=100):
            await wait_until(lambda: site.node.served == 1)
        await wait_until(lambda: site.node.served == site.open_connections == 0)
        # At once: the server reads the request and the end together.
        async with asking(site, "forever", b'{"yields": 0}'):
            pass
        await wait_until(lambda: site.node.served == site.open_connections == 0)
    assert room.joined == []


async def test_what_is_closed_before_it_answers_is_no_success(site: Site) -> None:
    answer = await post(site, "fail", {"how": "close"})
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


async def test_a_server_that_waits_no_longer_says_so(room: Room) -> None:
    app = FastAPI()
    add_channel(app)
    room.mount(app, "/rooms/{channel}", http=True)
    async with serving(app, may_complain=True, timeout_graceful_shutdown=0) as site:
        asking = asyncio.create_task(post(site, "wait"))
        await wait_until(lambda: site.node.served == 1)
    answer = await asking
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "1"


async def test_a_process_that_drains_takes_no_calls(site: Site) -> None:
    await site.node.drain(0)
    answer = await post(site, "quietly")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"] == "1"


async def test_a_drain_lets_a_call_finish(site: Site, room: Room) -> None:
    room.finish_timeout = 30.0
    asking = asyncio.create_task(post(site, "linger"))
    await wait_until(lambda: room.began.is_set())
    drain = asyncio.create_task(site.node.drain(0))
    await wait_until(lambda: site.node.draining)
    assert (await post(site, "quietly")).status_code == 503
    room.go_on.set()
    answer = await asking
    assert (answer.status_code, answer.json()["data"]) == (200, "done")
    await drain
    await wait_until(lambda: not site.node.calls)


async def test_a_drain_answers_a_call_that_does_not_finish_and_ends_it(site: Site, room: Room) -> None:
    asking = asyncio.create_task(post(site, "wait"))
    await wait_until(lambda: room.began.is_set())
    await asyncio.wait_for(site.node.drain(0), 30)
    answer = await asking
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert 1 <= float(answer.headers["retry-after"]) <= 2
    await asyncio.wait_for(room.cancelled.wait(), 30)
    await wait_until(lambda: site.node.served == len(site.node.calls) == 0)


async def test_a_drain_answers_also_where_a_thread_hangs(site: Site, room: Room) -> None:
    asking = asyncio.create_task(post(site, "hang"))
    await wait_until(lambda: room.began.is_set())
    try:
        await asyncio.wait_for(site.node.drain(0), 30)
        assert (await asking).status_code == 503
        assert site.node.served == 1
    finally:
        room.freed.set()
    await wait_until(lambda: site.node.served == 0)


@pytest.mark.parametrize("http", ["httptools", "h11"])
async def test_a_drain_tells_a_stream_of_replies(room: Room, http: Any) -> None:
    async with (
        serving(create_app(room), http=http) as site,
        listening(site, "/rooms/r/actions/endless", method="POST") as events,
    ):
        assert (await events.frame())["data"] == 0
        await asyncio.wait_for(site.node.drain(0), 30)
        (told,) = await events.rest()
        assert (told.name, told.frame["code"]) == ("close", 1012)
        assert events.reader.retry in range(1000, 2001)
        await asyncio.wait_for(room.cancelled.wait(), 30)


async def test_what_is_still_read_at_a_drain_is_not_begun() -> None:
    """Its client is told that it may try again."""
    reading, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Room):
        async def decode_json(self, message: str | bytes) -> Any:
            reading.set()
            await go_on.wait()
            return await super().decode_json(message)

    room = Slow()
    async with serving(create_app(room)) as site:
        asking = asyncio.create_task(post(site, "add", {"one": 1}))
        await asyncio.wait_for(reading.wait(), 30)
        await site.node.drain(0)
        assert (await asking).status_code == 503
        go_on.set()
        await wait_until(lambda: site.node.served == 0)
    assert not room.began.is_set()


async def test_a_call_that_was_let_in_meanwhile_is_refused(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(Room):
        async def authorize(self, connection: Connection, name: str) -> bool:
            IsLetIn.asked.set()
            await IsLetIn.let_in.wait()
            return True

    monkeypatch.setattr(IsLetIn, "asked", asyncio.Event())
    monkeypatch.setattr(IsLetIn, "let_in", asyncio.Event())
    room = Slow()
    async with serving(create_app(room)) as site:
        asking = asyncio.create_task(post(site, "wait"))
        await asyncio.wait_for(IsLetIn.asked.wait(), 30)
        await site.node.drain(0)
        IsLetIn.let_in.set()
        assert (await asking).status_code == 503
        assert not room.began.is_set()


async def test_fastapis_document_has_the_actions(room: Room) -> None:
    app, router = FastAPI(), APIRouter(prefix="/api")
    room.mount(app, "/rooms/{channel}", http=True, sse=True)
    Room().mount(router, "/others/{channel}", http=True)
    app.include_router(router)
    document = app.openapi()
    say = document["paths"]["/rooms/{channel}/actions/say"]["post"]
    assert (say["summary"], say["description"], say["tags"]) == (
        "Say something",
        "To all in the room.",
        ["talk"],
    )
    assert [each["name"] for each in say["parameters"]] == ["channel"]
    assert say["requestBody"]["required"]
    root = {"components": document["components"]}

    def validator(place: dict[str, Any]) -> Draft202012Validator:
        return Draft202012Validator({**place["content"]["application/json"]["schema"], **root})

    assert validator(say["requestBody"]).is_valid({"text": "hi"})
    assert not validator(say["requestBody"]).is_valid({"text": "x" * 11})
    reply = {"type": "response", "action": "say", "status": "ok", "request_id": None}
    assert validator(say["responses"]["200"]).is_valid({**reply, "data": {"by": None, "text": "hi"}})
    assert not validator(say["responses"]["200"]).is_valid({**reply, "data": None})
    error = {**reply, "status": "bad", "data": None, "errors": "no", "code": "short"}
    assert validator(say["responses"]["default"]).is_valid(error)
    assert document["paths"]["/rooms/{channel}/actions/old"]["post"]["deprecated"]
    assert "requestBody" not in document["paths"]["/rooms/{channel}/actions/quietly"]["post"]
    count = document["paths"]["/rooms/{channel}/actions/count"]["post"]
    assert list(count["responses"]["200"]["content"]) == ["text/event-stream"]
    events = document["paths"]["/rooms/{channel}/events"]["get"]
    assert list(events["responses"]["200"]["content"]) == ["text/event-stream"]
    assert [each["name"] for each in events["parameters"]] == ["channel", "since", "Last-Event-ID"]
    for streamed in (events, count):
        assert streamed["responses"].keys() == {"200", "default"}
        assert validator(streamed["responses"]["default"]).is_valid(error)
    assert "requestBody" in document["paths"]["/api/others/{channel}/actions/say"]["post"]
    assert not any("{action}" in path or "*" in path for path in document["paths"])


async def test_what_is_refused_of_events_is_as_the_document_says(room: Room) -> None:
    class IsNobody(BasePermission):
        def has_permission(self, websocket: WebSocket, action: str | None, **kwargs: Any) -> bool:
            return False

    class Closed(BaseChannel):
        permission_classes = [IsNobody]

    app = create_app(room)
    Closed().mount(app, "/closed/{channel}", sse=True)
    document = app.openapi()
    said = document["paths"]["/closed/{channel}/events"]["get"]["responses"]["default"]
    async with serving(app) as site, site.client() as http:
        answer = await http.get("/closed/r/events")
    assert answer.status_code == 403
    Draft202012Validator(said["content"]["application/json"]["schema"]).validate(answer.json())


async def test_an_included_router_serves_calls() -> None:
    app, router = FastAPI(), APIRouter(prefix="/rooms")
    add_channel(app)
    Room().mount(router, "/{channel}", http=True)
    app.include_router(router, dependencies=[Depends(only_members)])
    async with serving(app) as site:
        assert (await post(site, "add", {"one": 1})).json()["data"] == 3
        assert (await post(site, "say", b"{")).json()["code"] == "parse_error", "FastAPI does not read it"
        assert (await post(site, "quietly", x_banned="yes")).status_code == 402


async def test_actions_of_an_instance_and_of_a_nested_envelope() -> None:
    class Nested(Channel):
        envelope = Envelope(payload="payload", data="result")

    app, room = FastAPI(), Nested()
    add_channel(app)
    room.mount(app, "/rooms/r", http=True)

    @room.action()
    async def double(number: int) -> int:
        return 2 * number

    async with serving(app) as site:
        assert (await post(site, "double", {"number": 2})).json()["result"] == 4
        assert (await post(site, "double", b"[1]")).json()["code"] == "parse_error"


def test_the_client_of_fastapi_calls_actions() -> None:
    app = FastAPI()
    add_channel(app)
    Room().mount(app, "/rooms/{channel}", http=True)
    with TestClient(app) as client:
        assert client.post("/rooms/r/actions/add", json={"one": 1}).json()["data"] == 3
        assert client.post("/rooms/r/actions/count", json={"upto": 1}).text.count("data: ") == 2


@pytest.mark.parametrize("over_http", [False, True])
def test_a_dependency_that_takes_a_request_cannot_be_mounted(*, over_http: bool) -> None:
    def takes_a_request(request: Request) -> None: ...
    def goes_deep(taken: None = Depends(takes_a_request)) -> None: ...

    app, refusal = FastAPI(), "takes_a_request takes a Request, and a WebSocket has none: .* HTTPConnection"
    with pytest.raises(ConfigurationError, match=refusal):
        Room().mount(app, "/rooms/{channel}", http=over_http, user=takes_a_request)
    with pytest.raises(ConfigurationError, match=refusal):
        Room().mount(app, "/rooms/{channel}", http=over_http, dependencies=[Depends(goes_deep)])
    with pytest.raises(ConfigurationError, match=refusal):
        Socket(Room()).mount(app, "/socket", user=goes_deep)


def test_what_cannot_be_mounted_over_http() -> None:
    def takes_a_websocket(websocket: WebSocket) -> None: ...

    class Packed(Channel):
        envelope = Envelope(binary=True)

    app = FastAPI()
    with pytest.raises(ConfigurationError, match="takes_a_websocket takes a WebSocket"):
        Room().mount(app, "/{channel}", sse=True, user=takes_a_websocket)
    with pytest.raises(ConfigurationError, match="binary"):
        Packed().mount(app, "/packed", http=True)
    with pytest.raises(ConfigurationError, match="no actions"):
        BaseChannel().mount(app, "/relays", http=True)
