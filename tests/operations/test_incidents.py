"""Incidents, from the alert to its end: each is found by its rule, as Prometheus itself judges what was
scraped, seen by an operator in the routes of `Admin`, and ended by what the operator does there."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from fastapi import Depends, FastAPI
from prometheus_client import CollectorRegistry

from fastapi_channels import Admin, Channel, Connection, action, add_channel, limiter
from tests.operations.admin.test_admin import becomes, operator, staff, user_of
from tests.support.live import ROOT, RawClient, Site, serving, unique, wait_until
from tests.support.promtool import Prometheus
from tests.support.proxy import Proxy
from tests.support.servers import RedisServer

pytestmark = [
    pytest.mark.fault,
    pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on PATH"),
]

RULES: Final = ROOT / "docs" / "monitoring" / "alerts.yml"
MINUTE: Final = 4
"""Scrapes."""


class Room(Channel):
    outbox_limit = 256 * 1024
    slow_policy = "drop_oldest"

    def __init__(self, *, broken: bool = False, **settings: Any) -> None:
        super().__init__(**settings)
        self.broken = broken

    @action()
    async def say(self, text: str, connection: Connection) -> None:
        await self.broadcast(connection.room, "said", text)

    @limiter(times=5, hours=1)
    @action()
    async def search(self) -> str:
        return "found"

    @action()
    async def order(self) -> str:
        if self.broken:
            raise RuntimeError("the table has no such column")
        return "ordered"


class Table(Channel):
    max_connection = 10


def application(*, broken: bool = False, **settings: Any) -> FastAPI:
    app = FastAPI()
    metrics: dict[str, Any] = {"metrics": CollectorRegistry(), "metrics_url": "/metrics"}
    add_channel(app, bans=True, publish_timeout=0.2, drain_seconds=0.2, **metrics, **settings)
    Room(broken=broken).mount(app, "/rooms/{channel}", user=user_of)
    Table().mount(app, "/tables/{channel}")
    Admin(app, dependencies=[Depends(staff)], who=staff, read_only=False)
    return app


class Watch:
    """Prometheus, which scrapes one site."""

    def __init__(self, site: Site, folder: Path) -> None:
        self._site = site
        self._folder = folder
        self._prometheus = Prometheus(RULES)

    async def scrape(self, times: int = 1) -> None:
        """
        Args:
            times: how often, while nothing happens.
        """
        async with self._site.client() as http:
            self._prometheus.take((await http.get("/metrics")).text, times)

    async def fires(self, *alerts: str) -> None:
        """These alerts, and no others."""
        await asyncio.to_thread(self._prometheus.check, self._folder, *alerts)


@asynccontextmanager
async def watched(app: FastAPI, folder: Path) -> AsyncIterator[tuple[Site, Watch, httpx.AsyncClient]]:
    """A site, what scrapes it, and the operator."""
    async with serving(app) as site, operator(site) as http:
        watch = Watch(site, folder)
        await watch.scrape()
        await watch.fires()
        yield site, watch, http


async def test_a_client_that_does_not_read(tmp_path: Path):
    async with (
        watched(application(), tmp_path) as (site, watch, http),
        site.connect("/rooms/lobby?user=ada") as ada,
        RawClient.open(site, "/rooms/lobby?user=sleeper", receive_buffer=4096),
    ):
        await watch.scrape(MINUTE)
        await watch.fires()
        traffic, text = site.node.hub.traffic, "x" * 60_000
        assert traffic is not None

        async def talk() -> None:
            for _ in range(20):
                await ada.call("say", text=text)

        await talk()
        while not traffic.dropped:
            await talk()
        await watch.scrape()
        await watch.fires("ChannelsSlowClients")

        (report,) = (await http.get("/nodes")).json().values()
        assert report["dropped"] > 0
        (slow,) = (await http.get("/slow")).json()
        assert (slow["user"], slow["rooms"]) == ("sleeper", ["lobby"])
        assert slow["waiting"] > Room.outbox_limit / 2

        closing = {"code": 4503, "reason": "you do not read"}
        assert (await http.post(f"/connections/{slow['id']}/disconnect", json=closing)).status_code == 202
        await becomes(http, "/rooms/lobby/members", lambda found: found["total"] == 1)
        await talk()
        await watch.scrape(6 * MINUTE)
        await watch.fires()


async def test_a_flood(tmp_path: Path):
    async with (
        watched(application(), tmp_path) as (site, watch, http),
        site.connect("/rooms/lobby?user=mallory") as mallory,
    ):

        async def flood() -> None:
            for _ in range(60):
                await mallory.send({"action": "search"})
            for _ in range(60):
                await mallory.receive()

        for _ in range(2 * MINUTE + 2):
            await flood()
            await watch.scrape()
        await watch.fires("ChannelsFlood")

        (report,) = (await http.get("/nodes")).json().values()
        assert report["errors"]["rate_limited"] > 0.9 * report["received"]
        (member,) = (await http.get("/rooms/lobby/members")).json()["items"]
        (found,) = (await http.get(f"/users/{member['user']}/connections")).json()
        assert (found["id"], found["address"]) == (member["id"], "127.0.0.1")

        await http.post("/bans", json={"user": member["user"], "seconds": 600, "reason": "a flood"})
        assert (await mallory.closed()).code == 4503
        assert (await site.refusal("/rooms/lobby?user=mallory")).body["code"] == "banned"
        await watch.scrape(2 * MINUTE)
        await watch.fires()


async def test_a_process_without_its_broker(shared_redis: RedisServer, tmp_path: Path):
    where: dict[str, Any] = {"namespace": unique(), "store_url": shared_redis.url}
    async with (
        Proxy(shared_redis.port) as link,
        serving(application(url=shared_redis.url, **where)) as other,
        watched(application(url=f"redis://127.0.0.1:{link.port}", **where), tmp_path) as (site, watch, http),
        other.connect("/rooms/lobby?user=bob") as bob,
    ):
        async with site.connect("/rooms/lobby?user=ada") as ada:
            link.freeze()
            link.cut()
            await wait_until(lambda: site.node.broker.away)
            await watch.scrape(MINUTE)
            await watch.fires("ChannelsBrokerAway")

            (report,) = (await http.get("/nodes")).json().values()
            assert (report["pid"] > 0, report["broker_away"] > 0, report["connections"]) == (True, True, 1)
            assert (await ada.call("say", text="anybody?"))["code"] == "unavailable"
            async with operator(other) as there:
                nodes = (await there.get("/nodes")).json()
            assert list(nodes) == [other.node.id], "the others do not hear of it"

            drained = await http.post(f"/nodes/{site.node.id}/drain")
            assert drained.status_code == 202, "it is told by itself"
            assert (await ada.closed()).code == 1012
        assert (await site.refusal("/rooms/lobby?user=ada")).status == 503
        async with other.connect("/rooms/lobby?user=ada") as back:
            await back.send({"action": "say", "text": "here again"})
            assert (await bob.receive_until(lambda frame: frame["type"] == "event"))["data"] == "here again"


async def test_a_process_without_its_store(shared_redis: RedisServer, tmp_path: Path):
    where: dict[str, Any] = {"namespace": unique(), "url": shared_redis.url}
    async with (
        Proxy(shared_redis.port) as link,
        serving(application(store_url=shared_redis.url, **where)) as other,
        watched(application(store_url=f"redis://127.0.0.1:{link.port}", **where), tmp_path) as found,
        operator(other) as http,
    ):
        site, watch, _ = found
        await becomes(http, "/nodes", lambda found: len(found) == 2)
        async with site.connect("/rooms/lobby?user=ada") as ada:
            link.freeze()
            link.cut()
            await wait_until(lambda: site.node.rooms.store_away)
            await watch.scrape(MINUTE)
            await watch.fires("ChannelsStoreAway")

            nodes = await becomes(http, "/nodes", lambda found: len(found) == 2)
            away = [node for node, report in nodes.items() if report["store_away"]]
            assert away == [site.node.id], "the broker is there, so any process says which it is"
            refusal = await site.refusal("/tables/one")
            assert (refusal.status, refusal.body["code"]) == (503, "unavailable")

            assert (await http.post(f"/nodes/{site.node.id}/drain")).status_code == 202
            assert (await ada.closed()).code == 1012
        async with other.connect("/tables/one"), other.connect("/rooms/lobby?user=ada"):
            link.thaw()
            await wait_until(lambda: not site.node.rooms.store_away)
            await watch.scrape(MINUTE)
            await watch.fires()


async def test_a_bad_deploy(shared_redis: RedisServer, tmp_path: Path):
    where: dict[str, Any] = {"namespace": unique(), "url": shared_redis.url}
    async with (
        serving(application(**where)) as old,
        serving(application(broken=True, **where), may_complain=True) as new,
        operator(old) as http,
    ):
        watch = Watch(old, tmp_path)
        await becomes(http, "/nodes", lambda found: len(found) == 2)
        await watch.scrape()
        async with new.connect("/rooms/lobby?user=ada") as ada:
            for _ in range(4):
                assert (await ada.call("order"))["code"] == "internal_error"
                await watch.scrape(MINUTE)
            await watch.fires("ChannelsErrors")

            nodes = (await http.get("/nodes")).json()
            failing = [node for node, report in nodes.items() if "internal_error" in report["errors"]]
            assert failing == [new.node.id]

            assert (await http.post(f"/nodes/{failing[0]}/drain")).status_code == 202
            assert (await ada.closed()).code == 1012
        assert (await new.refusal("/rooms/lobby?user=ada")).status == 503
        async with old.connect("/rooms/lobby?user=ada") as back:
            assert (await back.call("order"))["data"] == "ordered"
            await watch.scrape(6 * MINUTE)
            await watch.fires()
