"""What is counted, seen by Prometheus: through real servers, or over several processes in one event loop."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import date
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from fastapi_channels import (
    Channel,
    ConfigurationError,
    Connection,
    Socket,
    action,
    add_channel,
    every,
    limiter,
)
from fastapi_channels.cluster.questions import Questions
from fastapi_channels.operations.families import FAMILIES, PREFIX, sample_names
from fastapi_channels.operations.store_calls import OPERATIONS
from fastapi_channels.sessions.session import Session
from fastapi_channels.stores import Store, StoreUnavailable
from fastapi_channels.testing.asgi import living
from fastapi_channels.testing.broker import FaultyBroker
from fastapi_channels.testing.store import FaultyStore
from tests.support.live import Client, Site, serving, unique, wait_until
from tests.support.servers import RedisServer, required
from tests.support.wire import dial, node_of


class Room(Channel):
    @action()
    async def say(self, text: str, connection: Connection) -> None:
        await self.broadcast(connection.room, "said", text)

    @action()
    async def fail(self) -> None:
        raise RuntimeError("on purpose")

    @limiter(times=1, hours=1)
    @action()
    async def rarely(self) -> str:
        return "ok"

    @action(sunset=date(2999, 1, 1))
    async def old(self) -> str:
        return "ok"

    @action()
    async def part(self, connection: Connection) -> None:
        raise HTTPException(402)


class Small(Channel):
    max_connection = 1
    outbox_limit = 4096
    slow_policy = "drop_oldest"


class Kept(Channel):
    history = 3

    @every(seconds=86_400)
    async def daily(self) -> None: ...


class Seen(Channel):
    presence = True
    presence_interval = 0.05

    def presence_data(self, connection: Connection) -> dict[str, str]:
        return {"status": "here"}


def application(**settings: Any) -> FastAPI:
    app = FastAPI()
    own: dict[str, Any] = {"metrics": CollectorRegistry(), "metrics_url": "/metrics"}
    add_channel(app, **(own | settings))
    Room().mount(app, "/rooms/{channel}")
    Small().mount(app, "/small/{channel}")
    Kept().mount(app, "/kept/{channel}")
    Seen().mount(app, "/seen/{channel}")
    Socket(Room()).mount(app, "/socket")
    return app


HISTOGRAM = ("bucket", "sum", "count")
LOST = ("client,code=1005", "nobody,code=1006")


def read(text: str) -> dict[str, float]:
    """Each series, `name{label=value,…}` without the prefix and the process."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for name, labels, value, *_ in family.samples:
            rest = ",".join(f"{key}={labels[key]}" for key in sorted(labels) if key != "process")
            found[name.removeprefix(PREFIX) + (f"{{{rest}}}" if rest else "")] = value
    return found


async def get(site: Site, **options: Any) -> httpx.Response:
    async with site.client() as http:
        return await http.get("/metrics", **options)


async def scrape(site: Site) -> dict[str, float]:
    return read((await get(site)).text)


async def becomes(site: Site, name: str, value: float) -> None:
    async with asyncio.timeout(30):
        while (await scrape(site)).get(name) != value:
            await asyncio.sleep(0.01)


# One process


async def test_everything_is_there_from_the_start_at_zero():
    async with serving(application()) as site:
        response = await get(site)
        assert response.headers["content-type"].startswith("text/plain; version=")
        found = read(response.text)
        expected = {PREFIX + name.partition("{")[0] for name in found}
        # What has labels that nobody can foresee begins when it happens.
        later = {"connections_refused_total", "connections_closed_total", "recoveries_total"}
        # It shares its store with no other process.
        later |= {"store_calls_total", *(f"store_call_duration_seconds_{end}" for end in HISTOGRAM)}
        assert sample_names() - expected == {PREFIX + name for name in later}
        assert found["joins_total{channel=Room}"] == 0
        assert found["errors_total{action=say,channel=Room,code=internal_error}"] == 0
        assert found["action_duration_seconds_count{action=say,channel=Room}"] == 0
        assert found["late_calls_total{action=old,channel=Room}"] == 0
        assert found["job_runs_total{job=Kept.daily,outcome=ok}"] == 0
        for name, family in FAMILIES.items():
            assert (
                f"# HELP {PREFIX}{name}{'_total' * (family.kind == 'counter')} {family.help}" in response.text
            )


