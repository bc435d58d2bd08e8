"""The history of a room, read by pages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fastapi_channels import (
    Channel,
    ConfigurationError,
    Connection,
    HistoryPage,
    ParseError,
    action,
    history_router,
)
from tests.support.live import Client, application, serving


class Room(Channel):
    history = 6
    scope = "room"
    routers = (history_router,)

    @action()
    async def tell(self, connection: Connection, text: str) -> str:
        await self.broadcast(connection.room, "said", text, exclude=connection)
        return "told"


class Archive(Room):
    """Its database has ten rows, 9 to 0, which are older than any history."""

    async def load_history(self, room: str, before: str, limit: int) -> Sequence[dict[str, Any]]:
        first = int(before.removeprefix("row ")) - 1 if before.startswith("row ") else 9
        rows = range(first, max(-1, first - limit), -1)
        return [{"data": f"row {row}", "position": f"row {row}"} for row in rows]


@asynccontextmanager
async def filled(kind: type[Room] = Room, count: int = 10) -> AsyncIterator[tuple[Room, Client]]:
    room = kind()
    app = application(room)
    room.bind(app)
    async with serving(app) as site, site.connect("/tea") as client:
        await client.receive()
        for number in range(1, count + 1):
            await room.broadcast("tea", "said", number)
            await client.receive()
        yield room, client


def data(page: HistoryPage | dict[str, Any]) -> list[Any]:
    items = page.items if isinstance(page, HistoryPage) else page["items"]
    return [item["data"] for item in items]


async def all_pages(room: Room, **how: Any) -> list[list[Any]]:
    pages, since = [], None
    while True:
        page = await room.read_history("tea", since=since, **how)
        pages.append(data(page))
        since = page.next
        if since is None:
            return pages


async def test_back_from_the_newest():
    async with filled() as (room, _):
        page = await room.read_history("tea", limit=4)
        assert data(page) == [10, 9, 8, 7]
        assert page.items[0] == {
            "type": "event",
            "event": "said",
            "channel": "tea",
            "data": 10,
            "position": page.position,
        }
        assert await all_pages(room, limit=4) == [[10, 9, 8, 7], [6, 5]]
        assert await all_pages(room, limit=3) == [[10, 9, 8], [7, 6, 5]]


async def test_on_from_the_oldest():
    async with filled() as (room, _):
        assert await all_pages(room, limit=4, reverse=False) == [[5, 6, 7, 8], [9, 10]]
        newest = await room.read_history("tea")
        page = await room.read_history("tea", since=newest.position, reverse=False)
        assert (page.items, page.next, page.complete) == ([], None, True)


async def test_what_is_missing_between_is_said():
    async with filled() as (room, _):
        epoch = (await room.read_history("tea")).position.partition(":")[0]
        page = await room.read_history("tea", since=f"{epoch}:2", reverse=False)
        assert (data(page), page.complete) == ([5, 6, 7, 8, 9, 10], False)
        page = await room.read_history("tea", since=f"{epoch}:5", reverse=False)
        assert (data(page), page.complete) == ([6, 7, 8, 9, 10], True)
        for reverse in (True, False):
            page = await room.read_history("tea", since="gone:3", reverse=reverse)
            assert (sorted(data(page)), page.complete) == ([5, 6, 7, 8, 9, 10], False)


async def test_a_page_is_complete_where_it_follows():
    async with filled() as (room, _):
        epoch = (await room.read_history("tea")).position.partition(":")[0]
        for offset, reverse, items, complete in [
            (10, False, [], True),
            (11, False, [], False),  # where nobody ever was
            (99, False, [], False),
            (99, True, [10, 9, 8, 7, 6, 5], False),
            (10, True, [9, 8, 7, 6, 5], True),
            (6, True, [5], True),
            (5, True, [], False),  # 4 to 1 are not kept any more
            (3, True, [], False),
            (1, True, [], True),
        ]:
            page = await room.read_history("tea", since=f"{epoch}:{offset}", reverse=reverse)
            assert (data(page), page.next, page.complete) == (items, None, complete), (offset, reverse)


async def test_an_empty_room():
    async with filled(count=0) as (room, _):
        for reverse in (True, False):
            page = await room.read_history("tea", reverse=reverse)
            assert (page.items, page.next, page.complete) == ([], None, True)


async def test_older_frames_come_from_the_application():
    async with filled(Archive) as (room, _):
        rows = [[f"row {row}" for row in rows] for rows in ((9, 8, 7, 6), (5, 4, 3, 2), (1, 0))]
        assert await all_pages(room, limit=4) == [[10, 9, 8, 7], [6, 5], *rows]
        assert await all_pages(room, limit=50) == [
            [10, 9, 8, 7, 6, 5],
            [f"row {row}" for row in range(9, -1, -1)],
        ]
        assert await all_pages(room, limit=4, reverse=False) == [[5, 6, 7, 8], [9, 10]]


async def test_a_client_reads_by_the_action():
    async with filled() as (_, client):
        reply = await client.call("history", limit=4)
        assert data(reply["data"]) == [10, 9, 8, 7]
        reply = await client.call("history", limit=4, since=reply["data"]["next"])
        assert (data(reply["data"]), reply["data"]["next"]) == ([6, 5], None)
        reply = await client.call("history", reverse=False, limit=2)
        assert data(reply["data"]) == [5, 6]


async def test_what_was_kept_from_a_client_is_not_read_by_it():
    async with filled() as (room, client):
        await client.call("tell", text="not to me")
        await room.broadcast("tea", "said", "to all")
        assert (await client.receive())["data"] == "to all"
        reply = await client.call("history", limit=3)
        assert data(reply["data"]) == ["to all", 10]
        reply = await client.call("history", limit=2, since=reply["data"]["next"])
        assert data(reply["data"]) == [9, 8]
        assert data(await room.read_history("tea", limit=2)) == ["to all", "not to me"]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"limit": 0}, "invalid_payload"),
        ({"limit": 10**9}, "invalid_payload"),
        ({"limit": "x"}, "invalid_payload"),
        ({"since": 7}, "invalid_payload"),
        ({"since": "no position"}, "invalid_position"),
        ({"since": "k:" + "9" * 400}, "invalid_payload"),
        ({"since": ""}, "invalid_position"),
    ],
)
async def test_what_cannot_be_read(fields: dict[str, Any], code: str):
    async with filled(count=1) as (_, client):
        reply = await client.call("history", **fields)
        assert (reply["status"], reply["code"]) == ("bad", code)
        assert data((await client.call("history"))["data"]) == [1]


async def test_what_an_application_cannot_ask():
    class Forgetful(Channel):
        scope = "forgetful"

    room = Forgetful()
    app = application(room)
    room.bind(app)
    async with serving(app):
        with pytest.raises(ConfigurationError, match="Forgetful keeps no history"):
            await room.read_history("tea")
    async with filled() as (kept, _):
        with pytest.raises(ConfigurationError, match="limit=0"):
            await kept.read_history("tea", limit=0)
        with pytest.raises(ParseError):
            await kept.read_history("tea", since="row 7")
    async with filled(Archive) as (kept, _):
        with pytest.raises(ParseError):
            await kept.read_history("tea", since="x" * 257)
        with pytest.raises(ParseError):
            await kept.read_history("tea", since="row 7", reverse=False)


async def test_from_another_thread():
    async with filled() as (room, _):
        page = await asyncio.to_thread(lambda: asyncio.run(room.read_history("tea", limit=1)))
        assert data(page) == [10]
