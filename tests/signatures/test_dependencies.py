"""What actions depend on: resolved for each message as FastAPI does for a request, and closed behind it."""

import asyncio
import functools
import inspect
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Annotated, Any, NamedTuple

import pytest
from fastapi import (
    APIRouter,
    BackgroundTasks,
    Body,
    Cookie,
    Depends,
    FastAPI,
    Header,
    HTTPException,
    Path,
    Query,
    Request,
    Response,
    Security,
    WebSocket,
    WebSocketException,
)
from fastapi.exceptions import WebSocketRequestValidationError
from fastapi.security import SecurityScopes
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from starlette.requests import HTTPConnection

from fastapi_channels import (
    ActionRouter,
    Channel,
    ConfigurationError,
    Connection,
    Socket,
    action,
    add_channel,
    current_connection,
    current_message,
)
from fastapi_channels.wire.messages import Message
from tests.support.live import wait_until
from tests.support.wire import Wire, dial

Log = list[Any]


@asynccontextmanager
async def connected(channel: Channel, path: str = "/r", **options: Any) -> AsyncIterator[Wire]:
    """A client of `channel`, whose application runs."""
    app = FastAPI()
    add_channel(app)
    channel.mount(app, "/{channel}")
    async with app.router.lifespan_context(app), dial(app, path, **options) as wire:
        yield wire


async def replies(channel: Channel, *names: str, **options: Any) -> list[Any]:
    """What comes back for a call of each action: the data of a reply, the code of an error."""
    async with connected(channel, **options) as wire:
        wire.send(*({"action": name, "request_id": name} for name in names))
        frames = [await wire.receive() for _ in names]
    return [frame.get("code", frame["data"]) for frame in frames]


def taking(func: Callable[..., Any], *parameters: Any, **named: Any) -> Callable[..., Any]:
    """`func` with the parameters `a`, `b`, … and others of these types, whatever its own are."""
    types = {**dict(zip("abcdefgh", parameters, strict=False)), **named}
    signature = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation)
        for name, annotation in types.items()
    ]
    func.__signature__ = inspect.Signature(signature)
    return func


# The contract with FastAPI: a signature means in an action what it means in a route


def twice(*dependencies: Any) -> FastAPI:
    """What a route at `/route/{room}` and an action at `/action/{room}` receive for the same parameters."""
    app = FastAPI()
    add_channel(app)

    async def route(websocket: WebSocket, **values: Any) -> None:
        await websocket.accept()
        await websocket.send_json([values[key] for key in sorted(values)])

    async def value(**values: Any) -> Any:
        return [values[key] for key in sorted(values)]

    channel = Channel()
    channel.action()(taking(value, *dependencies))
    app.add_api_websocket_route("/route/{room}", taking(route, *dependencies, websocket=WebSocket))

    @app.websocket("/action/{room}")
    async def endpoint(websocket: WebSocket, room: str) -> None:
        await channel.connect(websocket, channel=room)

    @app.exception_handler(WebSocketRequestValidationError)
    async def refused(websocket: WebSocket, exc: Exception) -> None:
        assert isinstance(exc, WebSocketRequestValidationError)
        await websocket.accept()
        await websocket.send_json(
            [{"loc": list(e["loc"]), "msg": e["msg"], "type": e["type"]} for e in exc.errors()]
        )

    return app


async def outcomes(app: FastAPI, query: str = "", **options: Any) -> tuple[Any, Any]:
    """What the route and the action of `twice` say."""
    async with app.router.lifespan_context(app):
        async with dial(app, f"/route/attic{query}", **options) as wire:
            by_route = await wire.receive()
        async with dial(app, f"/action/attic{query}", **options) as wire:
            wire.call("value")
            by_action = (await wire.receive())["data"]
    return by_route, by_action


async def header(x_token: Annotated[str, Header()]) -> str:
    return x_token


def cookie(session: Annotated[str | None, Cookie()] = None, absent: Annotated[str, Cookie()] = "-") -> str:
    return f"{session} {absent}"


async def query(limit: int = 20, tag: Annotated[list[str], Query(alias="t")] = []) -> Any:  # noqa: B006
    return [limit, tag]


