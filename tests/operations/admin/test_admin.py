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
    CloseCode,
    ConfigurationError,
    Connection,
    Event,
    action,
    add_channel,
    every,
)
from fastapi_channels.operations.admin.audit import NO_JSON, acting
from fastapi_channels.operations.admin.views import page_of
from fastapi_channels.testing.asgi import living
from fastapi_channels.testing.broker import FaultyBroker
from fastapi_channels.testing.store import FaultyStore
from tests.support.live import Site, serving, unique, wait_until
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


def application(url: str, namespace: str = "", *, bans: bool = False, **admin: Any) -> FastAPI:
    app = FastAPI()
    add_channel(app, url=url, namespace=namespace, bans=bans)
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
    return site.client(base_url=f"{site.http}/admin", headers=given, timeout=30)


async def becomes(http: httpx.AsyncClient, path: str, wanted: Callable[[Any], Any]) -> Any:
    """The answer, when it is as it has to be."""
    async with asyncio.timeout(30):
        while not wanted(found := (await http.get(path)).json()):
            await asyncio.sleep(0.02)
    return found


@pytest.mark.parametrize("topics", [False, True])
async def test_a_room_whose_channel_another_process_alone_has_is_found_by_its_scope(
    shared_redis: RedisServer, *, topics: bool
):
    class Own(Channel):
        scope = "own"

    Own.topics = topics
    namespace = unique()
    asked, other = (application(shared_redis.url, namespace) for _ in range(2))
    Own().mount(other, "/own/{channel}", user=user_of)
    async with (
        serving(asked) as one,
        serving(other) as two,
        operator(one) as http,
        two.connect("/own/a?user=ada"),
    ):
        rooms = await becomes(http, "/rooms?search=a", lambda found: found["total"] == 1)
        (found,) = rooms["items"]
        where = {name: found[name] for name in ("scope", "topics")}
        assert where == {"scope": "own", "topics": topics}
        members = (await http.get(f"/rooms/{found['name']}/members", params=where)).json()
        assert [each["user"] for each in members["items"]] == ["ada"]
        elsewhere = {**where, "scope": "another's"}
        assert (await http.get(f"/rooms/{found['name']}/members", params=elsewhere)).json()["total"] == 0


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
                {"name": "a", "scope": "", "topics": False, "members": 2},
                {"name": "b/c", "scope": "", "topics": False, "members": 1},
            ],
            "total": 2,
            "complete": True,
        }
        part = (await http.get("/rooms", params={"limit": 1, "offset": 1, "search": ""})).json()
        assert [room["name"] for room in part["items"]] == ["b/c"]
        assert (await http.get("/rooms", params={"search": "/"})).json()["total"] == 1
        members = await becomes(http, "/rooms/a/members", lambda found: found["total"] == 2)
        assert {member["user"] for member in members["items"]} == {"ada"}
        part = (await http.get("/rooms/a/members", params={"limit": 1, "offset": 1})).json()
        assert part == {"items": members["items"][1:], "total": 2}
        alone = (await http.get("/rooms/b/c/members")).json()
        assert [member["user"] for member in alone["items"]] == [None]
        found = (await http.get("/users/ada/connections")).json()
        assert {each["process"] for each in found} == {one.node.id, other.node.id}
        assert {each["id"] for each in found} == {member["id"] for member in members["items"]}
        assert {each["address"] for each in found} == {"127.0.0.1"}
        assert (await http.get(f"/connections/{found[1]['id']}")).json() == found[1]
        assert (await http.get("/connections/nobody.1")).status_code == 404
        assert [each["rooms"] for each in found] == [["a"], ["a"]]
        await ada.send({"action": "say", "text": "hello"})
        page = await becomes(http, "/rooms/a/history?channel=Room", lambda found: found["items"])
        assert [item["data"] for item in page["items"]] == ["hello"]
        (channel,) = (await http.get("/channels")).json()
        assert channel == {
            "name": "Room",
            "address": "/rooms/{channel}",
            "actions": ["say"],
            "events": None,
            "scope": "",
            "history": True,
            "topics": False,
        }
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
        await becomes(http, "/rooms/a/members", lambda found: found["total"] == 2)
        sent = await http.post(
            "/rooms/a/publish", params={"channel": "Room"}, json={"event": "told", "data": 1}
        )
        assert sent.json().keys() == {"a"}
        for client in (ada, bob):
            assert (await client.receive_until(lambda frame: frame["type"] == "event"))["data"] == 1
        assert (await http.post("/rooms/b/join", json={"user": "ada"})).status_code == 202
        await becomes(http, "/rooms/b/members", lambda found: found["total"] == 1)
        assert (await http.post("/rooms/b/leave", json={"user": "ada"})).status_code == 202
        await becomes(http, "/rooms/b/members", lambda found: found["items"] == [])
        await http.post("/users/ada/disconnect", json={"code": 4503, "reason": "enough"})
        assert await ada.closed() == (4503, "enough")
        left = await becomes(http, "/rooms/a/members", lambda found: found["total"] == 1)
        (member,) = left["items"]
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
        (member,) = (await http.get("/rooms/a/members")).json()["items"]
        assert member == {"id": member["id"], "user": "ada", "since": None, "data": None}
        found = (await http.get("/users/ada/connections")).json()
        where = {"user": "ada", "address": "127.0.0.1", "rooms": ["a"], "waiting": 0}
        assert found == [{"id": member["id"], "process": site.node.id, **where}]
        assert (await http.get("/slow")).json() == []


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


