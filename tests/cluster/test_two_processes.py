"""Two processes on one Redis: one room, also while the Redis dies and when one of them does."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket

from fastapi_channels import Channel, Connection, PersonChannel, Socket, action, add_channel, limiter
from tests.support.asgi import AsgiServer
from tests.support.events import listening
from tests.support.live import DEADLINE, Client, ServerProcess, Site, process, unique, wait_until
from tests.support.servers import RedisServer, required

pytestmark = required(RedisServer)

BACK_WITHIN = 20.0
"""Seconds after Redis is back, within which everybody hears everybody again."""
ENDED_WITHIN = 20.0
"""Seconds within which a process that is told to end has ended, its streams with it."""
DEAD_WITHIN = 24.0
"""Seconds within which a process that was killed is missed: its lease of six, and what a machine needs."""


class Room(Channel):
    @action()
    async def say(self, text: str, connection: Connection) -> None:
        await self.broadcast(connection.room, "said", text)

    @action()
    async def tell(self, room: str, text: str) -> str:
        await self.broadcast(room, "said", text)
        return "told"

    @action()
    async def me(self, connection: Connection) -> str:
        return connection.id

    @action()
    async def count(self, connection: Connection) -> int:
        return await self.get_connection_count(connection.room)

    @action()
    async def who(self, connection: Connection) -> list[str]:
        return sorted(str(member["user"]) for member in await self.members(connection.room))

    @action()
    async def write(self, user: str, text: str) -> None:
        await self.send_to_user(user, "wrote", text)

    @action()
    async def whisper(self, to: str, text: str) -> None:
        await self.send_to_connection(to, "whispered", text)

    @limiter(times=2, hours=1)
    @action()
    async def rarely(self) -> str:
        return "ok"


class Kept(Room):
    history = 10


class Pair(PersonChannel):
    @action()
    async def count(self, connection: Connection) -> int:
        return await self.get_connection_count(connection.room)


def create_app() -> FastAPI:
    """What each process serves; the environment names the Redis."""
    app = FastAPI()
    add_channel(app, url=os.environ["REDIS_URL"], publish_timeout=1.0)
    rooms = {"rooms": Room(), "pairs": Pair()}
    socket = Socket(rooms["rooms"])
    Kept().mount(app, "/kept/{channel}", sse=True, http=True)

    @app.websocket("/socket")
    async def carry(websocket: WebSocket, user: str) -> None:
        await socket.connect(websocket, user=user)

    @app.websocket("/{kind}/{channel}")
    async def enter(websocket: WebSocket, kind: str, channel: str, user: str | None = None) -> None:
        await rooms[kind].connect(websocket, channel, user=user)

    return app


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="module")
def sites(shared_redis: RedisServer) -> Iterator[list[Site]]:
    """Those of two processes that no test ends; each test has rooms of its own in them."""
    app = "tests.cluster.test_two_processes:create_app"
    servers = [AsgiServer("uvicorn --factory", app, REDIS_URL=shared_redis.url) for _ in range(2)]
    with servers[0], servers[1]:
        yield [server.site for server in servers]


@pytest.fixture
async def processes(redis: RedisServer) -> AsyncIterator[list[ServerProcess]]:
    """Two of the test's own, to be ended."""
    command = ("tests.cluster.test_two_processes:create_app", "--factory", "--timeout-graceful-shutdown", "2")
    async with AsyncExitStack() as stack:
        servers = [process(*command, environment={"REDIS_URL": redis.url}) for _ in range(2)]
        yield list(await asyncio.gather(*map(stack.enter_async_context, servers)))


async def ask(client: Client, name: str, **fields: Any) -> Any:
    """The data of the reply, or the code of the error; what else comes meanwhile is skipped."""
    request_id = unique()
    await client.send({"action": name, "request_id": request_id, **fields})
    reply = await client.receive_until(lambda frame: frame.get("request_id") == request_id)
    return reply.get("code", reply["data"])


async def becomes(client: Client, name: str, value: Any, *, within: float) -> None:
    """Ask until the answer is `value`."""
    async with asyncio.timeout(within):
        while await ask(client, name) != value:
            await asyncio.sleep(0.05)