class Filter(BaseModel):
    limit: int = 20
    t: list[str] = []


async def query_model(found: Annotated[Filter, Query()]) -> Any:
    return found.model_dump()


async def path(room: Annotated[str, Path()]) -> str:
    return room


class Page:
    def __init__(self, limit: int = 20) -> None:
        self.limit = limit


async def of_class(page: Annotated[Page, Depends()]) -> int:
    return page.limit


class Counter:
    def __init__(self, start: int) -> None:
        self.start = start

    async def __call__(self, limit: int) -> int:
        return self.start + limit


class Opening:
    async def __call__(self, limit: int) -> AsyncIterator[int]:
        yield limit


class PlainOpening:
    def __call__(self, limit: int) -> Iterator[int]:
        yield limit


async def add(limit: int, other: int) -> int:
    return limit + other


def plain(limit: int) -> int:
    return limit


@functools.wraps(plain)
async def wrapping(*args: Any, **kwargs: Any) -> int:
    return plain(*args, **kwargs) + 1


async def websocket(websocket: WebSocket, connection: HTTPConnection) -> str:
    return f"{websocket.url.scheme} {connection.url.query}"


async def scopes(scopes: SecurityScopes) -> list[str]:
    return scopes.scopes


async def scoped(
    own: Annotated[list[str], Security(scopes, scopes=["own", "top"])],
    plain: Annotated[list[str], Depends(scopes)],
    again: Annotated[list[str], Depends(scopes)],
) -> Any:
    return [own, plain, again]


ANYTHING = {
    "header": [Depends(header)],
    "cookie": [Depends(cookie)],
    "query": [Depends(query)],
    "query as a model": [Depends(query_model)],
    "path": [Depends(path)],
    "a class": [Depends(of_class)],
    "an instance": [Depends(Counter(100))],
    "an instance that yields": [Depends(Opening())],
    "an instance that yields in a thread": [Depends(PlainOpening())],
    "a partial": [Depends(functools.partial(add, other=5))],
    "a wrapper": [Depends(wrapping)],
    "the websocket": [Depends(websocket)],
    "scopes": [Security(scoped, scopes=["top"]), Depends(scopes), Security(scopes, scopes=["x"])],
    "parameters of its own": [Query(alias="limit"), Header(alias="x-token")],
    "everything": [Depends(header), Depends(query), Security(scoped, scopes=["top"]), Query(alias="limit")],
}


@pytest.mark.parametrize("dependencies", ANYTHING.values(), ids=ANYTHING)
async def test_a_signature_means_what_it_means_in_a_route(dependencies: Sequence[Any]):
    app = twice(*(Annotated[Any, each] for each in dependencies))
    headers = [("x-token", "t"), ("cookie", "session=s")]
    by_route, by_action = await outcomes(app, "?limit=7&t=a&t=b", headers=headers)
    assert by_action == by_route


@pytest.mark.parametrize("dependencies", [["header", "query"], ["an instance"], ["query as a model"]])
async def test_what_does_not_fit_is_told_as_in_a_route(dependencies: Sequence[str]):
    app = twice(*(Annotated[Any, each] for name in dependencies for each in ANYTHING[name]))
    by_route, by_action = await outcomes(app, "?limit=many")
    assert by_route
    assert by_action == by_route


class Node(NamedTuple):
    kind: str
    needs: list[int]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[Node], list[tuple[int, bool]]]:
    """Dependencies, each of which needs some of those before it, and what an action takes of them."""
    kinds = st.sampled_from(["async", "sync", "async yield", "yield"])
    nodes: list[Node] = []
    for index in range(draw(st.integers(1, 5))):
        needs = draw(st.lists(st.integers(0, index - 1), unique=True)) if index else []
        nodes.append(Node(draw(kinds), needs))
    taken = st.tuples(st.integers(0, len(nodes) - 1), st.booleans())
    return nodes, draw(st.lists(taken, min_size=1, max_size=4))