BODIES: dict[str, list[str]] = {
    "rooms/a/publish": ["event", "data", "key"],
    "rooms/a/join": ["user"],
    "users/ada/disconnect": ["code", "reason"],
    "users/ada/revoke": ["seconds"],
    "bans": ["user", "address", "seconds", "reason"],
    "connections/x/disconnect": ["code", "reason"],
}


@pytest.mark.parametrize("path", BODIES)
async def test_a_body_that_no_message_could_carry_is_refused_in_words(path: str):
    app = FastAPI()
    add_channel(app, bans=True)
    Admin(app, allow_anybody=True, read_only=False)
    async with (
        living(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as http,
    ):
        typed = {"content-type": "application/json"}
        for field in BODIES[path]:
            for value in ('"\\ud800"', '{"\\ud800": 1}', "NaN", "-Infinity", '"\udcff"'):
                body = f'{{"event": "e", "{field}": {value}}}'.encode(errors="surrogateescape")
                answer = await http.post(f"/admin/{path}", content=body, headers=typed)
                assert answer.status_code == 422, (field, value)
                assert answer.json()["detail"].startswith("the body is no JSON: ")
            if field != "data":  # where infinity becomes null, as in whatever is published
                body = f'{{"event": "e", "{field}": 1e400}}'.encode()
                answer = await http.post(f"/admin/{path}", content=body, headers=typed)
                assert answer.status_code == 422
                assert field in [fault["loc"][-1] for fault in answer.json()["detail"]]
        answer = await http.post(f"/admin/{path}", content=b"\xff")  # that it is JSON, nobody has said
        assert (answer.status_code, answer.json()["detail"]) == (422, NO_JSON)


async def test_a_name_that_nothing_can_have_is_told_apart_from_what_cannot_be():
    class News(Channel):
        topics = True

    app = FastAPI()
    add_channel(app)
    News().mount(app, "/{channel}")
    Admin(app, allow_anybody=True, read_only=False)
    async with (
        living(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as http,
    ):
        for room, status in {"a%23": 400, "%00": 400, "a/%23/b": 400, "a/b": 200}.items():
            path = f"/admin/rooms/{room}"
            answers = [
                await http.get(f"{path}/members?channel=News"),
                await http.post(f"{path}/publish?channel=News", json={"event": "e"}),
            ]
            assert {answer.status_code for answer in answers} == {status}, room
            assert (await http.get(f"{path}/members?channel=Olds")).status_code == 422
        assert (await http.get(f"/admin/rooms/a/members?offset={10**30}")).status_code == 422


async def test_what_nobody_has_is_not_found_and_the_log_says_that_it_failed(
    shared_redis: RedisServer, caplog: pytest.LogCaptureFixture
):
    async with (
        serving(application(shared_redis.url, read_only=False)) as site,
        operator(site) as http,
    ):
        for path in ("%00%0a", ".1", f"{site.node.id}.999999", "0123456789ab.1"):
            answer = await http.post(f"/connections/{path}/disconnect", json={})
            assert answer.status_code == 404
            assert answer.json()["detail"] == "no process that answers has a connection of that id"
        gone = await http.post("/nodes/deadbeef/drain")
        assert (gone.status_code, gone.json()["detail"]) == (404, "no process of that id answers")
        assert caplog.messages[-1] == (
            "grace drains the process 'deadbeef', and it fails: no process of that id answers"
        )
        wrong = await http.post("/users/ada/disconnect", json={"code": 1006})
        assert wrong.status_code == 422
        assert "Value error" not in wrong.text + caplog.messages[-1]


def test_what_is_broken_off_is_in_the_log(caplog: pytest.LogCaptureFixture):
    with pytest.raises(asyncio.CancelledError), acting("grace", "drains the process 'x'"):
        raise asyncio.CancelledError
    assert "grace drains the process 'x', and it is broken off" in caplog.text


def test_there_are_at_least_as_many_rooms_as_are_seen():
    answers = [(2, {"a": 2}), (1, {"b": 1}), (2, {"a": 1, "c": 1})]
    page = page_of(answers, slice(0, 2))
    assert (page.total, page.complete) == (3, False)
    assert [(room.name, room.members) for room in page.items] == [("a", 3), ("b", 1)]
    assert page_of([(3, {"a": 1})], slice(0, 2)).total == 3
    assert page_of(answers[1:], slice(0, 2)).complete


def test_it_is_not_open_by_mistake():
    app = FastAPI()
    with pytest.raises(ConfigurationError, match=r"that add_channel\(\) was called on"):
        Admin(app, allow_anybody=True)
    add_channel(app)
    with pytest.raises(ConfigurationError, match="for whoever its dependencies let in"):
        Admin(app)
    with pytest.raises(ConfigurationError, match="dependencies must be a list of Depends"):
        Admin(app, dependencies=[staff])  # type: ignore[list-item]  # what is wrong with it
    for prefix in ("ops", None):
        with pytest.raises(ConfigurationError, match=f'begins with "/", without parameters, got {prefix!r}$'):
            Admin(app, allow_anybody=True, prefix=prefix)  # type: ignore[arg-type]  # what is wrong with it
    Admin(app, allow_anybody=True, prefix="/ops")
    document = app.openapi()
    assert "/ops/nodes" in document["paths"]
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            assert "422" not in told["responses"], (path, method)
            schema = told["responses"]["default"]["content"]["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/Refusal"}, (path, method)


async def test_who_is_not_let_in_gets_nothing_and_a_line_in_the_log(caplog: pytest.LogCaptureFixture):
    async with (
        serving(application("memory://", read_only=False)) as site,
        site.connect("/rooms/a?user=ada") as ada,
    ):
        (member,) = site.node.rooms.connections
        asked: tuple[tuple[str, str, dict[str, Any] | None], ...] = (
            ("GET", "/", None),
            ("GET", "/files/admin.js", None),
            ("GET", "/nodes", None),
            ("GET", "/channels", None),
            ("GET", "/rooms", None),
            ("GET", "/rooms/a/members", None),
            ("GET", "/rooms/a/history?channel=Room", None),
            ("GET", "/rooms/a/tail", None),
            ("GET", "/users/ada/connections", None),
            ("GET", f"/connections/{member}", None),
            ("GET", "/slow", None),
            ("GET", "/jobs", None),
            ("GET", "/bans", None),
            ("POST", "/rooms/a/publish", {"event": "x"}),
            ("POST", "/rooms/a/join", {"user": "ada"}),
            ("POST", "/rooms/a/leave", {"user": "ada"}),
            ("POST", "/users/ada/disconnect", {}),
            ("POST", "/users/ada/revoke", {}),
            ("POST", f"/connections/{member}/disconnect", {}),
            ("POST", f"/nodes/{site.node.id}/drain", None),
            ("POST", "/bans", {"user": "ada"}),
            ("DELETE", "/bans?user=ada", None),
        )
        forged = "Bearer staff\n-grace disconnects"
        for headers, status in (
            ({"authorization": ""}, 401),
            ({"authorization": "Bearer forged"}, 401),
            ({"authorization": forged.replace("\n", "%0a")}, 401),
            ({"origin": "https://evil.example"}, 403),
            ({"origin": "null"}, 403),
            ({"sec-fetch-site": "cross-site"}, 403),
        ):
            async with operator(site, **headers) as http:
                for method, path, body in asked:
                    if path == "/" and status == 403:
                        continue  # a link leads there from anywhere; what is in it nobody else reads
                    caplog.clear()
                    answer = await http.request(method, path, json=body)
                    assert answer.status_code == status, (method, path, headers)
                    assert "ada" not in answer.text
                    lines = [record for record in caplog.records if record.name == "fastapi_channels.admin"]
                    wanted = (
                        f"127.0.0.1 is not let in: {status} for {method} '/admin{path.partition('?')[0]}'"
                    )
                    assert wanted in [record.getMessage() for record in lines]
        # Who is let in, and names what is not there, does nothing to anybody.
        async with operator(site) as http:
            assert (await http.post("/connections/forged.1/disconnect", json={})).status_code == 404
            assert (await http.post("/users/nobody/disconnect", json={})).status_code == 202
            assert (await http.post("/nodes/forged/drain")).status_code == 422
            caplog.clear()
            hostile = "x\nmallory disconnects 'all'"
            await http.post("/rooms/a/join", json={"user": hostile})
            assert "\n" not in caplog.records[-1].getMessage()
        await ada.send({"action": "say", "text": "still here"})
        assert (await ada.receive_until(lambda frame: frame["type"] == "event"))["data"] == "still here"


async def test_a_user_is_banned_for_a_time():
    async with serving(application("memory://", read_only=False, bans=True)) as site, operator(site) as http:
        async with site.connect("/rooms/a?user=ada") as ada:
            banned = await http.post("/bans", json={"user": "ada", "seconds": 60, "reason": "spam"})
            assert banned.status_code == 202
            assert (await ada.closed()).code == 4503
        assert (await site.refusal("/rooms/a?user=ada")).body["code"] == "banned"
        (ban,) = (await http.get("/bans")).json()
        assert (ban["user"], ban["address"], ban["reason"], ban["by"]) == ("ada", None, "spam", "grace")
        assert (await http.delete("/bans", params={"user": "ada"})).status_code == 202
        assert (await http.get("/bans")).json() == []
        async with site.connect("/rooms/a?user=ada"):
            pass
        for wrong in (
            {},
            {"user": "a", "address": "127.0.0.1"},
            {"address": "no"},
            {"address": "10.0.0.0/8"},
            {"user": "a", "seconds": 0},
        ):
            assert (await http.post("/bans", json=wrong)).status_code == 422, wrong
        assert (await http.delete("/bans")).status_code == 422


async def test_what_a_process_has_counted():
    async with serving(application("memory://")) as site, operator(site) as http:
        async with site.connect("/rooms/a?user=ada") as ada:
            await ada.send({"action": "say", "text": "hello"})
            await ada.receive_until(lambda frame: frame["type"] == "event")
            await ada.send({"action": "nothing"})
            await ada.receive()
            report = (await http.get("/nodes")).json()[site.node.id]
            assert (report["received"], report["opened"], report["closed"]) == (2, 1, 0)
            assert report["sent"] >= 2
            assert report["errors"] == {"unknown_action": 1}
            assert report["uptime"] > 0
        await becomes(http, "/nodes", lambda found: found[site.node.id]["closed"] == 1)
        for number in range(200):
            for tell in site.node.observers.refused:
                tell(f"code{number}")
        errors = (await http.get("/nodes")).json()[site.node.id]["errors"]
        assert (len(errors), errors["other"]) == (101, 101)


async def test_without_the_store_a_ban_says_what_is_done_all_the_same(caplog: pytest.LogCaptureFixture):
    store, app = FaultyStore(), FastAPI()
    add_channel(app, store=store.view().as_store, bans=True, publish_timeout=0.2)
    Room().mount(app, "/rooms/{channel}", user=user_of)
    Admin(app, dependencies=[Depends(staff)], read_only=False)
    async with (
        serving(app, may_complain=True) as site,
        operator(site) as http,
        site.connect("/rooms/a?user=ada") as ada,
    ):
        store.down = True
        for path, asked in (("/users/ada/revoke", {}), ("/bans", {"user": "ada"})):
            answer = await http.post(path, json=asked)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert "closed all the same" in answer.json()["detail"]
        assert (await ada.closed())[0] == CloseCode.BANNED
    told = [record.getMessage() for record in caplog.records if record.name == "fastapi_channels.admin"]
    assert ["closed all the same" in line for line in told] == [True, True]


async def test_while_the_broker_is_away_the_process_that_is_asked_says_so():
    bus, app = FaultyBroker(), FastAPI()
    add_channel(app, backend=bus.backend(), store=FaultyStore().view().as_store, publish_timeout=0.2)
    Admin(app, dependencies=[Depends(staff)])
    async with serving(app, may_complain=True) as site, operator(site) as http:
        bus.crash()
        await wait_until(lambda: site.node.broker.away)
        report = (await http.get("/nodes")).json()
        assert report.keys() == {site.node.id}
        assert report[site.node.id]["broker_away"] >= 0
        assert (await http.get("/rooms")).status_code == 503
        bus.restart()