async def test_what_clients_do_is_counted():
    async with serving(application()) as site:
        async with site.clients("/rooms/a", "/rooms/a") as (ann, bob):
            await ann.send({"action": "say", "text": "é"})
            for client in (ann, bob):
                await client.receive()
            for name in ("fail", "part", "rarely", "rarely", "old", "nothing"):
                await ann.call(name)
            await ann.send("no JSON")
            await ann.receive()
            found = await scrape(site)
        assert {name: found[name] for name in ("connections", "memberships", "rooms", "broker_up")} == {
            "connections": 2,
            "memberships": 2,
            "rooms": 1,
            "broker_up": 1,
        }
        assert found["received_messages_total"] == 8
        called = [{"action": name} for name in ("fail", "part", "rarely", "rarely", "old", "nothing")]
        frames = [json.dumps(call) for call in ({"action": "say", "text": "é"}, *called)]
        assert found["received_bytes_total"] == sum(map(len, [*frames, "no JSON"]))
        assert found["sent_messages_total"] == 2 + 7
        assert found["joins_total{channel=Room}"] == 2
        assert found["late_calls_total{action=old,channel=Room}"] == 1
        assert found["publish_duration_seconds_count"] == 1
        calls = {
            name: found[f"action_duration_seconds_count{{action={name},channel=Room}}"]
            for name in ("say", "fail", "part", "rarely", "old")
        }
        assert calls == {"say": 1, "fail": 1, "part": 1, "rarely": 2, "old": 1}
        errors = {
            (action, code): found[f"errors_total{{action={action},channel=Room,code={code}}}"]
            for action, code in (
                ("fail", "internal_error"),
                ("part", "http_error"),
                ("rarely", "rate_limited"),
                ("", "unknown_action"),
                ("", "parse_error"),
            )
        }
        assert set(errors.values()) == {1}


async def test_the_bytes_that_are_counted_are_those_that_come():
    async with serving(application()) as site, site.connect("/rooms/a") as client:
        said = len(await ask_raw(client, {"action": "say", "text": "x"}))
        replied = len(await ask_raw(client, {"action": "old"}))
        found = await scrape(site)
    assert found["sent_bytes_total"] == said + replied


async def ask_raw(client: Client, frame: Any) -> bytes:
    await client.send(frame)
    text = await client.read()
    return text.encode() if isinstance(text, str) else text


async def test_what_is_sent_to_a_connection_is_counted():
    app = application()
    async with serving(app) as site, site.clients("/rooms/a", "/rooms/a") as (ann, _):
        await ann.call("old")
        node = node_of(app)
        for connection in node.hub.members("a"):
            await node.send_to_connection(connection.id, '"hello"')
        await ann.receive()
        found = await scrape(site)
    assert found["sent_messages_total"] == 3


async def test_how_connections_end_and_are_refused():
    async with serving(application()) as site:
        async with site.connect("/rooms/a"):
            pass
        async with site.connect("/rooms/a") as client:
            await client.close(4321)
        async with site.connect("/rooms/a") as client:
            client.reset()
        async with site.connect("/rooms/a") as client:
            await client.send(b"\x00")
            assert (await client.closed()).code == 1003
        async with site.connect("/small/a"):
            assert (await site.refusal("/small/a")).status == 503
        assert (await site.refusal("/rooms/a", origin="https://evil.example")).status == 403
        await becomes(site, "connections", 0)
        found = await scrape(site)
    closed = {name: value for name, value in found.items() if name.startswith("connections_closed")}
    # uvicorn's own protocols say 1005 of a connection that was lost.
    lost = [closed.pop(f"connections_closed_total{{by={how}}}", 0) for how in LOST]
    assert sorted(lost) == [0, 1]
    assert closed == {
        "connections_closed_total{by=client,code=1000}": 2,
        "connections_closed_total{by=client,code=_other}": 1,
        "connections_closed_total{by=server,code=1003}": 1,
    }
    assert found["connections_opened_total"] == found["connection_duration_seconds_count"] == 5
    assert found["connections_refused_total{code=channel_full}"] == 1
    assert found["connections_refused_total{code=origin_denied}"] == 1


async def test_rooms_and_names_of_clients_make_no_series():
    """Nor do actions and close codes that they invent."""
    async with serving(application()) as site:
        before: set[str] = set()
        for number in range(30):
            async with site.connect(f"/rooms/room-{number}?user={number}") as client:
                await client.call(f"invented-{number}")
                await client.close(4600 + number)
            if not number:
                await becomes(site, "connections_closed_total{by=client,code=_other}", 1)
                before = set(await scrape(site))
        await becomes(site, "connections_closed_total{by=client,code=_other}", 30)
        assert set(await scrape(site)) == before


async def test_who_comes_back_is_counted():
    async with serving(application()) as site:
        async with site.connect("/kept/a") as client:
            position = (await client.receive())["position"]
        async with site.connect(f"/kept/a?since={position}"):
            pass
        async with site.connect("/kept/a?since=else:7"):
            pass
        found = await scrape(site)
    assert found["recoveries_total{channel=Kept,result=full}"] == 1
    assert found["recoveries_total{channel=Kept,result=refused}"] == 1


