"""Ten thousand messages that open something: all of it is closed, in order, whatever became of them."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, HTTPException

from fastapi_channels import (
    Channel,
    Connection,
    Socket,
    action,
    add_channel,
    current_connection,
    current_message,
)
from fastapi_channels.wire.messages import Message
from tests.support.live import Client, Site, serving

MESSAGES = 10_000
CLIENTS = 10
IN_FLIGHT = 40

Key = tuple[str, Any]

CurrentConnection = Annotated[Connection, Depends(current_connection)]
CurrentMessage = Annotated[Message, Depends(current_message)]


ledger: defaultdict[Key, list[str]] = defaultdict(list)
"""What was opened and closed for each message, in order."""


async def key_of(connection: CurrentConnection, message: CurrentMessage) -> Key:
    return connection.id, message.request_id


CurrentKey = Annotated[Key, Depends(key_of)]


async def transaction(key: CurrentKey) -> AsyncIterator[Key]:
    ledger[key].append("+transaction")
    try:
        yield key
    finally:
        await asyncio.sleep(0)
        ledger[key].append("-transaction")


async def session(key: Annotated[Key, Depends(transaction)]) -> AsyncIterator[Key]:
    ledger[key].append("+session")
    try:
        yield key
    except ValueError as exc:
        raise HTTPException(409, "conflict") from exc
    finally:
        ledger[key].append("-session")


def threaded(key: Annotated[Key, Depends(session)]) -> Iterator[Key]:
    ledger[key].append("+thread")
    try:
        yield key
    finally:
        ledger[key].append("-thread")


Session = Annotated[Key, Depends(session)]


class Room(Channel):
    """Actions that end well, fail, or run until they are cancelled; the last say when they run."""

    ack = True

    @action(concurrent=64)
    async def good(self, session: Session) -> None: ...

    @action(concurrent=64)
    async def bad(self, session: Session) -> None:
        raise ValueError

    @action(concurrent=64)
    async def wait(self, session: Session) -> AsyncIterator[str]:
        yield "runs"
        await asyncio.Event().wait()

    @action(dependencies=[Depends(threaded)])
    async def good_in_thread(self) -> None: ...

    @action(dependencies=[Depends(threaded)])
    async def bad_in_thread(self) -> None:
        raise ValueError

    @action(dependencies=[Depends(threaded)])
    async def wait_in_thread(self, connection: Connection, request_id: int) -> None:
        await connection.send({"request_id": request_id, "more": True})
        await asyncio.Event().wait()


async def converse(client: Client, names: Sequence[str], messages: int, **fields: Any) -> Counter[str]:
    """Send so many messages, some at a time; how they ended.

    Of those that wait every other one is cancelled while it runs, the others at once, wherever they are.
    """
    outcomes: Counter[str] = Counter()
    for start in range(0, messages, IN_FLIGHT):
        numbers = set(range(start, start + IN_FLIGHT))
        at_once: set[int] = set()
        for number in sorted(numbers):
            name = names[number % len(names)]
            await client.send({"action": name, "request_id": number, **fields})
            if name.startswith("wait") and number % 8 < 4:
                at_once.add(number)
                await client.send({"type": "cancel", "request_id": number})
        while numbers:
            frame = await client.receive()
            if not frame.get("more"):
                numbers.remove(frame["request_id"])
                outcomes[frame.get("code", "ok")] += 1
            elif frame["request_id"] not in at_once:
                await client.send({"type": "cancel", "request_id": frame["request_id"]})
    return outcomes


async def talk(site: Site, path: str, names: Sequence[str], messages: int) -> Counter[str]:
    """How the messages of several clients ended."""

    async def one() -> Counter[str]:
        async with site.connect(path) as client:
            if path != "/many":
                return await converse(client, names, messages // CLIENTS)
            await client.send({"type": "join", "channel": "r"})
            await client.receive()
            return await converse(client, names, messages // CLIENTS, channel="r")

    found = await asyncio.gather(*(one() for _ in range(CLIENTS)))
    return sum(found, Counter())


HERE = ("good", "good", "bad", "wait")
IN_THREAD = tuple(f"{name}_in_thread" for name in HERE)


@pytest.mark.parametrize(
    ("path", "names", "messages"),
    [
        ("/rooms/r", HERE, MESSAGES),
        ("/rooms/r", IN_THREAD, MESSAGES // 5),
        ("/many", HERE, MESSAGES // 5),
        ("/many", IN_THREAD, MESSAGES // 5),
    ],
)
async def test_everything_that_is_opened_is_closed(path: str, names: Sequence[str], messages: int):
    ledger.clear()
    app = FastAPI()
    add_channel(app)
    Room().mount(app, "/rooms/{channel}")
    Socket(Room()).mount(app, "/many")
    async with serving(app) as site, site.unharmed():
        outcomes = await talk(site, path, names, messages)
    assert outcomes == {"ok": messages // 2, "http_error": messages // 4, "cancelled": messages // 4}
    for entries in ledger.values():
        opened = [entry[1:] for entry in entries if entry.startswith("+")]
        assert entries == [*(f"+{name}" for name in opened), *(f"-{name}" for name in reversed(opened))]
    # All but those that were cancelled before they had begun.
    assert len(ledger) >= messages * 7 // 8
