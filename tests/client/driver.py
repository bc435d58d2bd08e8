"""A Python client that another process drives, as `clients/typescript/test/driver.ts` is driven."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

from fastapi_channels.client import ActionError, Client, Room, Socket, Times

TIMES = Times(first=0.1, most=1.0, gap=0.1, rejoin=0.1, call=20.0, connect=60.0)


def tell(**what: Any) -> None:
    print(json.dumps(what), flush=True)


class Driver:
    def __init__(self, url: str) -> None:
        tokens = itertools.count(1)
        self._client = Client(url, times=TIMES, proxy=None)
        self._signed_in = Client(url, times=TIMES, proxy=None, token=lambda: f"t{next(tokens)}")
        self._unusable = Client(url, times=TIMES, proxy=None, token=lambda: "a\n")
        self._rooms: dict[str, Room] = {}
        self._sockets: dict[str, Socket] = {}
        self._feeds: dict[str, AsyncIterator[Any]] = {}

    async def room(self, id: str, *, token: bool = False, by: str = "plain", **how: Any) -> None:
        if "socket" in how:
            room = self._sockets[how["socket"]].room(how["name"])
        else:
            client = self._signed_in if token else self._unusable if by == "unusable" else self._client
            room = client.room(how["address"], **how["parameters"])
        self._rooms[id] = room
        room.on("said", lambda data: tell(id=id, said=data))
        room.on_gap(lambda gap: tell(id=id, gap=gap.reason))
        room.on_state(
            lambda state: tell(id=id, state=state, **({"code": room.refusal.code} if room.refusal else {}))
        )
        room.on_presence(lambda _: tell(id=id, present=len(room.presence.people)))
        room.answer("confirm", lambda data: len(data["question"]))

    async def socket(self, id: str, address: str) -> None:
        self._sockets[id] = self._client.socket(address)

    async def close(self, id: str) -> None:
        await self._sockets[id].close()

    async def again(self, socket: str, name: str, **named: Any) -> None:
        """Ask for a room of a socket that may be closed."""
        try:
            self._sockets[socket].room(name)
            tell(**named)
        except Exception as exc:
            tell(**named, error=str(exc))

    async def events(self, id: str, **named: Any) -> None:
        """Those of a room until it is over."""
        try:
            tell(**named, items=[data async for data in self._rooms[id].events("said")])
        except Exception as exc:
            tell(**named, items=[], error=type(exc).__name__)

    async def call(self, id: str, action: str, payload: Any, retry: bool, **named: Any) -> None:
        try:
            tell(**named, reply=await self._rooms[id].call(action, payload, retry=retry))
        except Exception as exc:
            tell(**named, error=exc.code if isinstance(exc, ActionError) else type(exc).__name__)

    async def stream(
        self, id: str, action: str, payload: Any, most: int = 0, window: Any = 64, **named: Any
    ) -> None:
        items: list[Any] = []
        try:
            async with self._rooms[id].stream(action, payload, window=window) as feed:
                async for item in feed:
                    items.append(item)
                    if len(items) == most:
                        break
            tell(**named, items=items)
        except Exception as exc:
            tell(**named, items=items, error=type(exc).__name__)

    async def open(self, id: str, action: str, payload: Any, window: int) -> None:
        """A stream that is taken by the command `take`."""
        self._feeds[id] = self._rooms[id].stream(action, payload, window=window)

    async def take(self, id: str, count: int, **named: Any) -> None:
        tell(**named, items=[await anext(self._feeds[id]) for _ in range(count)])

    async def history(self, id: str, limit: int, **named: Any) -> None:
        pages = [page.items async for page in self._rooms[id].history(limit=limit)]
        tell(**named, pages=[[item["data"]["text"] for item in items] for items in pages])

    async def leave(self, id: str) -> None:
        await self._rooms[id].leave()


async def main(url: str) -> None:
    driver = Driver(url)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    tasks: set[asyncio.Task[None]] = set()
    async for line in reader:
        said = json.loads(line)
        tasks.add(asyncio.create_task(getattr(driver, said.pop("do"))(**said)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
