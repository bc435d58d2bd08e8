"""`Depends` around a connection: in permissions, `authorize`, join and leave handlers."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import pytest
from fastapi import Cookie, Depends, FastAPI, Header, HTTPException, Query, Request, WebSocket
from pydantic import BaseModel

from fastapi_channels import (
    AllowAny,
    BasePermission,
    Channel,
    ConfigurationError,
    Connection,
    Socket,
    action,
    add_channel,
    current_connection,
    current_message,
)
from fastapi_channels.testing.asgi import living
from fastapi_channels.wire.messages import Message
from tests.support.wire import Event, dial, dialing, serving

Log = list[Any]
DENIAL = "websocket.http.response"


class Database:
    """What is opened, and closed, and how often."""

    def __init__(self) -> None:
        self.log: Log = []

    async def session(self, name: Annotated[str, Query()] = "") -> AsyncIterator[str]:
        self.log.append("open")
        try:
            yield f"session of {name}"
        except BaseException as exc:
            self.log.append(type(exc).__name__)
            raise
        finally:
            self.log.append("close")


def of_session(database: Database, name: str) -> Callable[..., Any]:
    """A permission that logs that it was asked with a session."""

    async def asked(session: Annotated[str, Depends(database.session)]) -> bool:
        database.log.append((name, session))
        return True

    return asked


async def user(
    connection: Annotated[Connection, Depends(current_connection)],
    x_user: Annotated[str, Header()] = "nobody",
) -> str:
    return f"{x_user} in {connection.room}"


def thread(session: Annotated[str, Cookie()] = "none") -> tuple[str, int]:
    return session, threading.get_ident()


class IsAnn(BasePermission):
    def has_permission(
        self, websocket: WebSocket, action: str | None, *, user: Annotated[str, Depends(user)], **extras: Any
    ) -> bool:
        return user == f"ann in {extras['channel']}"


class IsStaff(BasePermission):
    async def has_permission(
        self, websocket: WebSocket, action: str | None, staff: "Annotated[str, Header()]", **extras: Any
    ) -> bool:
        return staff == "yes"


class Room(Channel):
    room_pattern = "{kind}:{number:int}"

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.log: Log = []

    async def authorize(
        self, connection: Connection, kind: str, number: int, user: Annotated[str, Depends(user)]
    ) -> bool:
        self.log.append(("authorize", kind, number, user))
        return number < 10

    async def on_join(self: Any, connection: Connection, user: Annotated[str, Depends(user)]) -> None:
        self.log.append(("join", user))

    def on_leave(self: Any, code: int, found: Annotated[tuple[str, int], Depends(thread)]) -> None:
        self.log.append(("leave", code, found[0], found[1] != threading.main_thread().ident))


ANN = [("x-user", "ann"), ("cookie", "session=s")]


async def refused(app: FastAPI, path: str, **options: Any) -> list[Event]:
    """What a client gets that is not let in, by a server that can answer with a response."""
    async with dialing(app, path, extensions=[DENIAL], **options) as wire:
        await wire.ended()
        return wire.sent


def status(events: list[Event]) -> int:
    start = next(event for event in events if event["type"] == "websocket.http.response.start")
    return start["status"]


async def test_whatever_is_asked_or_called_may_depend():
    room = Room(permission_classes=IsAnn)
    async with serving(room) as app:
        async with dial(app, "/tea:5", headers=ANN) as wire:
            wire.leave(4000)
            await wire.ended()
        assert status(await refused(app, "/tea:5", headers=[("x-user", "bob")])) == 403
        assert status(await refused(app, "/tea:10", headers=ANN)) == 403
    assert room.log == [
        ("authorize", "tea", 5, "ann in tea:5"),
        ("join", "ann in tea:5"),
        ("leave", 4000, "s", True),
        ("authorize", "tea", 10, "ann in tea:10"),
    ]


async def test_one_handshake_resolves_once_and_has_closed_before_the_join_handlers_run():
    database = Database()

    class Shop(Channel):
        permission_classes = [of_session(database, "channel"), of_session(database, "again")]

        async def authorize(
            self, connection: Connection, session: Annotated[str, Depends(database.session)]
        ) -> bool:
            database.log.append(("authorize", session))
            return True

    shop = Shop()
    for name in ("first", "second"):
        shop.add_event_handler("join", of_session(database, name))
        shop.add_event_handler("leave", of_session(database, f"{name} leave"))
    async with (
        serving(shop, permission_classes=of_session(database, "application")) as app,
        dial(app, "/r?name=x") as wire,
    ):
        wire.leave()
        await wire.ended()
    rounds: list[list[str]] = [
        ["application", "channel", "again", "authorize"],
        ["first", "second"],
        ["first leave", "second leave"],
    ]
    expected = [["open", *((name, "session of x") for name in names), "close"] for names in rounds]
    assert database.log == [entry for entries in expected for entry in entries]


async def test_what_is_decided_resolves_nothing():
    database = Database()
    asked = of_session(database, "asked")
    async with serving(Channel(permission_classes=AllowAny | asked)) as app, dial(app, "/r"):
        assert database.log == []
    async with serving(Channel(permission_classes=[False, asked])) as app:
        assert (await refused(app, "/r"))[0]["type"] == "websocket.http.response.start"
        assert database.log == []
    async with serving(Channel(permission_classes=~AllowAny | asked)) as app, dial(app, "/r"):
        assert database.log == ["open", ("asked", "session of "), "close"]


async def test_each_call_resolves_once_and_closes_before_the_action_runs():
    database = Database()

    class Shop(Channel):
        permission_classes = [of_session(database, "channel")]

        @action(permission=of_session(database, "action"))
        async def buy(self) -> str:
            database.log.append("buy")
            return "bought"

        @action()
        async def look(self) -> str:
            return "seen"

    async with serving(Shop()) as app, dial(app, "/r?name=x") as wire:
        database.log.clear()
        wire.call("buy")
        assert (await wire.receive())["data"] == "bought"
        session = "session of x"
        assert database.log == ["open", ("channel", session), ("action", session), "close", "buy"]
        database.log.clear()
        wire.call("look")
        assert (await wire.receive())["data"] == "seen"
        assert database.log == ["open", ("channel", session), "close"]


async def test_a_call_that_is_refused_keeps_the_connection():
    class Shop(Channel):
        @action(permission=IsStaff)
        async def close_up(self) -> str:
            return "closed"

        @action()
        async def look(self) -> str:
            return "seen"

    async with serving(Shop()) as app:
        async with dial(app, "/r") as wire:
            wire.call("close_up", request_id=1)
            frame = await wire.receive()
            assert (frame["code"], frame["request_id"]) == ("permission_denied", 1)
            assert frame["data"] == [{"loc": ["header", "staff"], "msg": "Field required", "type": "missing"}]
            wire.call("look")
            assert (await wire.receive())["data"] == "seen"
        async with dial(app, "/r", headers=[("staff", "yes")]) as wire:
            wire.call("close_up")
            assert (await wire.receive())["data"] == "closed"


async def unauthorized() -> str:
    raise HTTPException(401, "log in first")


async def broken() -> str:
    raise RuntimeError("a secret")


async def swallowing() -> AsyncIterator[str]:
    try:
        yield "open"
    except Exception:
        return


async def breaking() -> AsyncIterator[str]:
    yield "open"
    raise RuntimeError("a secret")


def breaking_in_a_thread() -> Iterator[str]:
    yield "open"
    raise RuntimeError("a secret")


def no(value: Annotated[str, Depends(swallowing)]) -> bool:
    raise HTTPException(401)


def wrong(value: Annotated[str, Depends(swallowing)]) -> Any:
    raise RuntimeError("a secret")


def yes(value: Annotated[str, Depends(breaking)]) -> bool:
    return True


def yes_in_a_thread(value: Annotated[str, Depends(breaking_in_a_thread)]) -> bool:
    return True


def who(value: Annotated[str, Depends(unauthorized)]) -> bool:
    return True


def what(value: Annotated[str, Depends(broken)]) -> bool:
    return True


@pytest.mark.parametrize(
    ("permission", "expected", "logged"),
    [
        (who, 401, False),
        (what, 403, True),
        (no, 403, True),
        (wrong, 403, True),
        (yes, 403, True),
        (yes_in_a_thread, 403, True),
        (IsStaff, 403, False),
        (~IsStaff, 403, False),
        (IsStaff | ~IsStaff, 403, False),
    ],
)
@pytest.mark.parametrize("opens", ["channel", "socket"])
async def test_what_fails_refuses(
    permission: Any, expected: int, logged: bool, opens: str, caplog: pytest.LogCaptureFixture
):
    app = FastAPI()
    add_channel(app)
    if opens == "channel":
        Channel(permission_classes=permission).mount(app, "/r")
    else:
        Socket(Channel(), permission_classes=permission).mount(app, "/r")
    async with living(app):
        assert status(await refused(app, "/r")) == expected
    assert ("a permission failed, and so refuses" in caplog.text) is logged


async def test_what_a_handshake_opened_sees_why_it_is_refused():
    database = Database()
    channel = Channel(permission_classes=[of_session(database, "asked"), False])
    async with serving(channel) as app:
        assert status(await refused(app, "/r")) == 403
    assert database.log == ["open", ("asked", "session of "), "PermissionDenied", "close"]


async def test_who_goes_in_the_handshake_leaves_nothing_open():
    database = Database()
    waiting = asyncio.Event()

    async def never() -> bool:
        waiting.set()
        await asyncio.Event().wait()
        return True

    async with serving(Channel(permission_classes=[of_session(database, "asked"), never])) as app:
        async with dialing(app, "/r") as wire:
            await waiting.wait()
            wire.task.cancel()
            await asyncio.wait((wire.task,))
            assert database.log == ["open", ("asked", "session of "), "CancelledError", "close"]
            wire.done = True
        assert wire.task.cancelled()


async def test_a_join_handler_that_fails_ends_the_connection_whatever_its_dependency_swallows():
    channel = Channel(on_join=wrong)
    async with serving(channel) as app, dial(app, "/r") as wire:
        assert (await wire.receive())["code"] == "internal_error"
        assert (await wire.closed()).code == 1011


async def test_a_join_handler_that_lacks_what_it_depends_on_says_so():
    async def joined(staff: Annotated[str, Header()]) -> None:
        raise AssertionError("it is not called")

    async with serving(Channel(on_join=joined)) as app, dial(app, "/r") as wire:
        frame = await wire.receive()
        assert (frame["code"], frame["data"][0]["loc"]) == ("permission_denied", ["header", "staff"])
        await wire.closed()


async def test_every_leave_handler_runs_whatever_becomes_of_dependencies(caplog: pytest.LogCaptureFixture):
    log: Log = []

    async def left(channel: str) -> None:
        log.append(channel)

    async with serving(Channel(on_leave=[what, left, yes, left])) as app, dial(app, "/r"):
        pass
    assert log == ["r", "r"]
    assert caplog.text.count("a leave handler failed") == 2


async def test_an_override_of_the_application_counts():
    def staff() -> str:
        return "ann in r"

    async with serving(Channel(permission_classes=IsAnn)) as app:
        assert status(await refused(app, "/r")) == 403
        app.dependency_overrides[user] = staff
        async with dial(app, "/r"):
            pass
        app.dependency_overrides[user] = of_message
        assert status(await refused(app, "/r")) == 403


async def test_each_join_of_a_socket_is_a_handshake_of_its_own():
    room = Room(permission_classes=IsAnn)
    app = FastAPI()
    add_channel(app)
    Socket(room, permission_classes=IsStaff).mount(app, "/ws")
    async with living(app):
        assert status(await refused(app, "/ws")) == 403
        async with dial(app, "/ws", headers=[*ANN, ("staff", "yes")]) as wire:
            for name in ("tea:1", "tea:2"):
                wire.send({"type": "join", "channel": name})
                assert (await wire.receive())["type"] == "joined"
            wire.send({"type": "join", "channel": "tea:10"})
            assert (await wire.receive())["code"] == "permission_denied"
    assert [entry for entry in room.log if entry[0] == "join"] == [
        ("join", "ann in tea:1"),
        ("join", "ann in tea:2"),
    ]


# What cannot be resolved


class Payload(BaseModel):
    text: str


async def of_message(message: Annotated[Message, Depends(current_message)]) -> str:
    return message.action


async def of_body(payload: Payload) -> str:
    return payload.text


async def of_request(request: Request) -> str:
    return request.method


def asks_message(found: Annotated[str, Depends(of_message)]) -> bool:
    return True


def asks_body(found: Annotated[str, Depends(of_body)]) -> bool:
    return True


def asks_request(found: Annotated[str, Depends(of_request)]) -> bool:
    return True


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (asks_message, "current_message is for what actions depend on"),
        (asks_body, "'payload' would be read from a message"),
        (asks_request, "'request' of .* is a Request"),
    ],
)
def test_what_a_message_alone_has_is_refused_where_it_is_written(function: Callable[..., Any], problem: str):
    with pytest.raises(ConfigurationError, match=problem):
        Channel(permission_classes=function)
    with pytest.raises(ConfigurationError, match=problem):
        Channel(on_join=function)
    with pytest.raises(ConfigurationError, match=problem):
        type("Asking", (BasePermission,), {"has_permission": function})
    with pytest.raises(ConfigurationError, match=problem):
        type("Asking", (Channel,), {"authorize": staticmethod(function), "room_pattern": "r"})


def test_a_lifespan_depends_on_nothing():
    async def lifespan(user: Annotated[str, Depends(user)]) -> AsyncIterator[None]:
        yield

    with pytest.raises(ConfigurationError, match="let the join and leave handlers depend on it"):
        Channel(lifespan=lifespan)
