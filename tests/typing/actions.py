"""Read by mypy and pyright, never run: typed actions, their dependencies and replies, events and rooms."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, TypeVar, Unpack, assert_type

from fastapi import APIRouter, Depends, FastAPI, WebSocket
from pydantic import BaseModel

from fastapi_channels import (
    ActionOptions,
    ActionRouter,
    Call,
    Channel,
    Connection,
    Event,
    Member,
    RequestId,
    Socket,
    action,
    current_connection,
    current_message,
    limiter,
)
from fastapi_channels.wire.messages import Message


class Say(BaseModel):
    text: str


class Posted(BaseModel):
    id: int


class Said(Event):
    by: str
    text: str


class Moved(Event, name="piece.moved"):
    to: int


class Confirm(Call[bool]):
    text: str


class Notify(Call):
    pass


async def session() -> AsyncIterator[str]:
    yield "session"


async def who(
    connection: Annotated[Connection, Depends(current_connection)],
    message: Annotated[Message, Depends(current_message)],
) -> str:
    assert_type(message.request_id, str | int | float | None)
    return f"{connection.user} {message.action}"


Session = Annotated[str, Depends(session)]


class Room(Channel):
    room_pattern = "room:{number:int}"
    event_types = (Said, Moved)
    call_types = (Confirm, Notify)
    dependencies = [Depends(who)]

    async def authorize(self, connection: Connection, number: int) -> bool:
        return number in connection.params.values()

    @action(response_model=Posted)
    @limiter(times=1, seconds=1)
    async def say(
        self, payload: Say, number: int, session: Session, request_id: RequestId = None, *, loud: bool = False
    ) -> Posted:
        await self.broadcast(f"room:{number}", Said(by="ada", text=payload.text))
        await self.broadcast(["room:1", "room:2"], Said(by="ada", text="both"), exclude=["0123456789ab.1"])
        await self.broadcast("room:1", "said", {"by": "ada", "text": "by name"})
        # What an event is made of is checked where it is made.
        await self.broadcast("room:1", Said(by="ada"))  # type: ignore[call-arg]
        await self.broadcast("room:1", Said(by="ada", text=5))  # type: ignore[arg-type]
        await self.broadcast("room:1", Posted(id=1))  # type: ignore[arg-type]
        await self.broadcast(1, Moved(to=1))  # type: ignore[arg-type]
        return Posted(id=1)

    @action(detached=True)
    async def words(self, text: str) -> AsyncIterator[str]:
        for word in text.split():
            yield word

    @action(concurrent=4)
    def plain(self, numbers: list[int]) -> int:
        return sum(numbers)


async def called(room: Room, websocket: WebSocket, connection: Connection) -> None:
    """An action is the method that it was: with its parameters and its result."""
    assert_type(await room.say(Say(text="hi"), 1, "session", loud=True), Posted)
    assert_type(room.words("a b"), AsyncIterator[str])
    assert_type(room.plain([1]), int)
    await room.say(Say(text="hi"), "one", "session")  # type: ignore[arg-type]
    await room.say(Say(text="hi"), 1)  # type: ignore[call-arg]
    room.plain("1")  # type: ignore[arg-type]

    assert_type(await connection.send_event(Moved(to=1)), bool)
    await connection.send_event(Say(text="hi"))  # type: ignore[arg-type]
    assert_type(await connection.call("sure", {"n": 1}, timeout=5), Any)
    await connection.call("sure", timeout="5")  # type: ignore[call-overload]
    assert_type(await connection.call(Confirm(text="sure?"), timeout=5), bool)
    assert_type(await connection.call(Notify()), Any)
    await connection.call(Confirm(text="sure?"), {"text": "twice"})  # type: ignore[call-overload]
    await connection.call(Moved(to=1))  # type: ignore[call-overload]
    await connection.join("room:2")
    await room.send_to_user("ada", Moved(to=1))
    await room.send_to_connection(connection.id, "piece.moved", {"to": 1})
    assert_type(await room.members("room:1"), list[Member])
    assert_type(await room.broadcast_to_personal(websocket, Posted(id=1)), None)


assert_type(Said.event_name, str)

router = ActionRouter("x.", dependencies=[Depends(who)], permission=True, tags=["x"])
outer = ActionRouter()
outer.include_router(router)
ActionRouter(5)  # type: ignore[arg-type]


@router.action("add", response_model=int)
async def add(a: int, connection: Connection, b: int = 1) -> int:
    return a + b


@router.action()
async def count(to: int) -> AsyncGenerator[int, None]:
    yield to


@router.exception_handler(LookupError)
async def not_there(websocket: WebSocket, exc: LookupError) -> dict[str, str]:
    return {"not": "there"}


async def functions(connection: Connection) -> None:
    assert_type(await add(1, connection), int)
    assert_type(count(1), AsyncGenerator[int, None])
    assert_type(await not_there(connection.websocket, LookupError()), dict[str, str])
    await add("1", connection)  # type: ignore[arg-type]


room = Room()
room.include_router(router)


@room.action()
async def late(text: str) -> str:
    return text


handler: Callable[[str], Awaitable[str]] = late

F = TypeVar("F", bound=Callable[..., Any])


def quick(name: str, **options: Unpack[ActionOptions]) -> Callable[[F], F]:
    """A decorator of one's own: what it does not say is passed on, and checked."""
    options.setdefault("concurrent", 4)
    return action(name, **options)


@quick("ping", permission=True, summary="Whether anybody is there")
async def ping() -> None: ...


quick("ping", permision=True)  # type: ignore[call-arg]
action(concurrent="4")  # type: ignore[arg-type]
room.action(permision=True)  # type: ignore[call-arg]
router.action(tags=5)  # type: ignore[arg-type]

socket = Socket(room, Room(), permission_classes=[True])
socket.mount(FastAPI(), "/socket", dependencies=[Depends(session)])
socket.mount(APIRouter(), "/socket")
Socket(Room)  # type: ignore[arg-type]


async def endpoint(websocket: WebSocket) -> None:
    served: Awaitable[None] = socket.connect(websocket, user="ada", headers={"x": "y"})
    await served
    assert_type(socket.find("room:1"), Channel | None)
