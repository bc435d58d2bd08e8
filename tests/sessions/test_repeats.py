"""Calls that are made again: they act once, and get the same reply."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import Depends, FastAPI, WebSocket

from fastapi_channels import Channel, ConfigurationError, WebSocketException, action, add_channel
from fastapi_channels.testing.broker import FaultyBroker
from fastapi_channels.testing.store import FaultyStore
from tests.support.live import Client, Site, serving, unique, wait_until
from tests.support.redis import RedisServer

LONG_ID = "8d0f0b6e-9d3c-4c0d-8f6e-2b1a3c4d5e6f"


async def ledger(websocket: WebSocket) -> AsyncIterator[None]:
    state = websocket.app.state
    if getattr(state, "closed", False):
        raise WebSocketException(error_msg="closed", close=False)
    yield
    if getattr(state, "fails", False):
        raise WebSocketException(error_msg="not written", close=False)


class Shop(Channel):
    def __init__(self) -> None:
        super().__init__()
        self.app = FastAPI()
        self.asked: list[int] = []
        self.paid: list[int] = []
        self.go_on = asyncio.Event()
        self.go_on.set()

    @action(idempotent=True)
    async def pay(self, amount: int) -> dict[str, int]:
        self.asked.append(amount)
        await self.go_on.wait()
        self.paid.append(amount)
        if amount < 0:
            raise WebSocketException(error_msg="less than nothing", close=False)
        return {"receipt": len(self.paid)}

    @action(idempotent=True)
    async def touch(self) -> None:
        self.paid.append(0)

    @action(idempotent=True)
    async def print_all(self) -> str:
        self.paid.append(1)
        return "x" * 100_000

    @action(idempotent=True, dependencies=[Depends(ledger)])
    async def give(self, people: dict[str, int]) -> list[int]:
        self.paid.extend(people.values())
        return self.paid

    @action(concurrent=10, idempotent=True)
    async def slowly(self, amount: int) -> int:
        await self.go_on.wait()
        self.paid.append(amount)
        return amount


@asynccontextmanager
async def shop(**settings: Any) -> AsyncIterator[tuple[Shop, Site]]:
    channel = Shop()
    app = channel.app
    add_channel(app, **settings)

    @app.websocket("/{room}")
    async def endpoint(websocket: WebSocket, room: str, user: str | None = None) -> None:
        await channel.connect(websocket, room, user=user)

    async with serving(app) as site:
        yield channel, site


async def test_a_call_that_is_made_again_acts_once_and_gets_the_same_reply():
    async with shop() as (channel, site):
        async with site.connect("/room?user=ann") as client:
            first = await client.call("pay", amount=5, request_id=7)
            assert await client.call("pay", amount=5, request_id=7) == first
        async with site.connect("/room?user=ann") as client:
            assert await client.call("pay", amount=5, request_id=7) == first
            assert (await client.call("pay", amount=5, request_id=8))["data"] == {"receipt": 2}
            assert (await client.call("pay", amount=5, request_id="7"))["data"] == {"receipt": 3}
        assert first["data"] == {"receipt": 1}
        assert channel.paid == [5, 5, 5]


async def test_others_with_the_same_request_id_are_others():
    async with (
        shop() as (channel, site),
        site.clients("/room?user=ann", "/room?user=bob", "/x?user=ann") as all_,
    ):
        for client in all_:
            await client.call("pay", amount=5, request_id=7)
        await all_[0].call("print_all", request_id=7)
        assert channel.paid == [5, 5, 5, 1]


async def test_another_payload_with_the_same_request_id_is_refused():
    async with shop() as (channel, site), site.connect("/room?user=ann") as client:
        await client.call("pay", amount=10, request_id=1)
        reused = await client.call("pay", amount=2000, request_id=1)
        assert (reused["status"], reused["code"]) == ("bad", "request_id_reused")
        assert "another payload" in reused["errors"]
        assert (await client.call("pay", amount="a", request_id=1))["code"] == "invalid_payload"
        assert (await client.call("pay", amount=10, request_id=1))["data"] == {"receipt": 1}
        assert channel.paid == [10]
        await client.call("print_all", request_id=2)
        assert (await client.call("print_all", more=1, request_id=2))["code"] == "request_id_reused"


async def test_a_payload_is_the_same_in_another_order():
    async with shop() as (channel, site), site.connect("/room?user=ann") as client:
        first = await client.call("give", people={"zoe": 1, "bob": 2}, request_id=1)
        assert await client.call("give", request_id=1, people={"bob": 2, "zoe": 1}) == first
        assert (await client.call("give", people={"zoe": 2, "bob": 1}, request_id=1))["code"] == (
            "request_id_reused"
        )
        assert channel.paid == [1, 2]


async def test_what_is_depended_on_is_asked_each_time():
    async with shop() as (channel, site), site.connect("/room?user=ann") as client:
        channel.app.state.fails = True
        assert (await client.call("give", people={"zoe": 1}, request_id=1))["errors"] == "not written"
        channel.app.state.fails = False
        assert (await client.call("give", people={"zoe": 1}, request_id=1))["data"] == [1, 1]
        channel.app.state.closed = True
        for people in ({"zoe": 1}, None):
            assert (await client.call("give", people=people, request_id=1))["errors"] == "closed"


async def test_without_a_user_the_request_id_must_be_one_that_nobody_guesses():
    async with shop() as (channel, site), site.clients("/room", "/room") as (one, two):
        for client in (one, two):
            await client.call("pay", amount=5, request_id=7)
            await client.call("pay", amount=5, request_id="7")
        assert channel.paid == [5, 5, 5, 5]
        assert await one.call("pay", amount=6, request_id=LONG_ID) == await two.call(
            "pay", amount=6, request_id=LONG_ID
        )
        assert channel.paid == [5, 5, 5, 5, 6]


async def test_without_a_request_id_each_call_acts():
    async with shop() as (channel, site), site.connect("/room?user=ann") as client:
        await client.call("pay", amount=5)
        await client.call("pay", amount=5)
        assert channel.paid == [5, 5]


async def test_what_failed_is_tried_again():
    async with shop() as (channel, site), site.connect("/room?user=ann") as client:
        for count in (1, 2):
            reply = await client.call("pay", amount=-1, request_id=7)
            assert (reply["status"], reply["errors"], len(channel.paid)) == (
                "bad",
                "less than nothing",
                count,
            )


async def test_nothing_to_reply_is_remembered_too():
    async with shop() as (channel, site), site.connect("/room?user=ann") as client:
        for _ in range(2):
            await client.send({"action": "touch", "request_id": 7})
        await client.call("pay", amount=1, request_id=8)
        assert channel.paid == [0, 1]


async def test_while_it_is_handled_the_same_call_waits_elsewhere():
    async with shop() as (channel, site), site.clients("/room?user=ann", "/room?user=ann") as (one, two):
        channel.go_on.clear()
        await one.send({"action": "pay", "amount": 5, "request_id": 7})
        await wait_until(lambda: channel.asked)
        reply = await two.call("pay", amount=5, request_id=7)
        assert (reply["code"], reply["retry_after"]) == ("in_progress", 1.0)
        channel.go_on.set()
        first = await one.receive()
        assert await two.call("pay", amount=5, request_id=7) == first
        assert channel.paid == [5]


async def test_a_reply_that_is_too_large_is_not_kept_and_nothing_is_done_twice():
    async with shop() as (channel, site), site.connect("/room?user=ann") as client:
        assert len((await client.call("print_all", request_id=7))["data"]) == 100_000
        assert (await client.call("print_all", request_id=7))["code"] == "already_done"
        assert channel.paid == [1]


async def test_who_leaves_in_the_midst_may_try_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Shop, "finish_timeout", 0.05)
    async with shop() as (channel, site):
        channel.go_on.clear()
        async with site.connect("/room?user=ann") as client:
            await client.send({"action": "pay", "amount": 5, "request_id": 7})
            await wait_until(lambda: channel.asked)
        await wait_until(lambda: not getattr(site.node.store, "_claims", None))
        channel.go_on.set()
        async with site.connect("/room?user=ann") as client:
            assert (await client.call("pay", amount=5, request_id=7))["data"] == {"receipt": 1}


async def test_while_the_store_is_away_nothing_is_done():
    store = FaultyStore()
    async with (
        shop(backend=FaultyBroker().backend(), store=store) as (_, site),
        site.connect("/room?user=ann") as client,
    ):
        store.down = True
        assert (await client.call("pay", amount=5, request_id=7))["code"] == "unavailable"
        store.down = False
        assert (await client.call("pay", amount=5, request_id=7))["data"] == {"receipt": 1}


async def test_how_it_ended_is_not_known_where_the_store_goes_away_meanwhile(
    caplog: pytest.LogCaptureFixture,
):
    store = FaultyStore()
    async with (
        shop(backend=FaultyBroker().backend(), store=store) as (channel, site),
        site.connect("/room?user=ann") as client,
    ):
        channel.go_on.clear()
        await client.send({"action": "pay", "amount": 5, "request_id": 7})
        await wait_until(lambda: channel.asked)
        store.down = True
        channel.go_on.set()
        assert (await client.receive())["data"] == {"receipt": 1}
        assert "is not remembered" in caplog.text
        store.down = False
        assert (await client.call("pay", amount=5, request_id=7))["code"] == "in_progress"


async def test_in_two_processes(shared_redis: RedisServer):
    options = {"url": shared_redis.url, "namespace": unique("repeats")}
    async with (
        shop(**options) as (one, here),
        shop(**options) as (two, there),
        here.connect("/room?user=ann") as first,
        there.connect("/room?user=ann") as second,
    ):

        async def pay(client: Client) -> Any:
            while (reply := await client.call("pay", amount=5, request_id=7)).get("code") == "in_progress":
                await asyncio.sleep(0.01)
            return reply

        replies = await asyncio.gather(pay(first), pay(second))
        assert replies[0] == replies[1]
        for client in (first, second):
            assert (await client.call("pay", amount=2000, request_id=7))["code"] == "request_id_reused"
        assert len(one.paid) + len(two.paid) == 1


def test_a_stream_has_more_than_one_reply():
    with pytest.raises(ConfigurationError, match="streams its replies"):

        class Wrong(Channel):
            @action(idempotent=True)
            async def count(self) -> AsyncIterator[int]:
                yield 1


def test_without_a_store_that_is_shared_it_does_not_start():
    app = FastAPI()
    add_channel(app, backend=FaultyBroker().backend())
    with pytest.raises(ConfigurationError, match=r"Shop.pay \(idempotent\) needs a store .* store_url="):
        Shop().mount(app, "/{channel}")