def functions(nodes: Sequence[Node], log: Log) -> list[Callable[..., Any]]:
    made: list[Callable[..., Any]] = []
    for index, (kind, needs) in enumerate(nodes):
        func = taking(logging_function(kind, index, log), *(Annotated[Any, Depends(made[i])] for i in needs))
        made.append(func)
    return made


def logging_function(kind: str, name: Any, log: Log) -> Callable[..., Any]:
    """A dependency whose value is its name and what it was called with."""

    def opened(arguments: dict[str, Any]) -> Any:
        log.append(("opened", name))
        return [name, *(arguments[key] for key in sorted(arguments))]

    async def coroutine(**arguments: Any) -> Any:
        return opened(arguments)

    def function(**arguments: Any) -> Any:
        return opened(arguments)

    async def async_generator(**arguments: Any) -> AsyncIterator[Any]:
        try:
            yield opened(arguments)
        finally:
            log.append(("closed", name))

    def generator(**arguments: Any) -> Iterator[Any]:
        try:
            yield opened(arguments)
        finally:
            log.append(("closed", name))

    return {"async": coroutine, "sync": function, "async yield": async_generator, "yield": generator}[kind]


@settings(max_examples=60)
@given(graphs())
def test_any_graph_is_opened_and_closed_in_the_order_of_a_route(graph: Any):
    nodes, taken = graph
    log: Log = []
    made = functions(nodes, log)
    app = twice(*(Annotated[Any, Depends(made[index], use_cache=cache)] for index, cache in taken))

    async def both() -> tuple[Any, Log, Any, Log]:
        by_route, by_action = None, None
        async with app.router.lifespan_context(app):
            async with dial(app, "/route/r") as wire:
                by_route = await wire.receive()
                await wire.ended()
            in_route = log.copy()
            log.clear()
            async with dial(app, "/action/r") as wire:
                wire.call("value")
                by_action = (await wire.receive())["data"]
        return by_route, in_route, by_action, log

    by_route, in_route, by_action, in_action = asyncio.run(both())
    assert by_action == by_route
    assert in_action == in_route


# When they run, and when they are closed


async def test_each_message_has_its_own_and_closes_them_before_its_reply():
    log: Log = []

    async def outer() -> AsyncIterator[str]:
        log.append("outer opened")
        yield "outer"
        log.append("outer closed")

    async def inner(outer: Annotated[str, Depends(outer)]) -> AsyncIterator[str]:
        log.append("inner opened")
        yield f"inner of {outer}"
        log.append("inner closed")

    class Room(Channel):
        @action()
        async def run(self, value: Annotated[str, Depends(inner)], connection: Connection) -> str:
            await connection.send("running")
            log.append(value)
            return "done"

    async with connected(Room()) as wire:
        for _ in range(2):
            wire.call("run")
            assert await wire.read() == "running"
            assert (await wire.receive())["data"] == "done"
            assert log == ["outer opened", "inner opened", "inner of outer", "inner closed", "outer closed"]
            log.clear()


async def test_a_value_is_cached_within_a_message_and_no_longer():
    calls = iter(range(100))

    async def number() -> int:
        return next(calls)

    async def other(number: Annotated[int, Depends(number)]) -> int:
        return number

    class Room(Channel):
        @action()
        async def run(
            self,
            first: Annotated[int, Depends(number)],
            cached: Annotated[int, Depends(number)],
            deep: Annotated[int, Depends(other)],
            fresh: Annotated[int, Depends(number, use_cache=False)],
        ) -> list[int]:
            return [first, cached, deep, fresh]

    assert await replies(Room(), "run", "run") == [[0, 0, 0, 1], [2, 2, 2, 3]]


async def test_plain_functions_run_in_threads():
    here = threading.get_ident()
    seen: Log = []

    def thread() -> int:
        return threading.get_ident()

    def opened() -> Iterator[int]:
        yield threading.get_ident()
        seen.append(threading.get_ident())

    class Room(Channel):
        ack = True

        @action()
        async def run(self, a: Annotated[int, Depends(thread)], b: Annotated[int, Depends(opened)]) -> None:
            seen.extend((a, b))

    await replies(Room(), "run")
    assert len(seen) == 3
    assert here not in seen


