"""What a newcomer meets, on every server that they may start: nothing that cannot work is silent."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest

from tests.support.asgi import AsgiServer
from tests.support.events import listening
from tests.support.live import DEADLINE, Client, wait_until
from tests.support.servers import RedisServer, required

pytestmark = required(AsgiServer)

SERVERS = ["uvicorn", "uvicorn --ws websockets", "hypercorn", "daphne"]
APP = "tests.conformance.auction:app"
FILE = "tests/conformance/auction.py"
ROOM = "/rooms/auction:1"


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[AsgiServer]:
    """One that serves on its own, with what is in memory."""
    with AsgiServer(request.param, APP) as started:
        yield started


@pytest.fixture(scope="module", params=SERVERS)
def clustered(request: pytest.FixtureRequest, shared_redis: RedisServer) -> Iterator[AsgiServer]:
    """One that shares a Redis with others."""
    with AsgiServer(request.param, APP, BROKER=shared_redis.url) as started:
        yield started


@pytest.fixture(scope="module")
def run(shared_redis: RedisServer) -> Iterator[AsgiServer]:
    """A file that serves itself, on the same Redis."""
    with AsgiServer(FILE, BROKER=shared_redis.url) as started:
        yield started


async def reply(client: Client, name: str, **fields: Any) -> Any:
    """The reply to a call, or the code of its error; events that come before are skipped."""
    await client.send({"action": name, "request_id": 1, **fields})
    frame = await client.receive_until(lambda frame: frame["type"] == "response")
    return frame.get("code", frame["data"])


async def members(client: Client, *users: str) -> None:
    """Wait until these are in the room: what another process has entered is there a moment later."""
    async with asyncio.timeout(DEADLINE):
        while sorted(member["user"] for member in await reply(client, "who")) != list(users):
            pass


async def post(server: AsgiServer, path: str) -> httpx.Response:
    async with server.site.client() as http:
        return await http.post(path, timeout=10)


# Users


async def test_the_sub_of_a_token_names_a_user(server: AsgiServer):
    async with server.site.clients(f"{ROOM}?sub=ann", f"{ROOM}?sub=ann", f"{ROOM}?sub=bob") as clients:
        ann, tab, bob = clients
        assert sorted(member["user"] for member in await reply(bob, "who")) == ["ann", "ann", "bob"]
        await bob.send({"action": "tell", "user": {"sub": "ann"}, "text": "psst"})
        for client in (ann, tab):
            assert (await client.receive())["data"] == "psst"
        assert [await reply(client, "once") for client in clients] == ["once", "rate_limited", "once"]


async def test_a_person_has_one_place_with_three_tabs(server: AsgiServer):
    pair = [f"/pairs/a?sub={sub}" for sub in ("ann", "ann", "ann", "bob")]
    async with server.site.clients(*pair):
        assert (await server.site.refusal("/pairs/a?sub=eve")).status in (503, 403)


async def test_a_room_is_a_stream_of_events_as_well(server: AsgiServer):
    path = "/streams/auction:2"
    async with server.site.client() as http:

        async def bid(amount: int | str) -> httpx.Response:
            return await http.post(f"{path}/actions/bid", json={"amount": amount})

        async with listening(server.site, f"{path}/events") as events:
            # It is there when the server has passed its first bytes on.
            while events.reader.retry is None:
                await events.read_on()
            assert (await bid(5)).json()["data"] is True
            assert (await events.frame())["data"] == 5
        guarded = await http.get("/streams/auction:100/events")
        answers = [guarded, await bid("much"), await http.post(f"{path}/actions/sell")]
        assert [answer.status_code for answer in answers] == [403, 422, 404]
    await wait_until(lambda: "left auction:2" in server.said)


async def test_a_user_without_a_key_is_told_of_once(server: AsgiServer):
    async with server.site.clients(f"{ROOM}?nick=ann", f"{ROOM}?nick=bob") as clients:
        assert [member["user"] for member in await reply(clients[0], "who")] == [None, None]
        await wait_until(lambda: "has no key" in server.said)
    assert re.findall("a user of type (.*) has no key.*user_key=", server.said) == ["builtins.dict"]


# Rooms


async def test_a_file_that_is_run_and_a_module_that_is_served_share_their_rooms(
    run: AsgiServer, clustered: AsgiServer
):
    room = "/rooms/auction:3"
    async with run.site.connect(f"{room}?sub=ann") as ann, clustered.site.connect(f"{room}?sub=bob") as bob:
        assert await reply(bob, "bid", amount=5, number=3) is True
        assert (await ann.receive())["data"] == 5
        await members(ann, "ann", "bob")


async def from_another_event_loop(server: AsgiServer) -> None:
    async with server.site.clients(ROOM, ROOM) as clients:
        # Those of the test before may still be leaving.
        async with asyncio.timeout(DEADLINE):
            while len(await reply(clients[0], "who")) != 2:
                await asyncio.sleep(0.01)
        answer = await post(server, "/elsewhere")
        assert (answer.status_code, answer.json()) == (200, 2)
        for client in clients:
            assert (await client.receive())["data"] == "from another loop"
            assert len(await reply(client, "who")) == 2


async def test_a_broadcast_from_another_event_loop_arrives(server: AsgiServer):
    await from_another_event_loop(server)


async def test_a_broadcast_from_another_event_loop_arrives_by_way_of_a_broker(clustered: AsgiServer):
    await from_another_event_loop(clustered)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        ({"action": "shout", "room": "aucton:1"}, "'aucton:1'.*auction:{number:int}"),
        ({"action": "tell", "user": None, "text": ""}, "a user is its key, .*, not None"),
        (
            {"action": "tell", "user": {"name": "ann"}, "text": ""},
            "a user is its key, .*, not a dict without",
        ),
    ],
)
async def test_a_name_that_cannot_be_right_is_an_error(call: dict[str, Any], told: str, server: AsgiServer):
    async with server.site.connect(ROOM) as client:
        await client.send(call)
        assert (await client.receive())["code"] == "internal_error"
        await wait_until(lambda: re.search(f"ConfigurationError: .*{told}", server.said))
        assert await reply(client, "who")


# Closes


@pytest.mark.parametrize(("frame", "code", "of_daphne"), [("x" * 1001, 1009, 4513), (b"x", 1003, 4515)])
async def test_a_frame_that_is_not_taken_ends_the_connection(
    frame: str | bytes, code: int, of_daphne: int, server: AsgiServer
):
    """daphne lets an application close with 1000 and 3000 to 4999 alone."""
    async with server.site.connect(ROOM) as client:
        await client.send(frame)
        assert (await client.closed()).code == (of_daphne if server.name == "daphne" else code)


async def test_a_close_of_ones_own_has_its_code_and_on_daphne_no_reason(server: AsgiServer):
    async with server.site.connect(ROOM) as client:
        await client.send({"action": "kick"})
        assert await client.closed() == (4001, "" if server.name == "daphne" else "you know why")


@pytest.mark.fault
@pytest.mark.parametrize("server", SERVERS)
async def test_who_is_there_when_the_server_is_told_to_end(server: str):
    seen = {"hypercorn": 1011, "daphne": 1006}
    with AsgiServer(server, APP) as started:
        async with started.site.connect(ROOM) as client:
            await asyncio.to_thread(started.end)
            assert (await client.closed()).code == seen.get(started.name, 1012)
        assert ("left auction:1" in started.said) is (started.name != "daphne")


# Refusals


async def test_a_page_of_another_origin_is_told_how_it_would_be_let_in(server: AsgiServer):
    pages = [f"http://{host}:5173" for host in ("localhost", "127.0.0.1")]
    for page in (*pages, *pages):
        status, body = await server.site.refusal(ROOM, origin=page)
        assert status == 403
        assert body["code"] == "origin_denied" if server.name != "daphne" else not body
    own = f"127.0.0.1:{server.port}"
    async with server.site.connect(ROOM, origin=f"http://{own}"):
        pass
    told = [
        f"a page of '{page}' may not connect to '{own}': "
        f"add_channel(…, allowed_origins=['http://{own}', '{page}']) lets it in"
        for page in pages
    ]
    await wait_until(lambda: all(line in server.said for line in told))
    assert [server.said.count(line) for line in told] == [1, 1]


async def test_without_a_websocket_library_the_log_says_why_nobody_gets_in():
    blocked = "import sys; sys.modules.update(websockets=None, wsproto=None)"
    serve = f"import uvicorn; uvicorn.run('{APP}', port=int(sys.argv[1]))"
    with _Command(f"{blocked}; {serve}") as server:
        assert (await server.site.refusal(ROOM)).status == 404
        assert 'pip install "uvicorn[standard]"' in server.said


class _Command(AsgiServer):
    """A server that is started by a line of Python."""

    def command(self) -> Sequence[str]:
        return (sys.executable, "-c", " ".join(self._how), str(self.port))


@pytest.mark.fault
@pytest.mark.parametrize("server", SERVERS)
async def test_with_the_broker_away_each_is_told_what_it_can_do(server: str, mortal_redis: RedisServer):
    with AsgiServer(server, APP, BROKER=mortal_redis.url, PATIENCE="1") as started:
        async with started.site.connect(ROOM) as client:
            assert await reply(client, "bid", amount=1, number=1) is True
            assert (await post(started, "/here")).status_code == 200
            mortal_redis.kill()
            assert await reply(client, "bid", amount=2, number=1) == "unavailable"
            assert await reply(client, "bid", amount=3, number=1, required=False) is False
            answer = await post(started, "/here")
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "the broker is lost" in started.said, "told once, and not for each broadcast"


@pytest.mark.fault
async def test_what_cannot_answer_is_not_left_out(clustered: AsgiServer, shared_redis: RedisServer):
    """The members of a process that hangs are still members: nobody asks it."""
    with AsgiServer("uvicorn", APP, BROKER=shared_redis.url) as other:
        async with clustered.site.connect(f"{ROOM}?sub=ann") as ann, other.site.connect(f"{ROOM}?sub=bob"):
            await members(ann, "ann", "bob")
            other.pause()
            assert len(await reply(ann, "who")) == 2
            other.resume()


async def test_what_does_nothing_warns_where_it_is_seen(server: AsgiServer):
    [line] = [line for line in server.said.splitlines() if "FutureWarning" in line]
    assert FILE in line
    assert "'max_history' of PersonChannel() has no effect and is ignored: remove it" in line


async def test_a_mounted_application_says_that_nobody_starts_it(server: AsgiServer):
    async with server.site.connect("/inner/r"):
        pass
    assert "this application is mounted in another" in server.said
    assert "call add_channel() on the outer application" in server.said
