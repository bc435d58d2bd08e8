"""How a connection comes, goes and comes back. Time is the test's, and so is the server."""

import asyncio
import itertools
import time
from types import SimpleNamespace
from typing import Any

import pytest

from fastapi_channels import ConfigurationError
from fastapi_channels.client import Client, Refused, connection
from fastapi_channels.client.client import _place
from fastapi_channels.client.settings import Closed, Times
from fastapi_channels.testing.clock import now, timeless
from fastapi_channels.wire.messages import SUBPROTOCOL

from .fake import FakeWire, World, joined, settle


@timeless
async def test_the_address_has_the_parameters_below_the_path_of_the_application():
    world = World()
    client = world.client(protocols=["app"], query={"lang": "zh"}, headers={"x": "y"})
    room = client.room("/rooms/{channel}", channel="a b", query={"name": "ann"})
    await room.ready()
    assert world.wire.url == "ws://example.com/app/rooms/a%20b?lang=zh&name=ann"
    assert (world.wire.protocols, world.wire.headers) == ([SUBPROTOCOL, "app"], {"x": "y"})
    with pytest.raises(ConfigurationError):
        client.room("/rooms/{channel}")
    await client.close()


@timeless
async def test_open_means_welcome():
    world = World(lambda wire: None)
    room = world.client().room("/a")
    await settle()
    assert room.line == "connecting"
    world.wire.welcome()
    await settle()
    assert (room.line, room.state) == ("open", "joined")
    await room.leave()


@pytest.mark.parametrize("code", [1001, 1005, 1006, 1011, 1012, 1013, 3008, 4000, 4010])
@timeless
async def test_it_comes_back(code: int):
    world, room = await joined()
    world.wire.shut(code)
    await settle()
    assert (room.line, room.state) == ("waiting", "joining")
    await asyncio.sleep(1.5)
    assert (room.line, len(world.wires), len(world.open)) == ("open", 2, 1)
    await room.leave()


@pytest.mark.parametrize("code", [0, 1000, 1003, 1008, 1009, 3000, 4500])
@timeless
async def test_it_stays_away_until_it_is_told_to_retry(code: int):
    world, room = await joined()
    world.wire.shut(code, "why")
    await asyncio.sleep(3600)
    assert (room.line, room.state, len(world.wires)) == ("closed", "refused", 1)
    assert room.refusal is not None
    assert room.refusal.close_code == code
    room.retry()
    await room.ready()
    assert (room.refusal, len(world.wires)) == (None, 2)
    await room.leave()


@timeless
async def test_a_refusal_says_why():
    def refuse(wire: FakeWire) -> None:
        wire.say({"type": "response", "status": "bad", "code": "permission_denied", "errors": "no"})
        wire.shut(1008, "no")

    room = World(refuse).client().room("/a")
    with pytest.raises(Refused, match="no") as refused:
        await room.ready()
    assert (refused.value.code, refused.value.close_code) == ("permission_denied", 1008)


@pytest.mark.parametrize("how", ["drain", "reason", "refusal"])
@timeless
async def test_when_to_come_back_is_said(how: str):
    world, room = await joined()
    if how == "drain":
        world.wire.say({"type": "drain", "within": 1, "retry_after": 3.5})
        world.wire.shut(1012)
    elif how == "reason":
        world.wire.shut(1012, "restart; retry_after=3.5")
    else:
        world.wire.shut(1006)

        def refuse(wire: FakeWire) -> None:
            wire.say({"type": "response", "code": "unavailable", "errors": "x", "retry_after": 3.5})
            wire.shut(1013)

        world.arrives = refuse
        await asyncio.sleep(1)
        while len(world.wires) < 2:
            await asyncio.sleep(0.01)
        await settle()
        assert room.refusal is not None
        assert room.refusal.code == "unavailable"
        world.arrives = FakeWire.welcome
    await settle()
    at, count = now(), len(world.wires)
    assert room.line == "waiting"
    assert room.until == pytest.approx(time.time() + 3.5, abs=0.1)
    await room.ready()
    assert 3.4 <= now() - at <= 3.6
    assert len(world.wires) == count + 1
    await room.leave()


@timeless
async def test_a_server_that_accepts_and_closes_at_once_is_not_hammered():
    def arrive(wire: FakeWire) -> None:
        wire.welcome()
        wire.shut(1011)

    world = World(arrive)
    room = world.client().room("/a")
    await asyncio.sleep(9000)
    gaps = [after - before for before, after in itertools.pairwise(world.began)]
    assert min(gaps) >= 0.999
    late = gaps[7:]
    assert 12 < sum(late) / len(late) < 18, "half of the ceiling"
    await room.leave()


@timeless
async def test_the_first_connection_is_tried_for_as_long_as_it_takes():
    def away(wire: FakeWire) -> None:
        raise Closed(1006)

    world = World(away)
    room = world.client().room("/a")
    await asyncio.sleep(600)
    world.arrives = FakeWire.welcome
    at = now()
    await room.ready()
    assert now() - at <= 31
    await room.leave()