async def test_what_is_opened_in_threads_is_released_although_all_threads_wait_for_it():
    """As with a pool of database connections that is smaller than the pool of threads."""
    free = threading.Semaphore(2)
    clients = 60

    def pooled() -> Iterator[None]:
        assert free.acquire(timeout=10)
        try:
            yield
        finally:
            free.release()

    class Room(Channel):
        ack = True

        @action(concurrent=clients)
        async def run(self, connection: Annotated[None, Depends(pooled)]) -> None:
            await asyncio.sleep(0)

    async with connected(Room()) as wire:
        for number in range(clients):
            wire.call("run", request_id=number)
        assert sorted([(await wire.receive())["request_id"] for _ in range(clients)]) == list(range(clients))


Kind = Callable[[Log], Callable[..., Any]]


def opened(log: Log) -> Callable[..., Any]:
    """A dependency that is opened here, and keeps how it is closed."""

    async def dependency() -> AsyncIterator[None]:
        log.append("opened")
        try:
            yield
        except BaseException as exc:
            await asyncio.sleep(0)
            log.append(type(exc).__name__)
            raise
        finally:
            log.append("closed")

    return dependency


def opened_in_a_thread(log: Log) -> Callable[..., Any]:
    def dependency() -> Iterator[None]:
        log.append("opened")
        try:
            yield
        except BaseException as exc:
            log.append(type(exc).__name__)
            raise
        finally:
            log.append("closed")

    return dependency


each_kind = pytest.mark.parametrize("kind", [opened, opened_in_a_thread])


@each_kind
async def test_a_dependency_sees_the_error_of_its_action(kind: Kind):
    log: Log = []

    class Room(Channel):
        @action(dependencies=[Depends(kind(log))])
        async def fail(self) -> None:
            raise HTTPException(418, "no")

    async with connected(Room()) as wire:
        wire.call("fail", request_id=1)
        frame = await wire.receive()
    assert (frame["status"], frame["errors"], frame["request_id"]) == (418, "no", 1)
    assert log == ["opened", "HTTPException", "closed"]


@each_kind
@pytest.mark.parametrize("concurrent", [1, 2])
async def test_a_dependency_is_closed_when_the_client_cancels(kind: Kind, concurrent: int):
    log: Log = []
    runs = asyncio.Event()

    class Room(Channel):
        @action(dependencies=[Depends(kind(log))], concurrent=concurrent)
        async def wait(self) -> None:
            runs.set()
            await asyncio.Event().wait()

    async with connected(Room()) as wire:
        wire.call("wait", request_id=1)
        await runs.wait()
        wire.send({"type": "cancel", "request_id": 1})
        assert (await wire.receive())["code"] == "cancelled"
        assert log == ["opened", "CancelledError", "closed"]


@each_kind
@pytest.mark.parametrize("concurrent", [1, 2])
async def test_a_dependency_is_closed_when_the_client_leaves(kind: Kind, concurrent: int):
    log: Log = []
    runs = asyncio.Event()

    class Room(Channel):
        finish_timeout = 0.05

        @action(dependencies=[Depends(kind(log))], concurrent=concurrent)
        async def wait(self) -> None:
            runs.set()
            await asyncio.Event().wait()

    async with connected(Room()) as wire:
        wire.call("wait")
        await runs.wait()
        wire.leave()
        await wire.ended()
        assert log == ["opened", "CancelledError", "closed"]


@each_kind
async def test_a_dependency_is_closed_when_another_fails(kind: Kind):
    log: Log = []

    async def refusing() -> None:
        raise WebSocketException(1008, "not you")

    class Room(Channel):
        @action(dependencies=[Depends(kind(log)), Depends(refusing)])
        async def run(self) -> None:
            raise AssertionError("must not run")

    async with connected(Room()) as wire:
        wire.call("run")
        assert (await wire.receive())["status"] == "bad"
    assert log == ["opened", "WebSocketException", "closed"]


