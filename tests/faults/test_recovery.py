"""Nothing that was accepted is lost, whatever ends: over real servers and real processes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack

import pytest
from websockets.exceptions import InvalidStatus

from tests.support.live import Client, Site, wait_until
from tests.support.proxy import Proxy
from tests.support.servers import PostgresServer, RedisServer

from .recovering import Reader, Speaker, running, served

READERS = 100
"""In each of two processes."""
Server = RedisServer | PostgresServer


@pytest.fixture(params=["lasting_redis", "mortal_postgres"])
def server(request: pytest.FixtureRequest) -> Server:
    """Broker and store, which has written down what it has confirmed."""
    server: Server = request.getfixturevalue(request.param)
    return server


async def caught_up(readers: Sequence[Reader], accepted: set[int], within: float = 60) -> None:
    await wait_until(lambda: all(accepted <= set(reader.numbers) for reader in readers), within=within)


def assert_all_once_and_in_one_order(readers: Sequence[Reader], accepted: set[int]) -> None:
    for reader in readers:
        assert accepted <= set(reader.numbers)
        assert len(reader.numbers) == len(set(reader.numbers)), "something came twice"
    longest = max((reader.numbers for reader in readers), key=len)
    places = {number: place for place, number in enumerate(longest)}
    for reader in readers:
        found = [places[number] for number in reader.numbers]
        assert found == sorted(found), "they have seen different orders"


async def restart_after(server: Server, seconds: float) -> None:
    await asyncio.to_thread(server.kill)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(server.restart)


async def let_in(site: Site, path: str, stack: AsyncExitStack) -> Client:
    """A client that tries until it is accepted."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await stack.enter_async_context(site.connect(path))
            except InvalidStatus:
                await asyncio.sleep(0.2)


async def test_the_server_is_killed_during_broadcasts_and_had_written_all_down(server: Server):
    async with served(server.url) as one, served(server.url) as two:
        readers = [Reader(site) for site in (one.site, two.site) for _ in range(READERS)]
        speakers = [Speaker(one.site), Speaker(two.site, 1_000_000)]
        paths = ["/forgotten/room"] * 10
        async with running(*readers), one.site.clients(*paths) as here, two.site.clients(*paths) as there:
            await wait_until(lambda: all(reader.connected.is_set() for reader in readers))
            async with running(*speakers):
                await wait_until(lambda: all(len(speaker.accepted) > 100 for speaker in speakers), within=60)
                await restart_after(server, 3)
                before = [len(speaker.accepted) for speaker in speakers]
                await wait_until(
                    lambda: all(
                        len(speaker.accepted) > count + 100
                        for speaker, count in zip(speakers, before, strict=True)
                    ),
                    within=60,
                )
            accepted = {number for speaker in speakers for number in speaker.accepted}
            await caught_up(readers, accepted)
            for other in (*here, *there):
                assert (await other.receive())["type"] == "resync", "it has no history"
    assert sum(reader.dropped for reader in readers) == 0, "the clients of a broker that ends stay"
    assert not any(reader.resyncs for reader in readers), "nothing was missing, and nobody is told so"
    assert_all_once_and_in_one_order(readers, accepted)


async def test_redis_is_killed_and_had_written_nothing_down(mortal_redis: RedisServer):
    async with served(mortal_redis.url) as one, served(mortal_redis.url) as two:
        readers = [Reader(site) for site in (one.site, two.site) for _ in range(20)]
        speaker = Speaker(one.site)
        async with running(*readers):
            await wait_until(lambda: all(reader.connected.is_set() for reader in readers))
            async with running(speaker):
                await wait_until(lambda: len(speaker.accepted) > 50, within=60)
                await restart_after(mortal_redis, 3)
                # Each is told that it must reload, and has everything from then on.
                await wait_until(lambda: all(reader.resyncs for reader in readers), within=60)
                before = len(speaker.accepted)
                await wait_until(lambda: len(speaker.accepted) > before + 50, within=60)
                after = set(speaker.accepted[before + 1 :])
            await caught_up(readers, after)
        assert sum(reader.dropped for reader in readers) == 0
        late = Reader(two.site)
        late.position = "0123abcd:7"
        async with running(late):
            await wait_until(lambda: late.joins)
        assert (late.joins[0]["recovered"], late.joins[0]["reason"]) == (False, "epoch")


async def test_a_process_is_killed_and_its_clients_go_to_another(server: Server):
    async with served(server.url) as one, served(server.url) as two:
        readers = [Reader(two.site, one.site) for _ in range(50)]
        speaker = Speaker(one.site)
        async with running(*readers):
            await wait_until(lambda: all(reader.connected.is_set() for reader in readers))
            async with running(speaker):
                await wait_until(lambda: len(speaker.accepted) > 50, within=60)
                await two.kill()
                await wait_until(lambda: all(len(reader.joins) > 1 for reader in readers), within=60)
                before = len(speaker.accepted)
                await wait_until(lambda: len(speaker.accepted) > before + 50, within=60)
            await caught_up(readers, set(speaker.accepted))
    assert all(reader.joins[-1]["recovered"] for reader in readers)
    assert_all_once_and_in_one_order(readers, set(speaker.accepted))


async def test_one_of_two_processes_is_cut_off_for_some_seconds(server: Server):
    async with Proxy(server.port) as proxy:
        through = server.url.replace(str(server.port), str(proxy.port))
        async with served(server.url) as one, served(through) as two:
            readers = [Reader(site) for site in (one.site, two.site) for _ in range(20)]
            speaker = Speaker(one.site)
            async with running(*readers):
                await wait_until(lambda: all(reader.connected.is_set() for reader in readers))
                async with running(speaker):
                    await wait_until(lambda: len(speaker.accepted) > 50, within=60)
                    proxy.freeze()
                    await asyncio.sleep(8)
                    proxy.thaw()
                    before = len(speaker.accepted)
                    await wait_until(lambda: len(speaker.accepted) > before + 50, within=60)
                await caught_up(readers, set(speaker.accepted))
    assert not any(reader.resyncs for reader in readers)
    assert_all_once_and_in_one_order(readers, set(speaker.accepted))


async def test_a_process_is_paused_and_nobody_listens_in_on_a_room_for_two(mortal_redis: RedisServer):
    async with (
        served(mortal_redis.url) as one,
        served(mortal_redis.url) as two,
        one.site.connect("/pair/room") as ada,
        two.site.connect("/pair/room") as bob,
        AsyncExitStack() as stack,
    ):
        two.signal(signal.SIGSTOP)
        try:
            assert (await one.site.refusal("/pair/room")).status == 503
            # The place is bob's for as long as the lease of his process lasts.
            eve = await let_in(one.site, "/pair/room", stack)
            await ada.send({"action": "say", "text": "for two"})
            for client in (ada, eve):
                assert (await client.receive())["data"] == "for two"
        finally:
            two.signal(signal.SIGCONT)
        frames = await bob.rest()
        assert bob.socket.close_code == 1013
        assert not any("for two" in str(frame) for frame in frames)