@timeless
async def test_a_dead_link_is_noticed_and_a_quiet_one_kept():
    world, room = await joined()
    wire = world.wire
    wire.heard = lambda frame: wire.say({"type": "pong"}) if frame["type"] == "ping" else None
    await asyncio.sleep(3600)
    assert (room.line, len(world.wires)) == ("open", 1)
    wire.dead = True
    at = now()
    while not wire.closed:
        await asyncio.sleep(0.1)
    assert now() - at <= 41
    assert wire.code == 3008
    await room.ready()
    await room.leave()


@timeless
async def test_after_sleep_a_dead_link_is_noticed_within_ten_seconds(monkeypatch: pytest.MonkeyPatch):
    """Five until the clock is looked at, and five for an answer."""
    world, room = await joined()
    begun, slept = now(), 0.0
    monkeypatch.setattr(connection, "time", SimpleNamespace(time=lambda: now() - begun + slept))
    await asyncio.sleep(12)
    world.wire.dead = True
    slept, woken = 3600.0, now()
    while not world.wires[0].closed:
        await asyncio.sleep(0.1)
    assert now() - woken <= 10.1
    assert [frame["type"] for frame in world.wires[0].sent] == ["ping"]
    await room.ready()
    await room.leave()


@timeless
async def test_a_close_that_never_comes_is_not_waited_for():
    world, room = await joined()
    over = asyncio.Event()

    async def hangs(code: int) -> None:
        await over.wait()

    world.wire.close = hangs
    world.wire.shut(1012)
    await settle()
    await room.ready()
    assert len(world.wires) == 2
    over.set()
    await room.leave()


@timeless
async def test_fifty_losses_leave_one_connection_and_one_listener():
    world, room = await joined()
    heard: list[Any] = []
    room.on("said", heard.append)
    said = {"type": "event", "event": "said", "channel": "lobby"}
    for _ in range(50):
        world.wire.shut()
        await settle()
        await room.ready()
    for wire in world.wires:
        wire.say({**said, "data": "new" if wire is world.wire else "old"})
        if wire is not world.wire:
            wire.shut(1008)
    await settle()
    assert (heard, room.state, len(world.wires), len(world.open)) == (["new"], "joined", 51, 1)
    await room.leave()


@timeless
async def test_a_handshake_gets_ten_seconds():
    world = World(lambda wire: None)
    room = world.client().room("/a")
    await asyncio.sleep(9.9)
    assert not world.wires[0].closed
    await asyncio.sleep(0.2)
    assert world.wires[0].closed
    await room.leave()


@timeless
async def test_the_servers_ping_is_answered():
    world, room = await joined()
    world.wire.say({"type": "ping"})
    await settle()
    assert world.wire.sent == [{"type": "pong"}]
    await room.leave()


@timeless
async def test_the_token_is_asked_for_each_attempt_and_one_that_fails_is_tried_again():
    tokens = iter(["one", OSError("offline"), "two"])

    async def token() -> str:
        found = next(tokens)
        if isinstance(found, Exception):
            raise found
        return found

    world, room = await joined(token=token)
    world.wire.shut(1006)
    await settle()
    await room.ready()
    assert [wire.protocols[1] for wire in world.wires] == ["bearer.one", "bearer.two"]
    assert "two" not in world.wire.url
    await room.leave()


@pytest.mark.parametrize("token", ["", "a b", "a,b", "a\nb", "a\n", "a\x7f", "ä", "a=", 7, None, {}])
@timeless
async def test_a_token_that_cannot_be_sent_is_refused_at_once(token: Any):
    world = World()
    room = world.client(token=lambda: token).room("/a")
    with pytest.raises(Refused, match="unusable token: not of the characters of HTTP tokens") as refused:
        await room.ready()
    assert (refused.value.close_code, world.wires) == (0, [])


@pytest.mark.parametrize("token", ["abc", 7, {}])
async def test_a_token_that_is_no_function_is_an_error_at_once(token: Any):
    with pytest.raises(ConfigurationError, match="token is a function"):
        World().client(token=token)


@timeless
async def test_a_token_that_never_comes_ends_the_attempt_in_its_time():
    asked: list[float] = []

    async def token() -> str:
        asked.append(now())
        return "two" if len(asked) == 2 else await asyncio.Future()

    world = World()
    room = world.client(token=token).room("/a")
    await room.ready()
    assert [wire.protocols[1] for wire in world.wires] == ["bearer.two"]
    assert 10 <= asked[1] - asked[0] < 11
    await room.leave()


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "127.0.0.1:80"])
async def test_an_address_of_no_websocket_is_refused_at_once(url: str):
    async with Client(url, proxy=None) as client:
        with pytest.raises(Refused, match="isn't a valid URI"):
            await client.room("/a").ready()


@timeless
async def test_a_new_token_that_cannot_be_sent_is_told_and_the_open_socket_stays(caplog: Any):
    tokens = iter(["a", "b\n"])
    world, room = await joined(token=lambda: next(tokens))
    world.wire.say({"type": "expiring", "expires_in": 30})
    await settle()
    assert (room.line, world.wire.sent) == ("open", [])
    assert "unusable token" in caplog.text
    await room.leave()