async def test_who_is_cancelled_while_a_thread_opens_waits_for_it_and_closes():
    log: Log = []
    enters, may_go_on = threading.Event(), threading.Event()

    def slow() -> Iterator[None]:
        enters.set()
        assert may_go_on.wait(10)
        log.append("opened")
        try:
            yield
        finally:
            log.append("closed")

    class Room(Channel):
        @action(dependencies=[Depends(slow)])
        async def run(self) -> None:
            log.append("ran")

    async with connected(Room()) as wire:
        wire.call("run", request_id=1)
        await wait_until(enters.is_set)
        wire.send({"type": "cancel", "request_id": 1})
        await wait_until(lambda: not wire.waiting)
        may_go_on.set()
        assert (await wire.receive())["code"] == "cancelled"
    assert log == ["opened", "closed"]


async def test_who_is_cancelled_while_a_thread_fails_to_open_is_cancelled():
    enters, may_go_on = threading.Event(), threading.Event()

    def failing() -> Iterator[None]:
        enters.set()
        assert may_go_on.wait(10)
        raise RuntimeError("no connection")
        yield

    class Room(Channel):
        @action(dependencies=[Depends(failing)])
        async def run(self) -> None: ...

    async with connected(Room()) as wire:
        wire.call("run", request_id=1)
        await wait_until(enters.is_set)
        wire.send({"type": "cancel", "request_id": 1})
        await wait_until(lambda: not wire.waiting)
        may_go_on.set()
        assert (await wire.receive())["code"] == "cancelled"


async def test_who_is_cancelled_while_a_thread_closes_waits_for_it():
    log: Log = []
    leaves, may_go_on = threading.Event(), threading.Event()

    def slow() -> Iterator[None]:
        yield
        leaves.set()
        assert may_go_on.wait(10)
        log.append("closed")

    class Room(Channel):
        @action(dependencies=[Depends(slow)])
        async def run(self) -> str:
            return "done"

    async with connected(Room()) as wire:
        wire.call("run", request_id=1)
        await wait_until(leaves.is_set)
        wire.send({"type": "cancel", "request_id": 1})
        await wait_until(lambda: not wire.waiting)
        may_go_on.set()
        assert (await wire.receive())["code"] == "cancelled"
    assert log == ["closed"]


@pytest.mark.parametrize("thread", [False, True])
async def test_a_dependency_may_turn_an_error_into_another(thread: bool):
    async def here() -> AsyncIterator[None]:
        try:
            yield
        except ValueError as exc:
            raise HTTPException(409, "taken") from exc

    def in_a_thread() -> Iterator[None]:
        try:
            yield
        except ValueError as exc:
            raise HTTPException(409, "taken") from exc

    class Room(Channel):
        @action(dependencies=[Depends(in_a_thread if thread else here)])
        async def run(self) -> None:
            raise ValueError

    async with connected(Room()) as wire:
        wire.call("run")
        frame = await wire.receive()
    assert (frame["status"], frame["errors"]) == (409, "taken")


@pytest.mark.parametrize("thread", [False, True])
async def test_a_dependency_that_swallows_an_error_is_an_error(thread: bool):
    """The client must not wait for a reply that nobody is going to make."""

    async def here() -> AsyncIterator[None]:
        with suppress(ValueError):
            yield

    def in_a_thread() -> Iterator[None]:
        with suppress(ValueError):
            yield

    class Room(Channel):
        @action(dependencies=[Depends(in_a_thread if thread else here)])
        async def run(self) -> None:
            raise ValueError

    assert await replies(Room(), "run") == ["internal_error"]


async def test_what_fails_in_closing_comes_in_place_of_the_reply():
    async def failing() -> AsyncIterator[None]:
        yield
        raise HTTPException(503, "not committed")

    class Room(Channel):
        @action(dependencies=[Depends(failing)])
        async def run(self) -> str:
            return "done"

    async with connected(Room()) as wire:
        wire.call("run")
        frame = await wire.receive()
    assert (frame["status"], frame["errors"]) == (503, "not committed")


