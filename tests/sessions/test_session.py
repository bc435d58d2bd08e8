"""How a connection begins: what the endpoint knows, who is let in, and how others are told."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Any

import pytest
from fastapi import Cookie, Depends, FastAPI, Header, HTTPException, Query, WebSocket
from starlette.authentication import AuthCredentials, AuthenticationBackend, BaseUser, SimpleUser
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from fastapi_channels import (
    AllowAny,
    BasePermission,
    Channel,
    ConfigurationError,
    Connection,
    IsAuthenticated,
    PermissionDenied,
    action,
    add_channel,
)
from tests.support.live import application, each_implementation, serving, wait_until


class Room(Channel):
    @action()
    async def whoami(self, connection: Connection) -> str:
        return connection.user or "nobody"

    @action()
    async def where(self, channel: str, connection: Connection) -> Any:
        return [channel, connection.room, sorted(connection.rooms)]


# What the endpoint knows


async def test_an_endpoint_has_its_own_parameters_and_dependencies():
    closed: list[str] = []

    async def database() -> AsyncIterator[str]:
        yield "open"
        closed.append("database")

    def current_user(token: Annotated[str, Header()]) -> str:
        return token.removeprefix("token-of-")

    app = FastAPI()
    add_channel(app)
    room = Room()

    @app.websocket("/houses/{number}/{name}")
    async def enter(
        websocket: WebSocket,
        number: int,
        name: str,
        user: Annotated[str, Depends(current_user)],
        data: Annotated[str, Depends(database)],
        session: Annotated[str, Cookie()],
        page: Annotated[int, Query(ge=1)] = 1,
    ) -> None:
        assert (data, session) == ("open", "s1")
        await room.connect(websocket, channel=f"{name}-{number + page}", user=user)

    path = "/houses/7/hall?page=2"
    headers = {"Token": "token-of-ann", "Cookie": "session=s1"}
    async with serving(app) as site, site.unharmed():
        async with site.connect(path, additional_headers=headers) as client:
            assert (await client.call("whoami"))["data"] == "ann"
            assert (await client.call("where"))["data"] == ["hall-9", "hall-9", ["hall-9"]]
            assert closed == []
        await wait_until(lambda: closed == ["database"])
        for wrong in ("/houses/x/hall", "/houses/7/hall?page=0"):
            assert (await site.refusal(wrong, additional_headers=headers)).status == 403
        assert (await site.refusal(path)).status == 403


async def test_a_dependency_may_refuse():
    def login(key: Annotated[str | None, Query()] = None) -> None:
        if key != "k":
            raise HTTPException(401, "log in first")

    app = FastAPI()
    add_channel(app)
    Room().mount(app, "/r", dependencies=[Depends(login)])
    async with serving(app, may_complain=True) as site, site.unharmed():
        assert (await site.refusal("/r")).status == 401
        async with site.connect("/r?key=k") as client:
            assert (await client.call("whoami"))["data"] == "nobody"


@each_implementation
async def test_the_subprotocol_and_headers_of_the_answer(ws: str):
    app = FastAPI()
    add_channel(app)
    room = Room()

    @app.websocket("/r")
    async def enter(websocket: WebSocket) -> None:
        offered = websocket.scope["subprotocols"]
        await room.connect(
            websocket, subprotocol="chat.v2" if "chat.v2" in offered else None, headers={"X-Node": "n1"}
        )

    async with serving(app, ws=ws) as site, site.unharmed():
        async with site.connect("/r", subprotocols=["chat.v1", "chat.v2"]) as client:
            assert client.socket.subprotocol == "chat.v2"
            assert client.socket.response is not None
            assert client.socket.response.headers["x-node"] == "n1"
        async with site.connect("/r") as client:
            assert client.socket.subprotocol is None


async def test_states():
    """The websocket's has what the lifespan and middlewares said; the connection's belongs to one client."""

    class Counter(Channel):
        @action()
        async def count(self, websocket: WebSocket, connection: Connection) -> Any:
            connection.state.count = getattr(connection.state, "count", 0) + 1
            return [websocket.state.greeting, websocket.state.trace, connection.state.count]

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        yield {"greeting": "hello"}

    app = FastAPI(lifespan=lifespan)
    add_channel(app)
    Counter().mount(app, "/r")
    app.add_middleware(Traced)
    async with serving(app) as site, site.connect("/r") as one, site.connect("/r") as other:
        assert (await one.call("count"))["data"] == ["hello", "t1", 1]
        assert (await one.call("count"))["data"] == ["hello", "t1", 2]
        assert (await other.call("count"))["data"] == ["hello", "t1", 1]


class Traced:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["trace"] = "t1"
        await self.app(scope, receive, send)


class ByToken(AuthenticationBackend):
    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        token = conn.headers.get("token")
        return (AuthCredentials(["all"]), SimpleUser(token)) if token else None


async def test_the_user_of_an_authentication_middleware():
    class Member(Channel):
        permission_classes = IsAuthenticated

        @action()
        async def whoami(self, connection: Connection) -> str:
            return str(connection.user.display_name)

    app = application(Member())
    app.add_middleware(AuthenticationMiddleware, backend=ByToken())
    async with serving(app) as site, site.unharmed():
        assert (await site.refusal("/r")).status == 403
        async with site.connect("/r", additional_headers={"Token": "ann"}) as client:
            assert (await client.call("whoami"))["data"] == "ann"


async def test_what_the_endpoint_says_of_the_user_counts_more():
    app = FastAPI()
    add_channel(app)
    room = Room()

    @app.websocket("/r")
    async def enter(websocket: WebSocket) -> None:
        websocket.state.user = "from the state"
        await room.connect(websocket, user=websocket.query_params.get("user"))

    async with serving(app) as site:
        async with site.connect("/r?user=ann") as client:
            assert (await client.call("whoami"))["data"] == "ann"
        async with site.connect("/r") as client:
            assert (await client.call("whoami"))["data"] == "from the state"


# Who is let in


class Refusing(BasePermission):
    async def has_permission(self, websocket: WebSocket, action: str | None, **kwargs: Any) -> bool:
        return False


class HasKey(BasePermission):
    def has_permission(self, websocket: WebSocket, action: str | None, **kwargs: Any) -> bool:
        return websocket.query_params.get("key") == "k"


async def _cancelled() -> bool:
    """As when it waits for something that was cancelled."""
    raise asyncio.CancelledError


@each_implementation
@pytest.mark.parametrize("level", ["application", "channel", "argument"])
async def test_a_permission_is_asked_before_the_handshake_is_accepted(ws: str, level: str):
    joined: list[str] = []

    class Guarded(Room):
        permission_classes = HasKey if level == "channel" else None

    room = Guarded(permission_classes=HasKey if level == "argument" else None)
    room.add_event_handler("join", lambda channel: joined.append(channel))
    app = application(room, permission_classes=HasKey if level == "application" else None)
    async with serving(app, ws=ws) as site, site.unharmed():
        refusal = await site.refusal("/r")
        assert refusal.status == 403
        assert refusal.body == {
            "type": "response",
            "status": "bad",
            "request_id": None,
            "data": None,
            "errors": "Permission Denied",
            "code": "permission_denied",
        }
        assert joined == []
        async with site.connect("/r?key=k") as client:
            assert (await client.call("whoami"))["status"] == "ok"
    assert joined == ["r"]


@pytest.mark.parametrize("http", ["httptools", "h11"])
async def test_a_handshake_that_either_parser_of_the_server_reads(http: str):
    async with serving(application(Room(permission_classes=HasKey)), http=http) as site, site.unharmed():
        assert (await site.refusal("/r")).body["code"] == "permission_denied"
        async with site.connect("/r?key=k") as client:
            assert (await client.call("whoami"))["data"] == "nobody"


@pytest.mark.parametrize(
    ("permission", "allowed"),
    [
        (True, True),
        (False, False),
        (AllowAny, True),
        (AllowAny(), True),
        (Refusing, False),
        (~Refusing, True),
        (AllowAny & Refusing, False),
        (AllowAny | Refusing, True),
        (~(AllowAny & Refusing()), True),
        ([AllowAny, Refusing], False),
        ([], True),
        (lambda websocket: True, True),
        (lambda websocket, action: action is None, True),
        (lambda websocket: None, False),
        (lambda websocket: 1, False),
        (lambda websocket, channel: channel == "r", True),
        (lambda websocket, connection: connection.room == "r" and not connection.closed, True),
        (lambda websocket: 1 / 0, False),
        (lambda websocket: _cancelled(), False),
    ],
)
async def test_what_a_permission_may_be(permission: Any, allowed: bool):
    async with serving(application(Room(permission_classes=permission))) as site, site.unharmed():
        if allowed:
            async with site.connect("/r"):
                pass
        else:
            assert (await site.refusal("/r")).status == 403


async def test_every_permission_must_allow():
    class Guarded(Room):
        permission_classes = HasKey

    app = application(Guarded(), permission_classes=lambda websocket: "door" in websocket.query_params)
    async with serving(app) as site, site.unharmed():
        for query in ("", "?key=k", "?door=1"):
            assert (await site.refusal(f"/r{query}")).status == 403
        async with site.connect("/r?key=k&door=1"):
            pass


async def test_a_permission_may_say_why():
    def explain(websocket: WebSocket) -> bool:
        if "banned" in websocket.query_params:
            raise PermissionDenied(reason="you are banned", data={"until": "tomorrow"}, hint="be nice")
        raise HTTPException(401, "log in first")

    async with serving(application(Room(permission_classes=explain))) as site, site.unharmed():
        refusal = await site.refusal("/r?banned=1")
        assert refusal.status == 403
        assert refusal.body["errors"] == "you are banned"
        assert refusal.body["data"] == {"until": "tomorrow"}
        assert refusal.body["hint"] == "be nice"
        refusal = await site.refusal("/r")
        assert refusal.status == 401
        assert refusal.body["errors"] == "log in first"


async def test_a_refusal_where_the_server_cannot_answer_with_a_body():
    app = application(Room(permission_classes=False))

    async def without_extensions(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "extensions": {}}, receive, send)

    async with serving(without_extensions) as site:
        assert (await site.refusal("/r")).status == 403


@each_implementation
async def test_a_refusal_of_what_the_endpoint_has_accepted_is_a_frame_and_a_close(ws: str):
    app = FastAPI()
    add_channel(app)
    room = Room(permission_classes=False)

    @app.websocket("/r")
    async def enter(websocket: WebSocket) -> None:
        await websocket.accept()
        await room.connect(websocket)

    async with serving(app, ws=ws) as site, site.unharmed(), site.connect("/r") as client:
        assert (await client.receive())["code"] == "permission_denied"
        assert (await client.closed()).code == 1008


async def test_an_endpoint_may_accept_and_speak_first():
    app = FastAPI()
    add_channel(app)
    room = Room()

    @app.websocket("/r")
    async def enter(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("your name?")
        await room.connect(websocket, user=await websocket.receive_text())

    async with serving(app) as site, site.unharmed(), site.connect("/r") as client:
        assert await client.read() == "your name?"
        await client.send("ann")
        assert (await client.call("whoami"))["data"] == "ann"


@pytest.mark.parametrize(
    ("allowed", "origin", "accepted"),
    [
        (None, "http://127.0.0.1:{port}", True),
        (None, None, True),
        (None, "https://example.com", False),
        (["https://example.com"], "https://example.com", True),
        (["https://example.com"], "https://EXAMPLE.com:443", True),
        (["https://example.com"], "http://example.com", False),
        (["https://*.example.com"], "https://a.b.example.com", True),
        (["https://*.example.com"], "https://example.com.evil.org", False),
        (["*"], "https://anything.example", True),
    ],
)
async def test_origins(allowed: list[str] | None, origin: str | None, accepted: bool):
    async with serving(application(Room(), allowed_origins=allowed)) as site, site.unharmed():
        sent = origin.format(port=site.port) if origin else None
        if accepted:
            async with site.connect("/r", origin=sent):
                pass
        else:
            assert (await site.refusal("/r", origin=sent)).body["code"] == "origin_denied"


# How many


@each_implementation
async def test_no_more_than_max_connection_of_50_at_once(ws: str):
    room = Room(max_connection=10)
    async with serving(application(room), ws=ws) as site, site.unharmed(), AsyncExitStack() as clients:

        async def arrive() -> int:
            try:
                await clients.enter_async_context(site.connect("/r"))
            except Exception:
                return (await site.refusal("/r")).status
            return 101

        answers = await asyncio.gather(*(arrive() for _ in range(50)))
        assert sorted(answers) == [101] * 10 + [503] * 40
        assert site.node.hub.count("r") == 10
        async with site.connect("/another"):
            pass


async def test_who_leaves_makes_room():
    async with serving(application(Room(max_connection=1))) as site, site.unharmed():
        for _ in range(10):
            async with site.connect("/r"):
                refusal = await site.refusal("/r")
                assert refusal.status == 503
                assert refusal.body["code"] == "channel_full"
            await wait_until(lambda: site.node.hub.count("r") == 0)


async def test_who_is_refused_for_another_reason_takes_no_place():
    room = Room(max_connection=1, permission_classes=HasKey)
    async with serving(application(room)) as site, site.unharmed():
        for _ in range(5):
            assert (await site.refusal("/r")).status == 403
        async with site.connect("/r?key=k"):
            pass


# Faults of the application


@pytest.mark.parametrize("fault", [RuntimeError, ConnectionRefusedError, TimeoutError])
async def test_a_fault_before_the_client_is_accepted_is_logged(
    fault: type[Exception], caplog: pytest.LogCaptureFixture
):
    class Shown(Room):
        presence = True

        def presence_data(self, connection: Connection) -> str:
            raise fault("on purpose")

    async with serving(application(Shown()), may_complain=True) as site, site.unharmed():
        assert (await site.refusal("/r")).status == 500
    assert any(record.exc_info and record.exc_info[0] is fault for record in caplog.records)


async def test_the_id_of_a_fault_before_the_client_is_accepted_is_in_the_log(
    caplog: pytest.LogCaptureFixture,
):
    class Shown(Room):
        presence = True

        def presence_data(self, connection: Connection) -> str:
            raise ConfigurationError("on purpose")

    async with serving(application(Shown())) as site, site.unharmed():
        refusal = await site.refusal("/r")
        assert (refusal.status, refusal.body["code"]) == (500, "internal_error")
    [said] = [record for record in caplog.records if record.exc_info]
    assert refusal.body["errors"] == said.getMessage().replace("error", "Internal error")
    assert "on purpose" in str(said.exc_info)


# Without a node


async def test_a_channel_that_no_add_channel_covers_says_so(caplog: pytest.LogCaptureFixture):
    app = FastAPI()
    Room().mount(app, "/r")
    async with serving(app, may_complain=True) as site:
        assert (await site.refusal("/r")).status == 500
    assert any("call add_channel(app)" in str(record.exc_info) for record in caplog.records)


async def test_a_handler_may_be_told_first_that_the_client_has_gone():
    """The session, which waits for the next message beside it, ends all the same."""
    room, gone = Channel(), asyncio.Event()
    room.finish_timeout = 0.1

    @room.action(detached=True)
    async def listen(websocket: WebSocket) -> None:
        with contextlib.suppress(WebSocketDisconnect):
            await websocket.receive_text()

    @room.action()
    async def echo(text: str) -> str:
        return text

    room.add_event_handler("leave", gone.set)
    async with serving(application(room)) as site, site.connect("/r") as client:
        await client.send({"action": "listen"})
        await client.call("echo", text="it waits")
        client.reset()
        async with asyncio.timeout(30):
            await gone.wait()
        assert site.node.hub.count("r") == 0


async def test_a_handler_may_read_the_websocket_itself():
    """Also when what it waits for has been read ahead."""

    class Asking(Channel):
        @action()
        async def ask(self, websocket: WebSocket) -> str:
            await websocket.send_text("name?")
            first = await websocket.receive_text()
            return f"{first} {await websocket.receive_text()}"

        @action()
        async def echo(self, text: str) -> str:
            return text

    async with serving(application(Asking())) as site, site.connect("/r") as client:
        await client.send({"action": "ask"})
        assert await client.read() == "name?"
        node = site.node
        await wait_until(lambda: all(inbox._read is not None for inbox in node.watch._inboxes))
        await client.send("ann")
        await client.send("lee")
        assert (await client.receive())["data"] == "ann lee"
        assert (await client.call("echo", text="after"))["data"] == "after"