async def test_what_waits_for_a_client_that_does_not_read_and_what_it_loses():
    app = application()
    async with living(app), dial(app, "/small/a") as wire:
        await wire.accepted()
        wire.block()
        for _ in range(10):
            await node_of(app).publish("a", 1000 * "x")
        await wire.until(lambda: wire.blocked)
        during = await exposed(app)
        wire.unblock()
        await wire.until(lambda: not sum(session.writer.is_writing for session in sessions(app)))
        after = await exposed(app)
        received = sum(str(frame).startswith("xxx") for frame in wire.frames)
    assert 0 < during["outbox_bytes"] == during["outbox_max_bytes"] <= 4096
    assert (during["slow_clients"], after["slow_clients"]) == (1, 0)
    assert after["outbox_bytes"] == after["outbox_max_bytes"] == 0
    assert after["dropped_messages_total{policy=drop_oldest}"] == 10 - received > 0
    assert after["dropped_messages_total{policy=drop_newest}"] == 0


def sessions(app: FastAPI) -> list[Session]:
    return [session for session in node_of(app).sessions if isinstance(session, Session)]


async def exposed(app: FastAPI) -> dict[str, float]:
    """What the route answers, asked without a server."""
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        return read((await http.get("/metrics")).text)


async def test_an_outage_is_counted_while_it_lasts():
    bus = FaultyBroker()
    app = application(backend=bus.backend(), store=FaultyStore(), publish_timeout=0.05)
    async with living(app), dial(app, "/rooms/a") as wire:
        await wire.accepted()
        bus.crash()
        wire.call("say", text="x")
        assert (await wire.receive())["code"] == "unavailable"
        during = await exposed(app)
        bus.restart()
        await wait_until(lambda: node_of(app).broker.up)
        after = await exposed(app)
    assert (during["broker_up"], after["broker_up"]) == (0, 1)
    assert during["broker_outages_total"] == after["broker_outages_total"] == 1
    assert 0 < during["broker_outage_seconds_total"] <= after["broker_outage_seconds_total"]
    assert during["publish_failures_total"] == 1


async def test_calls_of_a_store_that_processes_share_are_counted():
    store = FaultyStore()
    app = application(backend=FaultyBroker().backend(), store=store)
    async with living(app), dial(app, "/kept/a") as wire:
        await wire.accepted()
        assert (await wire.receive())["type"] == "joined"
        node = node_of(app)
        before = await exposed(app)
        assert node.store is not None
        await node.store.put("key", "value", 9.0)
        assert await node.store.get("key") == "value"
        store.down = True
        with pytest.raises(StoreUnavailable):
            await node.store.get("key")
        store.down = False
        found = await exposed(app)
    assert before["store_calls_total{operation=tops,outcome=ok}"] >= 1, (
        "who joins asks how far the history is"
    )
    assert before["store_calls_total{operation=get,outcome=unavailable}"] == 0
    calls = {
        (operation, outcome): found[f"store_calls_total{{operation={operation},outcome={outcome}}}"]
        for operation in ("put", "get")
        for outcome in ("ok", "unavailable")
    }
    assert calls == {("put", "ok"): 1, ("put", "unavailable"): 0, ("get", "ok"): 1, ("get", "unavailable"): 1}
    assert found["store_call_duration_seconds_count{operation=get}"] == 2


def test_all_calls_of_a_store_are_counted():
    life = {"open", "close", "connects"}
    assert set(OPERATIONS) == {name for name in vars(Store) if not name.startswith("_")} - life


async def test_what_members_are_shown_of_each_other_is_counted():
    async with serving(application()) as site, site.connect("/seen/a") as ann:
        await ann.receive_until(lambda frame: frame["type"] == "presence")
        async with site.connect("/seen/a") as bob:
            await bob.receive_until(lambda frame: frame["type"] == "presence")
            await ann.receive_until(lambda frame: frame["type"] == "presence_diff")
            found = await scrape(site)
    assert found["presence_members"] == 2
    assert found["presence_updates_total{kind=change}"] >= 1
    assert found["presence_updates_total{kind=list}"] >= 2


# Whose registry, whose route


async def test_the_application_s_own_registry_has_it_while_the_application_runs():
    registry = CollectorRegistry()
    app = application(metrics=registry, metrics_url=None)
    for _ in range(2):
        async with serving(app) as site:
            async with site.connect("/rooms/a"):
                own = read(generate_latest(registry).decode())
            assert own["connections"] == 1
            assert (await get(site)).status_code == 404, "no route that nobody asked for"
        assert generate_latest(registry) == b""


async def test_true_is_the_default_registry():
    async with living(application(metrics=True)):
        assert REGISTRY.get_sample_value(PREFIX + "connections", {"process": "0"}) == 0
    assert REGISTRY.get_sample_value(PREFIX + "connections", {"process": "0"}) is None


