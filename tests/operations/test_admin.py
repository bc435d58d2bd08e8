"""The routes of an operator, over two processes on one Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Header, HTTPException

from fastapi_channels import (
    Admin,
    Channel,
    ConfigurationError,
    Connection,
    Event,
    action,
    add_channel,
    every,
)
from fastapi_channels.operations.admin import _page
from fastapi_channels.testing.asgi import living
from tests.support.live import Site, serving, unique
from tests.support.servers import RedisServer


class Room(Channel):
    history = 10

    @action()
    async def say(self, text: str, connection: Connection) -> None:
        await self.broadcast(connection.room, "said", text)

    @every(seconds=86_400)
    async def daily(self) -> None: ...


async def staff(authorization: Annotated[str, Header()] = "") -> str:
    if not authorization.startswith("Bearer staff-"):
        raise HTTPException(401)
    return authorization.removeprefix("Bearer staff-")


def application(url: str, namespace: str = "", **admin: Any) -> FastAPI:
    app = FastAPI()
    add_channel(app, url=url, namespace=namespace)
    Room().mount(app, "/rooms/{channel:path}", user=user_of)
    Admin(app, dependencies=[Depends(staff)], who=staff, **admin)
    return app


async def user_of(user: str | None = None) -> str | None:
    return user


@asynccontextmanager
async def two(redis: RedisServer, **admin: Any) -> AsyncIterator[tuple[Site, Site, httpx.AsyncClient]]:
    """Two processes, and an operator who speaks to the first."""
    namespace = unique()
    apps = [application(redis.url, namespace, **admin) for _ in range(2)]
    async with serving(apps[0]) as one, serving(apps[1]) as other, operator(one) as http:
        yield one, other, http


def operator(site: Site, **headers: str) -> httpx.AsyncClient:
    given = {"authorization": "Bearer staff-grace", **headers}
    return httpx.AsyncClient(base_url=f"{site.http}/admin", headers=given, trust_env=False, timeout=30)


async def becomes(http: httpx.AsyncClient, path: str, wanted: Callable[[Any], Any]) -> Any:
    """The answer, when it is as it has to be."""
    async with asyncio.timeout(30):
        while not wanted(found := (await http.get(path)).json()):
            await asyncio.sleep(0.02)
    return found


async def test_what_there_is_in_all_processes(shared_redis: RedisServer):
    async with (
        two(shared_redis) as (one, other, http),
        one.clients("/rooms/a?user=ada", "/rooms/b%2Fc") as (ada, _),
        other.connect("/rooms/a?user=ada"),
    ):
        nodes = await becomes(http, "/nodes", lambda found: len(found) == 2)
        assert {report["connections"] for report in nodes.values()} == {1, 2}
        rooms = await becomes(http, "/rooms", lambda found: found["total"] == 2)
        assert rooms == {
            "items": [
                {"name": "a", "scope": "", "members": 2},
                {"name": "b/c", "scope": "", "members": 1},
            ],
            "total": 2,
            "complete": True,
        }
        part = (await http.get("/rooms", params={"limit": 1, "offset": 1, "search": ""})).json()
        assert [room["name"] for room in part["items"]] == ["b/c"]
        assert (await http.get("/rooms", params={"search": "/"})).json()["total"] == 1
        members = await becomes(http, "/rooms/a/members", lambda found: len(found) == 2)
        assert {member["user"] for member in members} == {"ada"}
        assert [member["user"] for member in (await http.get("/rooms/b/c/members")).json()] == [None]
        found = (await http.get("/users/ada/connections")).json()
        assert {each["process"] for each in found} == {one.node.id, other.node.id}
        assert {each["id"] for each in found} == {member["id"] for member in members}
        assert [each["rooms"] for each in found] == [["a"], ["a"]]
        await ada.send({"action": "say", "text": "hello"})
        page = await becomes(http, "/rooms/a/history?channel=Room", lambda found: found["items"])
        assert [item["data"] for item in page["items"]] == ["hello"]
        (channel,) = (await http.get("/channels")).json()
        assert channel == {"name": "Room", "address": "/rooms/{channel}", "actions": ["say"]}
        jobs = (await http.get("/jobs")).json()
        assert jobs[one.node.id]["Room.daily"]["last"] is None
        assert (await http.get("/rooms/a/members", params={"channel": "Nothing"})).status_code == 422
        assert (await http.post("/rooms/a/publish", json={"event": "x"})).status_code == 404, (
            "it is read-only"
        )


async def test_what_is_done_reaches_all_processes_and_the_log_says_by_whom(
    shared_redis: RedisServer, caplog: pytest.LogCaptureFixture
):
    async with (
        two(shared_redis, read_only=False) as (_, other, http),
        other.clients("/rooms/a?user=ada", "/rooms/a?user=bob") as (ada, bob),
    ):
        await becomes(http, "/rooms/a/members", lambda found: len(found) == 2)
        sent = await http.post(
            "/rooms/a/publish", params={"channel": "Room"}, json={"event": "told", "data": 1}
        )
        assert sent.json().keys() == {"a"}
        for client in (ada, bob):
            assert (await client.receive_until(lambda frame: frame["type"] == "event"))["data"] == 1
        assert (await http.post("/rooms/b/join", json={"user": "ada"})).status_code == 202
        await becomes(http, "/rooms/b/members", lambda found: len(found) == 1)
        assert (await http.post("/rooms/b/leave", json={"user": "ada"})).status_code == 202
        await becomes(http, "/rooms/b/members", lambda found: found == [])
        await http.post("/users/ada/disconnect", json={"code": 4503, "reason": "enough"})
        assert await ada.closed() == (4503, "enough")
        (member,) = await becomes(http, "/rooms/a/members", lambda found: len(found) == 1)
        assert (
            await http.post(f"/connections/{member['id']}/disconnect", json={"code": 5})
        ).status_code == 422
        await http.post(f"/connections/{member['id']}/disconnect", json={})
        assert (await bob.closed()).code == 1000
        assert (await http.post("/users/ada/revoke", json={"seconds": 60})).status_code == 202
    lines = [record.getMessage() for record in caplog.records if record.name == "fastapi_channels.admin"]
    assert all(line.startswith("grace ") for line in lines)
    assert [line.removeprefix("grace ").split(" ", 1)[0] for line in lines] == [
        *("publishes", "lets", "lets", "disconnects", "disconnects", "disconnects", "revokes")
    ]
    assert "and it fails: code 5" in lines[4]


async def test_a_process_is_drained_and_the_others_are_not(shared_redis: RedisServer):
    async with two(shared_redis, read_only=False) as (one, other, http):
        async with one.connect("/rooms/a") as stays, other.connect("/rooms/a") as goes:
            assert (await http.post("/nodes/nothing/drain")).status_code == 422
            assert (await http.post(f"/nodes/{other.node.id}/drain")).status_code == 202
            assert (await goes.closed()).code == 1012
            assert (await stays.receive())["type"] == "joined"
        nodes = await becomes(http, "/nodes", lambda found: len(found) == 2)
        assert {node: report["draining"] for node, report in nodes.items()} == {
            one.node.id: False,
            other.node.id: True,
        }


async def test_nobody_else_gets_in():
    async with serving(application("memory://", read_only=False)) as site:
        for headers, status in (
            ({"authorization": ""}, 401),
            ({"authorization": "Bearer forged"}, 401),
            ({"origin": "https://evil.example"}, 403),
            ({"origin": "null"}, 403),
            ({"origin": site.http}, 200),
        ):
            async with operator(site, **headers) as http:
                assert (await http.get("/nodes")).status_code == status, headers
                acted = await http.post("/users/nobody/disconnect", json={})
                assert acted.status_code == (202 if status == 200 else status), headers


async def test_an_iterator_of_dependencies_lets_nobody_else_in_either():
    app = FastAPI()
    add_channel(app)
    Admin(app, dependencies=map(Depends, [staff]))  # type: ignore[arg-type]  # many write it all the same
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as http:
        assert (await http.get("/admin/channels")).status_code == 401
        staffed = await http.get("/admin/channels", headers={"authorization": "Bearer staff-ada"})
        assert staffed.status_code == 200
    with pytest.raises(ConfigurationError, match="for whoever its dependencies let in"):
        Admin(app, dependencies=iter(()))  # type: ignore[arg-type]  # none are none


async def test_one_process_knows_its_members_without_a_store():
    async with (
        serving(application("memory://")) as site,
        site.connect("/rooms/a?user=ada"),
        operator(site) as http,
    ):
        (member,) = (await http.get("/rooms/a/members")).json()
        assert member == {"id": member["id"], "user": "ada", "since": None, "data": None}
        found = (await http.get("/users/ada/connections")).json()
        assert found == [{"id": member["id"], "process": site.node.id, "rooms": ["a"]}]


async def test_the_log_has_no_values_of_what_does_not_fit(caplog: pytest.LogCaptureFixture):
    class Paid(Event):
        card: int

    class Shop(Channel):
        event_types = [Paid]

    app = FastAPI()
    add_channel(app)
    Shop().mount(app, "/{channel}")
    Admin(app, allow_anybody=True, read_only=False, who=lambda: "grace")
    async with (
        living(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as http,
    ):
        said = {"event": "paid", "data": {"card": "4111 s3cret"}}
        answer = await http.post("/admin/rooms/a/publish?channel=Shop", json=said)
    assert answer.status_code == 422
    (fault,) = answer.json()["detail"]
    assert (fault["loc"][-1], fault["type"]) == ("card", "int_parsing")
    assert "grace publishes 'paid' in 'a', and it fails: [{'loc': " in caplog.text
    assert "s3cret" not in answer.text + caplog.text


def test_what_is_broken_off_is_in_the_log(caplog: pytest.LogCaptureFixture):
    app = FastAPI()
    add_channel(app)
    admin = Admin(app, allow_anybody=True)
    with pytest.raises(asyncio.CancelledError), admin._act("grace", "drains the process 'x'"):
        raise asyncio.CancelledError
    assert "grace drains the process 'x', and it is broken off" in caplog.text


def test_there_are_at_least_as_many_rooms_as_are_seen():
    answers = [(2, {"a": 2}), (1, {"b": 1}), (2, {"a": 1, "c": 1})]
    page = _page(answers, slice(0, 2))
    assert (page.total, page.complete) == (3, False)
    assert [(room.name, room.members) for room in page.items] == [("a", 3), ("b", 1)]
    assert _page([(3, {"a": 1})], slice(0, 2)).total == 3
    assert _page(answers[1:], slice(0, 2)).complete


def test_it_is_not_open_by_mistake():
    app = FastAPI()
    with pytest.raises(ConfigurationError, match=r"that add_channel\(\) was called on"):
        Admin(app, allow_anybody=True)
    add_channel(app)
    with pytest.raises(ConfigurationError, match="for whoever its dependencies let in"):
        Admin(app)
    with pytest.raises(ConfigurationError, match="dependencies must be a list of Depends"):
        Admin(app, dependencies=[staff])  # type: ignore[list-item]  # what is wrong with it
    Admin(app, allow_anybody=True, prefix="/ops")
    assert "/ops/nodes" in app.openapi()["paths"]
