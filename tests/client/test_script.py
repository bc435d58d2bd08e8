"""The rows of the chapter for writers of clients, played to each client by one server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias

import pytest

from .driven import Driven, in_node, in_python
from .scripted import AWAY, BACK, ROWS, Scripted, scripted

Language: TypeAlias = Callable[[str], AbstractAsyncContextManager[Driven]]


@pytest.mark.parametrize("language", [in_node, in_python])
async def test_each_row_is_played_to_it(language: Language):
    async with scripted() as server, language(server.url) as client:
        for row in ROWS:
            if row != "has-rooms":
                client.do(
                    "room",
                    id=row,
                    address="/rows/{row}",
                    parameters={"row": row},
                    **({"token": True} if row == "renews" else {}),
                    **({"by": "unusable"} if row == "unusable-token" else {}),
                )
        client.do("socket", id="many", address="/rows/has-rooms")
        for name in "ab":
            client.do("room", id=name, socket="many", name=name)
        async with asyncio.TaskGroup() as group:
            for row in ROWS:
                group.create_task(met(client, server, row), name=row)
        assert server.faults == []
        for code in AWAY:
            assert len(server.visits[f"away-{code}"]) == 1
        assert len(server.visits["refuses"]) == 1


async def met(client: Driven, server: Scripted, row: str) -> None:
    """Wait for what a row is to lead to."""

    async def told(id: str = row, **what: Any) -> None:
        await client.until(lambda said: said.get("id") == id and what.items() <= said.items())

    def states(id: str = row) -> list[str]:
        return client.of(id, "state")

    visits = server.visits[row]
    kind, _, code = row.partition("-")
    if kind == "back" or row in ("vanishes", "full", "restarts"):
        await client.until(lambda said: states().count("joined") == 1 + (row != "full"))
        assert len(visits) == 2, (row, client.of(row, "state"))
    if kind == "away":
        await told(state="refused")
        assert states() == ["joined", "refused"]
    match row:
        case "restarts":
            assert visits[1].at - visits[0].at >= 0.5
        case "refuses":
            await told(state="refused", code="permission_denied")
            ended = await client.asked("events", id=row)
            assert (ended["items"], ended["error"]) == ([], "Refused")
        case "stays":
            # What is left of a room that is over, and what nobody can be asked for.
            await told(said=1)
            assert (await client.call(row, "say", text="x" * 100))["error"] == "NotSent"
            for window in (0, 5000, 1.5):
                refused = await client.asked("stream", id=row, action="count", payload={}, window=window)
                assert "error" in refused
            listening = client.start("events", id=row)
            client.do("leave", id=row)
            assert (await client.until(listening))["items"] == []
            assert (await client.asked("events", id=row))["items"] == []
            assert client.of(row, "present") == [1, 0]
        case "unusable-token":
            await told(state="refused")
            assert visits == []
        case "expired":
            await told(state="refused", code="token_expired")
            assert len(visits) == 2
        case "recovers":
            await told(gap="epoch")
            assert client.of(row, "said") == [1, 2, 3]
            assert [visit.query.get("since") for visit in visits] == [None, "e:1", "e:3"]
            assert [visit.query.get("connection") for visit in visits] == [None, "c.1", "c.2"]
        case "has-gaps":
            await told(said=6)
            assert (client.of(row, "gap"), client.of(row, "said")) == (["lagged", "resync"], [6])
        case "lags":
            await told(said=5)
            assert (client.of(row, "gap"), client.of(row, "said")) == ([], [1, 2, 3, 4, 5])
        case "asks" | "renews":
            await told(said=1)
        case "loses-a-reply":
            await told(state="joined")
            assert (await client.call(row, "count", number=1))["error"] == "ConnectionLost"
            assert (await client.call(row, "count", number=2))["reply"] == 2
        case "is-called":
            named = {"text": "a", "action": "boom", "request_id": "mine"}
            called = await client.asked("call", id=row, action="say", payload=named, retry=False)
            assert called["reply"] == "said"
        case "loses-the-first":
            assert (await client.call(row, "order", retry=True))["reply"] == "once"
        case "shows-people":
            await told(present=3)
            assert client.of(row, "present") == [1, 3]
        case "has-rooms":
            await told("a", state="refused")
            await client.until(lambda said: states("b").count("joined") == 2)
            assert len(visits) == 2
            client.do("close", id="many")
            assert "was closed" in (await client.asked("again", socket="many", name="c"))["error"]
        case "streams":
            streamed = await client.asked("stream", id=row, action="count", payload={})
            assert streamed["items"] == list(range(5 * 64))
        case "streams-all":
            streamed = await client.asked("stream", id=row, action="count", payload={})
            assert streamed["items"] == list(range(200))
            client.start("call", id=row, action="count", payload={}, retry=False)
            await told(said=1)
        case "loses-an-item":
            streamed = await client.asked("stream", id=row, action="count", payload={})
            assert (streamed["items"], "error" in streamed) == ([0], True)
            await told(said=1)
        case _:
            assert row in ("vanishes", "full") or int(code) in BACK + AWAY