@pytest.mark.fault
async def test_a_stream_of_events_goes_on_in_the_other(processes: list[ServerProcess]):
    """Who comes back, to another process, misses nothing; and nobody is in the way of its end."""
    here, there = processes[0], processes[1].site
    async with here.site.client(timeout=DEADLINE) as http:

        async def say(text: str) -> None:
            assert (await http.post("/kept/r/actions/say", json={"text": text})).status_code == 204

        async with listening(there, "/kept/r/events") as events, there.connect("/kept/r") as ada:
            assert (await events.frame())["type"] == (await ada.receive())["type"] == "joined"
            await say("one")
            frame = await events.frame()
            assert frame["data"] == "one"
            assert frame == await ada.receive()
            last_id = events.reader.last_id
        for text in ("two", "three"):
            await say(text)
        async with listening(here.site, "/kept/r/events", last_event_id=last_id) as events:
            assert (await events.frame())["recovered"]
            await say("four")
            assert [(await events.frame())["data"] for _ in range(3)] == ["two", "three", "four"]
            began = asyncio.get_running_loop().time()
            (*_, close), _ = await asyncio.gather(events.rest(), here.terminate())
            assert close.frame["code"] == 1012
            assert asyncio.get_running_loop().time() - began < ENDED_WITHIN


async def test_a_room_is_one_over_both(sites: list[Site]):
    here, there = sites
    async with (
        here.clients("/rooms/r?user=ann", "/rooms/r?user=bob") as (ann, bob),
        there.clients("/rooms/r?user=ann", "/rooms/r?user=eve") as (anns_phone, eve),
    ):
        everybody = (ann, bob, anns_phone, eve)
        for number in range(50):
            for client in (ann, eve):
                await client.send({"action": "say", "text": str(number)})
        heard = [[(await client.receive())["data"] for _ in range(100)] for client in everybody]
        assert heard[0] == heard[1] == heard[2] == heard[3]
        assert sorted(map(int, heard[0])) == sorted([*range(50)] * 2)

        assert await ask(bob, "count") == await ask(eve, "count") == 4
        assert await ask(eve, "who") == ["ann", "ann", "bob", "eve"]
        await bob.send({"action": "write", "user": "ann", "text": "dear ann"})
        assert [(await client.receive())["data"] for client in (ann, anns_phone)] == ["dear ann"] * 2
        await bob.send({"action": "whisper", "to": await ask(eve, "me"), "text": "psst"})
        assert (await eve.receive())["data"] == "psst"
        assert [await ask(client, "rarely") for client in (ann, anns_phone)] == ["ok", "ok"]
        assert await ask(ann, "rarely") == "rate_limited"
        assert await ask(eve, "rarely") == "ok"


async def test_a_user_is_reached_who_is_in_no_room_yet(sites: list[Site]):
    """On the WebSocket for many rooms, in the process of who writes and in the other; and once in many."""
    here, there = sites
    async with (
        here.clients("/rooms/q?user=ann", "/socket?user=bob") as (ann, bob),
        there.clients("/rooms/q?user=eve", "/socket?user=bob") as (eve, bobs_phone),
    ):

        async def bob_hears() -> list[Any]:
            return [(await client.receive())["data"] for client in (bob, bobs_phone)]

        for client in (ann, eve):
            await becomes(client, "count", 2, within=BACK_WITHIN)
        await ann.send({"action": "write", "user": "bob", "text": "in no room"})
        assert await bob_hears() == ["in no room"] * 2
        for client in (bob, bobs_phone):
            for room in ("q", "s"):
                await client.send({"type": "join", "channel": room})
                assert (await client.receive())["type"] == "joined"
        await ann.send({"action": "write", "user": "bob", "text": "in two"})
        await ann.send({"action": "say", "text": "to the room"})
        assert [await bob_hears() for _ in range(2)] == [["in two"] * 2, ["to the room"] * 2]


async def test_what_is_said_after_a_handshake_is_received_in_the_other_process(sites: list[Site]):
    here, there = sites
    async with here.connect("/rooms/speaker") as speaker:
        for number in range(30):
            async with there.connect(f"/rooms/r{number % 3}") as client:
                await ask(speaker, "tell", room=f"r{number % 3}", text=str(number))
                assert (await client.receive())["data"] == str(number)


async def test_two_people_over_both_and_a_third_in_neither(sites: list[Site]):
    async with sites[0].connect("/pairs/p?user=ann"), sites[1].connect("/pairs/p?user=bob"):
        for site in sites:
            refusal = await site.refusal("/pairs/p?user=eve")
            assert (refusal.status, refusal.body["code"]) == (503, "channel_full")
        async with sites[1].connect("/pairs/p?user=ann") as device:
            await becomes(device, "count", 3, within=BACK_WITHIN)


