"""Addresses that bring what does not hold, again and again."""

import asyncio
import time
from collections import Counter
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.security import HTTPBasic
from starlette.requests import HTTPConnection

from fastapi_channels import Channel, ConfigurationError, action, add_channel, rate
from fastapi_channels.auth import Authenticator, Identity
from fastapi_channels.auth.failures import PATIENCE
from fastapi_channels.cluster.node import Node
from fastapi_channels.exceptions import WebSocketException
from fastapi_channels.testing.clock import now, timeless
from tests.support.live import application, serving, unique
from tests.support.servers import RedisServer

ASKED: list[str] = []


def by_key(token: str, connection: Any) -> str | None:
    ASKED.append(token)
    return {"good": "ada"}.get(token)


class Room(Channel):
    authenticator = Authenticator(by_key, failures=rate(3, minutes=10), first_frame=5.0)

    @action()
    async def quick(self) -> str:
        return "quick"


def of(token: str, address: str = "192.0.2.1") -> dict[str, Any]:
    return {"additional_headers": {"Authorization": f"Bearer {token}", "X-Forwarded-For": address}}


async def test_above_so_many_an_address_is_refused_unread_and_others_are_not():
    app = FastAPI()
    add_channel(app, trusted_proxies=["127.0.0.1"])
    Room().mount(app, "/{channel}")

    @app.get("/me")
    async def me(identity: Annotated[Identity, Depends(Room.authenticator)]) -> str:
        return str(identity.user)

    # uvicorn calls it an error when an endpoint answers in place of accepting.
    async with serving(app, may_complain=True, forwarded_allow_ips="") as site:
        refused = [(await site.refusal("/tea", **of(f"guess {number}"))).status for number in range(3)]
        assert refused == [401, 401, 401]
        ASKED.clear()
        status, body = await site.refusal("/tea", **of("good"))
        assert (status, body["code"]) == (429, "rate_limited")
        assert 0 < body["retry_after"] <= 600
        async with site.connect("/tea", additional_headers={"X-Forwarded-For": "192.0.2.1"}) as eve:
            await eve.send({"type": "auth", "token": "good"})
            assert (await eve.receive())["code"] == "rate_limited"
        async with site.client() as http:
            headers = of("good")["additional_headers"]
            answer = await http.get("/me", headers=headers)
            assert (answer.status_code, "retry-after" in answer.headers) == (429, True)
            answer = await http.get("/me", headers=headers | {"X-Forwarded-For": "192.0.2.2"})
            assert answer.json() == "ada"
        assert ASKED == ["good"], "what such an address brings is not looked at"
        async with site.connect("/tea", **of("good", "192.0.2.2")) as ada:
            assert (await ada.call("quick"))["data"] == "quick"
            # A token that is refused on an open WebSocket counts too.
            for _ in range(3):
                await ada.send({"type": "refresh", "token": "guess"})
                assert (await ada.receive())["code"] == "unauthenticated"
            await ada.send({"type": "refresh", "token": "good"})
            assert (await ada.receive())["code"] == "rate_limited"
            assert (await ada.call("quick"))["data"] == "quick"


def connection_of(**settings: Any) -> HTTPConnection:
    app = FastAPI()
    add_channel(app, **settings)
    node = Node.attached(app)
    return HTTPConnection(
        {"type": "http", "fastapi_channels": node, "client": ("192.0.2.1", 1), "headers": []}
    )


async def outcome(gate: Authenticator, token: str, connection: HTTPConnection) -> str:
    try:
        return str((await gate.verify(token, connection)).user)
    except WebSocketException as exc:
        return exc.error_code


async def test_a_herd_of_guesses_does_not_come_before_the_first_is_counted():
    looked_at: list[str] = []

    async def slow(token: str, connection: HTTPConnection) -> str | None:
        looked_at.append(token)
        await asyncio.sleep(0)
        return "ada" if token == "good" else None  # noqa: S105

    gate, connection = Authenticator(slow, failures=rate(5, minutes=10)), connection_of()
    herd = [outcome(gate, f"guess {number}", connection) for number in range(500)]
    found = Counter(await asyncio.gather(*herd, outcome(gate, "good", connection)))
    assert found["unauthenticated"] == len(looked_at) == 5
    assert found["rate_limited"] == 496


@timeless
async def test_guesses_that_take_longer_or_shorter_are_no_more():
    async def slow(token: str, connection: HTTPConnection) -> str | None:
        await asyncio.sleep(0.01 * (1 + int(token) % 10))
        return None

    gate, connection = Authenticator(slow, failures=rate(10, minutes=10)), connection_of()
    found = Counter(await asyncio.gather(*(outcome(gate, str(number), connection) for number in range(200))))
    assert found == {"unauthenticated": 10, "rate_limited": 190}


@timeless
async def test_who_signs_in_well_waits_for_those_before_and_no_longer_than_so_long():
    async def slow(token: str, connection: HTTPConnection) -> str:
        await asyncio.sleep(2)
        return "ada"

    gate, connection, begun = Authenticator(slow, failures=rate(2, minutes=10)), connection_of(), now()
    found = Counter(await asyncio.gather(*(outcome(gate, "good", connection) for _ in range(9))))
    assert found == {"ada": 6, "rate_limited": 3}
    assert PATIENCE < now() - begun < 6.5
    assert await outcome(gate, "good", connection) == "ada"


async def test_who_signs_in_well_or_too_late_is_not_counted():
    ends = {"good": None, "over": time.time() - 1}
    gate = Authenticator(
        lambda token, connection: Identity("ada", ends[token]) if token in ends else None,
        failures=rate(1, minutes=10),
    )
    connection = connection_of()
    for token, code in (("good", "ada"), ("over", "token_expired")) * 3:
        assert await outcome(gate, token, connection) == code
    assert [await outcome(gate, "guess", connection), await outcome(gate, "good", connection)] == [
        "unauthenticated",
        "rate_limited",
    ]


async def test_on_redis_it_is_counted_for_all_processes(shared_redis: RedisServer):
    gates = [Authenticator(by_key, failures=rate(3, minutes=10)) for _ in range(2)]
    settings = {"limiter_url": shared_redis.url, "prefix": unique("failures")}
    connections = [connection_of(**settings) for _ in gates]
    try:
        found = [await outcome(gates[number % 2], "guess", connections[number % 2]) for number in range(5)]
        assert found == ["unauthenticated"] * 3 + ["rate_limited"] * 2
        assert await outcome(gates[0], "good", connections[0]) == "rate_limited"
    finally:
        for connection in connections:
            await Node.of(connection.scope).limiter.close()


async def test_while_redis_is_away_each_process_counts_for_itself():
    gate = Authenticator(by_key, failures=rate(2, minutes=10))
    connection = connection_of(limiter_url="redis://127.0.0.1:1")
    found = [await outcome(gate, token, connection) for token in ("good", "guess", "guess", "good")]
    assert found == ["ada", "unauthenticated", "unauthenticated", "rate_limited"]
    await Node.of(connection.scope).limiter.close()


async def test_what_cannot_be_read_is_counted_too():
    class Basic(Channel):
        authenticator = Authenticator(by_key, sources=[HTTPBasic()], failures=rate(1, minutes=10))

    broken = {"additional_headers": {"Authorization": "Basic %%%"}}
    async with serving(application(Basic()), may_complain=True) as site:
        assert [(await site.refusal("/tea", **broken)).status for _ in range(2)] == [401, 429]


def test_it_takes_a_rate():
    wrong: Any = 5
    with pytest.raises(ConfigurationError, match="failures takes rate"):
        Authenticator(by_key, failures=wrong)