async def test_concurrent_actions_share_nothing():
    sessions: list[Log] = []
    both, first_is_closed = asyncio.Barrier(2), asyncio.Event()

    async def session() -> AsyncIterator[Log]:
        mine: Log = ["open"]
        sessions.append(mine)
        yield mine
        mine.append("closed")

    class Room(Channel):
        @action(concurrent=2)
        async def run(self, number: int, session: Annotated[Log, Depends(session)]) -> Log:
            await both.wait()
            if number == 2:
                await first_is_closed.wait()
            return session.copy()

    async with connected(Room()) as wire:
        wire.call("run", number=1)
        wire.call("run", number=2)
        assert (await wire.receive())["data"] == ["open"]
        assert sorted(sessions) == [["open"], ["open", "closed"]]
        first_is_closed.set()
        assert (await wire.receive())["data"] == ["open"]
    assert sessions == [["open", "closed"]] * 2


async def test_nothing_is_opened_for_a_message_that_does_not_fit():
    log: Log = []

    async def strict(limit: int) -> int:
        return limit

    class Room(Channel):
        @action(dependencies=[Depends(opened(log)), Depends(strict)])
        async def run(self, text: str = "") -> None: ...

    async with connected(Room(), "/r") as wire:
        wire.call("run", text=5)
        assert (await wire.receive())["data"][0]["loc"] == ["query", "limit"]
    assert log == []


async def test_who_may_not_call_is_not_told_what_would_fit():
    """The dependencies come before the payload, as in a route of FastAPI."""

    async def login() -> None:
        raise HTTPException(401, "who are you?")

    class Room(Channel):
        @action(dependencies=[Depends(login)])
        async def run(self, text: str) -> None: ...

    async with connected(Room(), "/r") as wire:
        wire.call("run", text=5)
        assert (await wire.receive())["status"] == 401


async def test_a_bound_on_how_many_may_be_open():
    """`Depends(max_concurrency=…)` of newer versions of FastAPI."""
    if "max_concurrency" not in inspect.signature(Depends).parameters:
        return
    depends: Callable[..., Any] = Depends
    open_now: list[int] = []
    peak: list[int] = []

    async def opens() -> AsyncIterator[None]:
        open_now.append(1)
        peak.append(len(open_now))
        yield
        open_now.pop()

    async def runs() -> None:
        open_now.append(1)
        peak.append(len(open_now))
        await asyncio.sleep(0)
        open_now.pop()

    class Room(Channel):
        ack = True

        @action("open", concurrent=5, dependencies=[depends(opens, max_concurrency=1)])
        async def open_one(self) -> None:
            await asyncio.sleep(0)

        @action(concurrent=5, dependencies=[depends(runs, max_concurrency=1)])
        async def run(self) -> None: ...

    for name in ("open", "run"):
        async with connected(Room()) as wire:
            for number in range(5):
                wire.call(name, request_id=number)
            for _ in range(5):
                assert (await wire.receive())["status"] == "ok"
        assert (set(peak), open_now) == ({1}, [])


# Where they are declared


async def test_dependencies_of_the_channel_the_routers_and_the_action():
    log: Log = []

    def note(name: str) -> Any:
        return Depends(taking(logging_function("async", name, log)))

    inner = ActionRouter("inner.", dependencies=[note("inner")])

    @inner.action(dependencies=[note("action")])
    async def run(last: Annotated[Any, note("parameter")]) -> str:
        return "ran"

    outer = ActionRouter("outer.", dependencies=[note("outer")])
    outer.include_router(inner)

    class Room(Channel):
        dependencies = [note("channel")]
        routers = (outer,)

        @action()
        async def own(self) -> str:
            return "own"

    room = Room()

    @room.action()
    async def late() -> str:
        return "late"

    assert await replies(room, "outer.inner.run", "own", "late") == ["ran", "own", "late"]
    names = [name for _, name in log]
    assert names == ["channel", "outer", "inner", "action", "parameter", "channel", "channel"]