async def test_of_many_who_come_at_once_to_both_two_are_let_in(sites: list[Site]):
    for round_ in range(5):
        async with AsyncExitStack() as stack:

            async def arrive(number: int, room: str = f"/pairs/p{round_}", stack: Any = stack) -> bool:
                try:
                    await stack.enter_async_context(sites[number % 2].connect(room))
                except Exception:
                    return False
                return True

            assert sum(await asyncio.gather(*map(arrive, range(10)))) == 2


class Listener:
    """Hears a room, and remembers whom it heard when."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.heard: dict[str, float] = {}
        """When it last heard whom."""
        self.resyncs = 0
        """How often it was told that messages may be missing."""
        self.unavailable = 0
        """How often it was told that nobody could be reached."""
        self.task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for raw in self.client.socket:
            frame = json.loads(raw)
            if frame.get("code") == "unavailable":
                self.unavailable += 1
            elif frame["type"] == "resync":
                self.resyncs += 1
            else:
                self.heard[frame["data"]] = now()

    async def speak(self, name: str) -> None:
        """Say one's name again and again, whatever the answers."""
        while True:
            await self.client.send({"action": "say", "text": name})
            await asyncio.sleep(0.02)

    def hears_all(self, names: Sequence[str], since: float) -> bool:
        return all(self.heard.get(name, 0.0) > since for name in names)


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.fault
async def test_a_redis_that_is_killed_five_times_costs_nobody_the_connection(
    redis: RedisServer, processes: list[ServerProcess]
):
    here, there = (server.site for server in processes)
    paths = ["/rooms/r"] * 3
    async with here.clients(*paths) as ours, there.clients(*paths) as theirs:
        counters = [ours.pop(), theirs.pop()]
        ids = [await ask(client, "me") for client in counters]
        listeners = [Listener(client) for client in (*ours, *theirs)]
        speaking = [
            asyncio.create_task(listeners[0].speak("one")),
            asyncio.create_task(listeners[2].speak("two")),
        ]
        for _ in range(5):
            for counter in counters:
                await becomes(counter, "count", 6, within=BACK_WITHIN)
            await _outlive(redis, listeners, speakers=[listeners[0], listeners[2]])
        assert not any(task.done() for task in speaking)
        assert not any(listener.task.done() for listener in listeners)
        assert [listener.resyncs for listener in listeners] == [5] * 4, "one for each outage"
        for counter, number in zip(counters, ids, strict=True):
            await becomes(counter, "count", 6, within=BACK_WITHIN)
            assert await ask(counter, "me") == number
        for task in speaking:
            task.cancel()


async def _outlive(redis: RedisServer, listeners: list[Listener], speakers: list[Listener]) -> None:
    """Redis dies, both processes notice, and it comes back."""
    before = [speaker.unavailable for speaker in speakers]
    await asyncio.to_thread(redis.kill)
    await wait_until(lambda: all(s.unavailable > n for s, n in zip(speakers, before, strict=True)))
    await asyncio.to_thread(redis.restart)
    back = now()
    await wait_until(
        lambda: all(one.hears_all(["one", "two"], back) for one in listeners), within=BACK_WITHIN
    )


@pytest.mark.fault
async def test_a_process_that_is_killed_is_missed_and_its_places_are_free(processes: list[ServerProcess]):
    here, there = (server.site for server in processes)
    async with here.clients("/rooms/r", "/pairs/p?user=ann") as (survivor, ann):
        async with there.clients("/rooms/r", "/rooms/r", "/pairs/p?user=bob") as lost:
            await becomes(survivor, "count", 3, within=BACK_WITHIN)
            assert (await here.refusal("/pairs/p?user=eve")).status == 503
            await processes[1].kill()
            assert [(await client.closed()).code for client in lost] == [1006] * 3
        await becomes(survivor, "count", 1, within=DEAD_WITHIN)
        async with here.connect("/pairs/p?user=eve") as eve:
            assert await ask(eve, "count") == await ask(ann, "count") == 2


@pytest.mark.fault
async def test_a_process_that_is_terminated_is_missed_at_once(processes: list[ServerProcess]):
    here, there = (server.site for server in processes)
    async with here.connect("/rooms/r") as survivor:
        async with there.clients("/rooms/r", "/rooms/r") as lost:
            await becomes(survivor, "count", 3, within=BACK_WITHIN)
            await processes[1].terminate()
            assert [(await client.closed()).code for client in lost] == [1012] * 2
        assert await ask(survivor, "count") == 1
