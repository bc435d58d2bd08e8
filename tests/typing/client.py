"""Read by mypy and pyright, never run: a client is typed by the classes of the server's code."""

from collections.abc import AsyncIterator
from typing import Any, Literal, assert_never, assert_type

from pydantic import BaseModel

from fastapi_channels import Call, Channel, Connection, Event, HistoryPage, action
from fastapi_channels.client import Client, Feed, Gap, Person, PresenceChange, Room, SyncClient


class Said(Event):
    text: str


class Confirm(Call[bool]):
    question: str


class Receipt(BaseModel):
    id: int


class Say(BaseModel):
    text: str


class Lobby(Channel):
    @action()
    async def say(self, payload: Say, connection: Connection) -> Receipt:
        return Receipt(id=1)

    async def presence_data(self, connection: Connection) -> Literal["here", "away"]:
        return "here"

    @action()
    def plain(self) -> int:
        return 1

    @action()
    async def nothing(self) -> None: ...

    @action()
    async def count(self, upto: int) -> AsyncIterator[int]:
        yield 1


def heard(event: Said) -> None: ...


def missed(gap: Gap) -> str:
    match gap.reason:
        case "away" | "epoch" | "expired" | "limit":
            return "lost"
        case "resync" | "lagged":
            return "dropped"
        case _ as other:
            assert_never(other)


async def used(client: Client) -> None:
    room = client.room("/rooms/{channel}", channel="lobby", since="e:1")
    assert_type(room, Room)
    assert_type(await room.call(Lobby.say, Say(text="hello"), timeout=3.0, retry=True), Receipt)
    assert_type(await room.call(Lobby.plain), int)
    assert_type(await room.call("say", {"text": "hello"}), Any)
    await room.call(Lobby.nothing)
    assert_type(room.stream(Lobby.count, {"upto": 3}), Feed[int])
    async with room.stream(Lobby.count) as items:
        async for item in items:
            assert_type(item, int)
    await room.call(Lobby.count, {"upto": 3})  # type: ignore[misc] # it streams
    room.stream(Lobby.say)  # type: ignore[arg-type] # it replies once
    room.stream(Lobby.plain)  # type: ignore[arg-type] # the same
    assert_type(room.events(Said), Feed[Said])
    async for page in room.history(limit=20):
        assert_type(page, HistoryPage)
    room.on(Said, heard)
    room.answer(Confirm, lambda asked: True)
    room.answer(Confirm, lambda asked: "yes")  # type: ignore[arg-type, return-value] # a bool is asked for
    room.on_gap(missed)
    room.on_presence(lambda change: assert_type(change, PresenceChange))
    assert_type(room.presence.people, list[Person[Any]])
    assert_type(room.presence.of(Lobby.presence_data).people, list[Person[Literal["here", "away"]]])


def without_a_loop(client: SyncClient) -> None:
    room = client.room("/rooms/{channel}", channel="lobby")
    assert_type(room.call(Lobby.say, Say(text="hello")), Receipt)
    assert_type(room.call(Lobby.plain), int)
    assert_type(room.call("say"), Any)
    assert_type(next(room.history(limit=20)), HistoryPage)
    with room.stream(Lobby.count, {"upto": 3}) as items:
        assert_type(next(items), int)
    room.stream(Lobby.plain)  # type: ignore[arg-type] # it replies once
    with room.events(Said) as events:
        assert_type(next(events), Said)
    room.on(Said, heard)
    room.on("said", 7)  # type: ignore[call-overload] # a listener is called
    room.answer(Confirm, lambda asked: True)