@timeless
async def test_a_handshake_that_cannot_be_made_is_not_tried_for_ever():
    def arrives(wire: FakeWire) -> None:
        raise ValueError("no such header")

    world = World(arrives)
    with pytest.raises(Refused, match="no such header"):
        await world.client().room("/a").ready()
    assert len(world.wires) == 1


@timeless
async def test_a_token_that_is_over_is_replaced_once_and_not_tried_for_ever():
    def over(wire: FakeWire) -> None:
        wire.say({"type": "response", "code": "token_expired", "errors": "over"})
        wire.shut(4001)

    tokens = (f"t{number}" for number in itertools.count())
    world, room = await joined(token=lambda: next(tokens))
    world.arrives = over
    world.wire.shut(4001, "token expired; retry_after=0")
    await asyncio.sleep(600)
    assert room.refusal is not None
    assert (room.state, room.refusal.code, len(world.wires)) == ("refused", "token_expired", 3)
    # One that was refused so, and a new one that holds, are no reason.
    for _ in range(3):
        world.arrives = over
        room.retry()
        while len(world.open) == 0 and room.line != "waiting":
            await asyncio.sleep(0.1)
        world.arrives = FakeWire.welcome
        await room.ready()
        world.wire.shut(1008)
        await settle()
    await room.leave()


@timeless
async def test_of_two_users_the_later_one_signs_in():
    """A token that was still being fetched for the one before is not used."""
    fetched: list[asyncio.Future[str]] = []

    def token() -> asyncio.Future[str]:
        fetched.append(asyncio.get_running_loop().create_future())
        return fetched[-1]

    world = World()
    room = world.client(token=token).room("/a")
    await settle()
    await room.leave()
    room.retry()
    await asyncio.sleep(1)
    fetched[1].set_result("b")
    await room.ready()
    assert (fetched[0].cancelled(), [wire.protocols[1] for wire in world.wires]) == (True, ["bearer.b"])
    await room.leave()


@timeless
async def test_before_a_token_ends_a_new_one_is_sent_on_the_open_socket():
    tokens = iter(["one", "two", OSError("offline"), "three"])

    def token() -> str:
        found = next(tokens)
        if isinstance(found, Exception):
            raise found
        return found

    world, room = await joined(token=token)
    world.wire.say({"type": "expiring", "expires_in": 30})
    await settle()
    assert world.wire.sent == [{"type": "refresh", "token": "two"}]
    world.wire.say({"type": "authenticated", "expires_in": 900}, {"type": "expiring", "expires_in": 30})
    await settle()
    assert (room.line, len(world.wire.sent), len(world.wires)) == ("open", 1, 1)
    world.wire.shut(4001, "token expired; retry_after=0")
    await settle()
    await room.ready()
    assert world.wire.protocols[1] == "bearer.three"
    await room.leave()


@timeless
async def test_what_is_no_frame_harms_nothing():
    world, room = await joined()
    world.wire.say("<html>sign in</html>", "7")
    await settle()
    assert room.line == "open"
    await room.leave()


@timeless
async def test_clients_that_lose_a_server_together_come_back_apart():
    world = World()
    client = world.client()
    rooms = [client.room("/a") for _ in range(300)]
    for room in rooms:
        await room.ready()
    await asyncio.sleep(10)
    lost, world.began = now(), []
    for wire in world.open:
        wire.shut(1006)
    await asyncio.sleep(0.6)
    tenths = [int((at - lost) / 0.05) for at in world.began]
    assert len(tenths) == 300
    assert max(map(tenths.count, range(10))) < 90
    await client.close()


@timeless
async def test_nothing_is_left_when_it_is_closed():
    world, room = await joined()
    await room.leave()
    await settle()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert (room.state, world.open, world.wire.code) == ("left", [], 1000)
    await room.leave()
    room.retry()
    await room.ready()
    await room.leave()


@pytest.mark.parametrize("moment", ["connecting", "waiting"])
@timeless
async def test_it_can_be_left_at_any_moment(moment: str):
    world = World(lambda wire: None)
    client: Any = world.client()
    room = client.room("/a")
    await settle()
    if moment == "waiting":
        world.wire.shut(1006)
        await settle()
    assert room.line == moment
    await client.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize(
    ("base", "place"),
    [("http://here/app", "ws://here/app/of/7/1.5/a%2Fb"), ("wss://here", "wss://here/of/7/1.5/a%2Fb")],
)
def test_what_stands_in_an_address(base: str, place: str):
    assert (
        _place(base, "/of/{tenant:int}/{height}/{name}", {"tenant": 7, "height": 1.5, "name": "a/b"}) == place
    )


def test_however_often_it_failed_there_is_a_time_to_wait():
    assert [Times(first=0.5, most=30).ceiling(failures) for failures in (0, 1, 10_000)] == [0.5, 1, 30]
