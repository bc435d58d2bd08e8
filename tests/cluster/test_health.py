"""How a process is: what probes are told, and what the log is told when the broker or the store is away."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import pytest
from fastapi import FastAPI

from fastapi_channels import BrokerUnavailable, Channel, Connection, action, add_channel
from fastapi_channels.cluster import health, tenure
from fastapi_channels.cluster.health import Health
from tests.support.live import Site, serving, wait_until
from tests.support.servers import RedisServer

WELL: Final = Health(started=True, draining=False, broker_away=0.0, store_away=0.0, connections=0, rooms=0)


class Room(Channel):
    @action()
    async def say(self, connection: Connection) -> None:
        await self.broadcast(connection.room, "said")


def application(failed: list[BrokerUnavailable] | None = None, **settings: Any) -> FastAPI:
    """One whose leave handlers broadcast; `failed` gets what they raised."""
    app = FastAPI()
    add_channel(app, health_url="/health", **settings)
    room = Room()
    room.mount(app, "/{channel}")

    @room.on_event("leave")
    async def tell(connection: Connection) -> None:
        try:
            await room.broadcast(connection.room, "left")
        except BrokerUnavailable as exc:
            if failed is not None:
                failed.append(exc)
            raise

    @app.post("/announce")
    async def announce() -> None:
        await room.broadcast("tea", "announced")

    @app.post("/mention")
    async def mention() -> None:
        await room.broadcast("tea", "mentioned", required=False)

    return app


async def probe(site: Site) -> tuple[int, int, Any]:
    async with site.client() as http:
        live, ready = await http.get("/health/live"), await http.get("/health/ready")
        return live.status_code, ready.status_code, ready.json()


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The warnings, by their first words."""
    warnings = [
        record.getMessage()
        for record in caplog.records
        if record.name == "fastapi_channels" and record.levelno >= logging.WARNING
    ]
    return [" ".join(message.split()[:4]) for message in warnings]


@pytest.mark.parametrize(
    ("change", "missing", "ready"),
    [
        ({}, "", True),
        ({"started": False}, "", False),
        ({"draining": True}, "", False),
        ({"broker_away": 4.9, "store_away": 4.9}, "", True),
        ({"broker_away": 5.0}, "the broker", False),
        ({"store_away": 60.0}, "the store", False),
        ({"broker_away": 5.0, "store_away": 5.0}, "the broker and the store", False),
    ],
)
def test_when_new_connections_should_come(change: dict[str, Any], missing: str, ready: bool):
    found = WELL._replace(**change)
    assert (found.missing, found.ready) == (missing, ready)


async def test_the_probes_of_an_orchestrator():
    async with serving(application()) as site, site.connect("/tea") as ada:
        await ada.send({"action": "say"})
        await ada.receive()
        live, ready, found = await probe(site)
        assert (live, ready) == (200, 200)
        assert found == {
            "ready": True,
            "started": True,
            "draining": False,
            "broker_away": 0.0,
            "store_away": 0.0,
            "connections": 1,
            "rooms": 1,
        }
        await site.node.drain(0)
        live, ready, found = await probe(site)
        assert (live, ready, found["draining"]) == (200, 503, True)


async def test_each_change_is_one_line(
    mortal_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(health, "GRACE", 0.5)
    monkeypatch.setattr(tenure, "RENEWAL", 0.1)
    async with serving(application(url=mortal_redis.url)) as site:
        assert (await probe(site))[1] == 200
        await asyncio.to_thread(mortal_redis.kill)
        await wait_until(lambda: any("not ready" in line for line in told(caplog)))
        _, ready, found = await probe(site)
        assert ready == 503
        assert found["broker_away"] >= 0.5
        # One that comes back while the other has just been missed would be ready between the two.
        await wait_until(lambda: site.node.health().missing == "the broker and the store")
        await asyncio.to_thread(mortal_redis.restart)
        await wait_until(lambda: "ready again" in told(caplog))
        assert (await probe(site))[1] == 200
    # What is published at the moment of the loss says so too.
    assert sorted(line for line in told(caplog) if line != "the broker did not") == sorted(
        [
            "the broker is lost,",
            "the store does not",
            "not ready: the broker",
            "the broker is back",
            "the store answers again",
            "ready again",
        ]
    )


async def test_an_outage_is_told_once_and_then_counted(
    mortal_redis: RedisServer, caplog: pytest.LogCaptureFixture
):
    """However many broadcasts, requests and leave handlers fail because of it."""
    left: list[BrokerUnavailable] = []
    async with serving(application(left, url=mortal_redis.url, publish_timeout=1.0)) as site:
        node = site.node
        async with site.clients(*["/tea"] * 20) as clients:
            await asyncio.to_thread(mortal_redis.kill)
            await wait_until(lambda: not node.broker.up)
            for client in clients:
                await client.send({"action": "say", "request_id": 1})
            for client in clients:
                assert (await client.receive())["code"] == "unavailable"
            async with site.client() as http:
                answers = await asyncio.gather(
                    *(http.post("/announce") for _ in range(20)), *(http.post("/mention") for _ in range(20))
                )
            assert [answer.status_code for answer in answers] == [503] * 20 + [200] * 20
        await wait_until(lambda: len(left) == 20)
        await asyncio.to_thread(mortal_redis.restart)
        await wait_until(lambda: node.broker.up)
    lines = [line for line in told(caplog) if "store" not in line]
    assert lines == ["the broker is lost,", "the broker is back"]
    (back,) = [record.getMessage() for record in caplog.records if "is back" in record.getMessage()]
    failed = int(back.rpartition(" ")[2])
    assert failed >= 80, "actions, requests, and leave handlers"


async def test_a_server_that_hangs_is_told_of_once(
    mortal_redis: RedisServer, caplog: pytest.LogCaptureFixture
):
    """Until it is given up, every call fails by its own deadline."""
    app = application(url=mortal_redis.url, publish_timeout=0.1)
    async with serving(app) as site:
        mortal_redis.pause()
        try:
            for _ in range(5):
                results = await asyncio.gather(
                    *(site.node.publish("tea", "x") for _ in range(20)), return_exceptions=True
                )
                assert all(isinstance(result, BrokerUnavailable) for result in results)
        finally:
            mortal_redis.resume()
    assert [line for line in told(caplog) if "did not" in line] == ["the broker did not"]