async def test_overrides_of_the_application():
    async def real() -> str:
        raise AssertionError("must not be asked")

    async def user(name: Annotated[str, Depends(real)]) -> str:
        return f"user {name}"

    async def fake(limit: int = 3) -> str:
        return f"fake {limit}"

    class Room(Channel):
        @action()
        async def who(self, user: Annotated[str, Depends(user)]) -> str:
            return user

    app = FastAPI()
    add_channel(app)
    Room().mount(app, "/{channel}")
    async with app.router.lifespan_context(app), dial(app, "/r?limit=5") as wire:
        for override, expected in (
            (fake, "user fake 5"),
            (lambda: "ada", "user ada"),
            (lambda: "bob", "user bob"),
        ):
            app.dependency_overrides[real] = override
            for _ in range(2):
                wire.call("who")
                assert (await wire.receive())["data"] == expected
        app.dependency_overrides = {user: lambda: "nobody"}
        wire.call("who")
        assert (await wire.receive())["data"] == "nobody"


async def test_an_override_that_cannot_be_resolved_is_our_fault(caplog: pytest.LogCaptureFixture):
    async def real() -> str:
        return "real"

    class Room(Channel):
        @action()
        async def who(self, user: Annotated[str, Depends(real)]) -> str:
            return user

    def impossible(request: Request) -> None: ...

    app = FastAPI()
    add_channel(app)
    Room().mount(app, "/{channel}")
    app.dependency_overrides[real] = impossible
    async with app.router.lifespan_context(app), dial(app, "/r") as wire:
        wire.call("who")
        assert (await wire.receive())["code"] == "internal_error"
    assert "the parameter 'request'" in caplog.text


class Say(BaseModel):
    text: str


async def test_a_body_is_the_payload_of_the_message():
    async def one_model(said: Say) -> str:
        return said.text

    async def one_field(text: Annotated[str, Body()]) -> str:
        return text

    async def another(number: Annotated[int, Body()]) -> int:
        return number

    class Room(Channel):
        @action()
        async def model(self, a: Annotated[str, Depends(one_model)]) -> Any:
            return a

        @action()
        async def field(self, a: Annotated[str, Depends(one_field)]) -> Any:
            return a

        @action()
        async def fields(
            self, a: Annotated[str, Depends(one_field)], b: Annotated[int, Depends(another)], text: str
        ) -> Any:
            return [a, b, text]

    async with connected(Room()) as wire:
        for name, expected in (("model", "hi"), ("field", "hi"), ("fields", ["hi", 2, "hi"])):
            wire.call(name, text="hi", number=2)
            assert (await wire.receive())["data"] == expected
        wire.call("model")
        assert (await wire.receive())["data"] == [
            {"loc": ["text"], "msg": "Field required", "type": "missing"}
        ]
        wire.call("fields", text="hi", number="x")
        assert [error["loc"] for error in (await wire.receive())["data"]] == [["number"]]


async def test_a_dependency_may_ask_for_the_connection_and_the_message():
    async def who(
        connection: Annotated[Connection, Depends(current_connection)],
        message: Annotated[Message, Depends(current_message)],
    ) -> str:
        return f"{connection.user} in {connection.room}: {message.action} {message.request_id}"

    class Room(Channel):
        @action()
        async def ask(self, who: Annotated[str, Depends(who)], connection: Connection) -> str:
            assert f"in {connection.room}" in who
            return who

    class Hall(Room):
        room_pattern = "hall:{name}"

    app = FastAPI()
    add_channel(app)
    socket = Socket(Hall(), Room())

    @app.websocket("/many")
    async def many(websocket: WebSocket) -> None:
        await socket.connect(websocket, user="ada")

    Room().mount(app, "/one/{channel}")
    async with app.router.lifespan_context(app):
        async with dial(app, "/one/attic") as wire:
            wire.call("ask", request_id=1)
            assert (await wire.receive())["data"] == "None in attic: ask 1"
            app.dependency_overrides[current_message] = lambda: Message("fake", {}, 0)
            wire.call("ask", request_id=1)
            assert (await wire.receive())["data"] == "None in attic: fake 0"
            app.dependency_overrides.clear()
        async with dial(app, "/many") as wire:
            for number, room in enumerate(("hall:north", "attic")):
                wire.send({"type": "join", "channel": room})
                await wire.receive()
                wire.call("ask", channel=room, request_id=number)
                assert (await wire.receive())["data"] == f"ada in {room}: ask {number}"


@pytest.mark.parametrize("given", [current_connection, current_message])
def test_a_route_has_neither(given: Callable[[], Any]):
    with pytest.raises(ConfigurationError, match=rf"{given.__name__}.*a route has no"):
        given()