async def test_two_applications_in_one_registry_do_not_start():
    registry = CollectorRegistry()
    async with living(application(metrics=registry)):
        with pytest.raises(ConfigurationError, match="CollectorRegistry"):
            await node_of(application(metrics=registry)).start()


def only_prometheus(who: str = "") -> None:
    if who != "prometheus":
        raise HTTPException(401)


async def test_the_route_is_behind_its_dependencies():
    # An iterator can be read once: it protects as a list does.
    async with serving(application(metrics_dependencies=map(Depends, [only_prometheus]))) as site:
        assert (await get(site)).status_code == 401
        assert (await get(site, params={"who": "prometheus"})).status_code == 200


async def test_a_router_has_its_own():
    router = APIRouter(prefix="/api")
    add_channel(router, metrics=CollectorRegistry(), metrics_url="/metrics")
    Room().mount(router, "/rooms/{channel}")
    app = FastAPI()
    app.include_router(router)
    async with serving(app) as site, site.connect("/api/rooms/a") as client:
        await client.call("old")
        async with site.client() as http:
            found = read((await http.get("/api/metrics")).text)
    assert found["action_duration_seconds_count{action=old,channel=Room}"] == 1


async def test_openmetrics_where_it_is_asked_for():
    async with serving(application()) as site:
        response = await get(site, headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    assert response.text.endswith("# EOF\n")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"metrics": "yes"}, "takes True, or a registry"),
        ({"metrics": False}, "do nothing without metrics=True"),
        ({"metrics_url": "metrics"}, "must be a path"),
        ({"metrics_dependencies": Depends(only_prometheus)}, "must be a list"),
    ],
)
def test_what_cannot_work_says_so(settings: dict[str, Any], said: str):
    with pytest.raises(ConfigurationError, match=said):
        application(**settings)


def test_without_prometheus_client_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    for name in [name for name in sys.modules if name.startswith("prometheus_client")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "fastapi_channels.operations.exposition", raising=False)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ConfigurationError, match=r"fastapi-channels\[metrics\]"):
        application(metrics=True)


# Several processes


@asynccontextmanager
async def processes(count: int) -> AsyncIterator[list[FastAPI]]:
    bus, store = FaultyBroker(), FaultyStore()
    async with AsyncExitStack() as stack:
        apps = [application(backend=bus.backend(), store=store.view().as_store) for _ in range(count)]
        for app in apps:
            await stack.enter_async_context(living(app))
        yield apps


async def by_process(app: FastAPI, name: str) -> dict[str, float]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        text = (await http.get("/metrics")).text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    return {sample.labels["process"]: sample.value for sample in families[PREFIX + name].samples}


async def test_any_process_answers_for_all_with_a_series_each():
    async with processes(3) as apps, dial(apps[1], "/rooms/a") as one, dial(apps[2], "/rooms/a") as two:
        for wire in (one, two):
            await wire.accepted()
        for app in apps:
            async with asyncio.timeout(30):
                while len(found := await by_process(app, "connections")) < 3:
                    pass  # one that is not heard yet is there the next time
            assert found == {"0": 0, "1": 1, "2": 1}


@required(RedisServer)
async def test_on_redis_a_process_that_comes_again_goes_on_with_the_number(shared_redis: RedisServer):
    """The figures travel as a message, and the numbers are claimed in the store."""
    url, namespace = shared_redis.url, unique("metrics") + ":"
    async with AsyncExitStack() as stack:
        first, second = (application(url=url, namespace=namespace) for _ in range(2))
        await stack.enter_async_context(living(first))
        for _ in range(2):
            async with living(second), dial(second, "/rooms/a") as wire:
                await wire.accepted()
                async with asyncio.timeout(30):
                    while (found := await by_process(first, "connections")).get("1") != 1:
                        assert found.keys() <= {"0", "1"}
                        await asyncio.sleep(0.05)
                assert found == {"0": 0, "1": 1}
            assert await by_process(first, "joins") == {"0": 0}
            second = application(url=url, namespace=namespace)


async def test_what_another_process_answers_is_not_believed_to_be_figures(monkeypatch: pytest.MonkeyPatch):
    async with processes(1) as (app,):
        own = await by_process(app, "connections")
        forged = [
            7,
            {"process": "x", "samples": 7},
            {"process": "x", "samples": {"connections": [["", [1], 1]]}},
            {
                "process": "x",
                "samples": {"connections": [["", ["too", "many"], 1]], "invented": [["", [], 1]]},
            },
        ]

        async def ask(self: Questions, question: str) -> dict[str, Any]:
            return {
                self._node: self.answers[question](),
                **{str(number): each for number, each in enumerate(forged)},
            }

        monkeypatch.setattr(Questions, "ask", ask)
        assert await by_process(app, "connections") == own