# What cannot work is told when it is written


def takes_request(request: Request) -> None: ...
def takes_response(response: Response) -> None: ...
def takes_tasks(tasks: BackgroundTasks) -> None: ...
def takes_anything(value: Counter) -> None: ...
def takes_it_deep(value: Annotated[None, Depends(takes_request)]) -> None: ...


@pytest.mark.parametrize(
    ("dependency", "problem"),
    [
        (takes_request, "the parameter 'request' of .* is a Request, which a message has not"),
        (takes_it_deep, "the parameter 'request' of .* is a Request"),
        (takes_response, "the parameter 'response' of .* is a Response"),
        (takes_tasks, "the parameter 'tasks' of .* is BackgroundTasks"),
        (takes_anything, "Counter"),
        (None, "must have a callable dependency"),
        ("text", "must have a callable dependency"),
    ],
)
def test_what_a_message_has_not_is_told_at_once(dependency: Any, problem: str):
    router = Channel()

    async def run() -> None: ...

    with pytest.raises(
        ConfigurationError, match=rf"the dependencies of .*run cannot be resolved: .*{problem}"
    ):
        router.action(dependencies=[Depends(dependency)])(run)


def test_what_is_no_dependency_is_told_at_once():
    async def run() -> None: ...

    with pytest.raises(ConfigurationError, match=r"the dependencies of .*run cannot be resolved"):
        Channel().action(dependencies=[takes_anything])(run)


# Those of the connection


async def session() -> AsyncIterator[str]:
    yield "session"


def plain_session(deep: Annotated[str, Depends(session)]) -> Iterator[str]:
    yield deep


async def person(token: str = "") -> str:
    return token


async def test_those_of_the_route_are_resolved_once_for_each_connection():
    class Room(Channel):
        @action()
        async def who(self, connection: Connection) -> Any:
            return connection.user

    app = FastAPI()
    add_channel(app)
    room = Room()

    @app.websocket("/{name}")
    async def endpoint(websocket: WebSocket, name: str, person: Annotated[str, Depends(person)]) -> None:
        await room.connect(websocket, channel=name, user=person)

    async with app.router.lifespan_context(app), dial(app, "/r?token=ada") as wire:
        wire.call("who")
        assert (await wire.receive())["data"] == "ada"


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


async def visits(app: FastAPI, *paths: str) -> None:
    async with app.router.lifespan_context(app), AsyncExitStack() as stack:
        for path in paths:
            await stack.enter_async_context(dial(app, path))


async def test_one_with_yield_that_lives_as_long_as_the_connection_is_warned_of_once(
    caplog: pytest.LogCaptureFixture,
):
    app = FastAPI()
    add_channel(app)
    Channel().mount(app, "/mounted/{channel}", dependencies=[Depends(plain_session), Depends(session)])
    Channel().mount(app, "/fine/{channel}", dependencies=[Depends(person)])
    room, socket = Channel(), Socket(Channel())

    @app.websocket("/endpoint/{name}")
    async def endpoint(websocket: WebSocket, name: str, value: Annotated[str, Depends(session)]) -> None:
        await room.connect(websocket, channel=name)

    router = APIRouter(prefix="/router", dependencies=[Depends(session)])
    socket.mount(router, "/socket")
    app.include_router(router)
    await visits(
        app, "/mounted/a", "/mounted/b", "/fine/a", "/endpoint/a", "/router/socket", "/router/socket"
    )
    messages = warnings_of(caplog)
    assert [message.split(" stay open")[0] for message in messages] == [
        "plain_session, session of /mounted/{channel}",
        "session of /endpoint/{name}",
        "session of /router/socket",
    ]


async def test_a_route_of_starlette_has_none(caplog: pytest.LogCaptureFixture):
    app = FastAPI()
    add_channel(app)
    room = Channel()

    async def endpoint(websocket: WebSocket) -> None:
        await room.connect(websocket)

    app.router.add_websocket_route("/plain", endpoint)
    await visits(app, "/plain")
    assert warnings_of(caplog) == []
