"""Who is banned is gone from every process, and does not come back before the ban has ended."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, cast

import pytest
from fastapi import FastAPI, Query
from starlette.requests import HTTPConnection

from fastapi_channels import Channel, ConfigurationError, Publisher, Socket, action, add_channel
from fastapi_channels.auth import Authenticator, Identity
from fastapi_channels.cluster.bans import Bans, Barred, Book, new_ban
from fastapi_channels.cluster.orders import Order
from fastapi_channels.stores import MemoryStore, StoreUnavailable
from fastapi_channels.testing.broker import FaultyBroker
from fastapi_channels.testing.store import FaultyStore
from fastapi_channels.wire.writer import Writer
from tests.support.live import Client, Site, serving, unique, wait_until


class Room(Channel):
    @action()
    async def quick(self) -> str:
        return "quick"

    @action()
    async def wait(self) -> None:
        await asyncio.Event().wait()


def identify(token: str, connection: HTTPConnection) -> Identity:
    return Identity(token)


class Vault(Room):
    authenticator = Authenticator(identify, first_frame=10)


def named(user: Annotated[str | None, Query()] = None) -> str | None:
    return user


@dataclass
class Cluster:
    """Two processes, whose clients say from where they come, as if a proxy did."""

    bus: FaultyBroker = field(default_factory=FaultyBroker)
    store: FaultyStore = field(default_factory=FaultyStore)
    sites: list[Site] = field(default_factory=list)

    @property
    def publisher(self) -> Publisher:
        return Publisher._of(self.sites[0].node)


@asynccontextmanager
async def cluster() -> AsyncIterator[Cluster]:
    found = Cluster()
    async with AsyncExitStack() as stack:
        for _ in range(2):
            app = FastAPI()
            add_channel(
                app,
                backend=found.bus.backend(),
                store=found.store.view().as_store,
                bans=True,
                trusted_proxies=["127.0.0.1"],
                publish_timeout=1.0,
            )
            Room().mount(app, "/rooms/{channel}", user=named, http=True, sse=True)
            Vault().mount(app, "/vault/{channel}")
            Socket(Room()).mount(app, "/socket", user=named)
            found.sites.append(await stack.enter_async_context(serving(app, may_complain=True)))
        yield found


def come_from(address: str) -> dict[str, dict[str, str]]:
    return {"additional_headers": {"X-Forwarded-For": address}}


async def is_in(client: Client) -> bool:
    return (await client.call("quick"))["data"] == "quick"


async def test_a_user_is_gone_from_every_process_until_the_ban_ends():
    async with cluster() as they:
        one, two = they.sites
        async with (
            one.connect("/rooms/tea?user=ada") as here,
            two.connect("/socket?user=ada") as there,
            two.connect("/rooms/tea?user=bob") as other,
            two.connect("/rooms/tea") as nobody,
        ):
            await they.publisher.ban(user="ada", seconds=60, reason="spam", by="grace")
            for client in (here, there):
                assert await client.closed() == (4503, "banned")
            assert await is_in(other)
            assert await is_in(nobody)
        for path in ("/rooms/tea?user=ada", "/socket?user=ada"):
            refusal = await two.refusal(path)
            assert (refusal.status, refusal.body["code"]) == (403, "banned")
        async with two.client() as http:
            called = await http.post("/rooms/tea/actions/quick?user=ada")
            assert (called.status_code, called.json()["code"]) == (403, "banned")
            assert (await http.get("/rooms/tea/events?user=ada")).status_code == 403
        async with one.connect("/vault/tea") as late:
            await late.send({"type": "auth", "token": "ada"})
            told = await late.receive_until(lambda frame: "code" in frame)
            assert told["code"] == "banned"
            assert (await late.closed()).code == 4503
        (ban,) = await they.publisher.bans()
        assert (ban.user, ban.address, ban.reason, ban.by) == ("ada", None, "spam", "grace")
        assert 50 < ban.until - time.time() <= 60
        await they.publisher.unban(user="ada")
        assert await they.publisher.bans() == []
        async with two.connect("/rooms/tea?user=ada") as again:
            assert await is_in(again)
        await wait_until(lambda: not any(len(site.node.bans) for site in they.sites))


async def test_a_call_by_http_that_a_ban_cuts_off_is_no_success():
    async with cluster() as they:
        one, two = they.sites
        async with two.client() as http:
            calling = asyncio.create_task(http.post("/rooms/tea/actions/wait?user=ada"))
            await wait_until(lambda: len(two.node.bans))
            await they.publisher.ban(user="ada")
            answer = await calling
        assert (answer.status_code, answer.json()["code"]) == (403, "banned")
        assert len(one.node.bans) == len(two.node.bans) == 0


async def test_a_ban_ends_by_itself():
    async with cluster() as they:
        await they.publisher.ban(user="ada", seconds=1)
        assert (await they.sites[1].refusal("/rooms/tea?user=ada")).status == 403
        async with asyncio.timeout(30):
            while True:
                try:
                    async with they.sites[1].connect("/rooms/tea?user=ada") as again:
                        assert await is_in(again)
                    break
                except Exception as exc:
                    assert "HTTP 403" in str(exc)  # noqa: PT017  # which is until the second is over
        assert await they.publisher.bans() == []


async def test_an_address_is_an_address_of_ipv4_and_a_network_of_ipv6():
    async with cluster() as they:
        one, two = they.sites
        async with (
            two.connect("/rooms/tea", **come_from("2001:db8::7")) as six,
            one.connect("/rooms/tea", **come_from("203.0.113.7")) as four,
            one.connect("/rooms/tea", **come_from("203.0.113.8")) as other,
        ):
            await they.publisher.ban(address="2001:db8::1")
            assert (await six.closed()).code == 4503
            await they.publisher.ban(address="203.0.113.7")
            assert (await four.closed()).code == 4503
            assert await is_in(other)
        assert (await one.refusal("/rooms/tea", **come_from("2001:db8::99"))).status == 403
        assert [ban.address for ban in await they.publisher.bans()] == ["203.0.113.7", "2001:db8::/64"]
        await they.publisher.unban(address="2001:db8::/64")
        async with one.connect("/rooms/tea", **come_from("2001:db8::99")) as again:
            assert await is_in(again)


async def test_a_process_that_was_cut_off_heals_when_it_is_back():
    async with cluster() as they:
        one, two = they.sites
        async with one.connect("/rooms/tea?user=ada") as here, two.connect("/rooms/tea?user=ada") as there:
            they.bus.crash()
            await wait_until(lambda: one.node.broker.away and two.node.broker.away)
            await they.publisher.ban(user="ada")
            assert (await here.closed()).code == 4503, "at once, where it was asked for"
            assert await is_in(there), "nobody could tell it"
            assert (await two.refusal("/rooms/tea?user=ada")).status == 403, "the store knows"
            they.bus.restart()
            assert (await there.closed()).code == 4503


class Slow(MemoryStore):
    """Its answers are under way while others write."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.answers = asyncio.Event(), asyncio.Event()

    async def get(self, key: str) -> str | None:
        found = await super().get(key)
        self.asked.set()
        await self.answers.wait()
        return found


class Line:
    closed: tuple[int, str] | None = None

    def start_close(self, code: int, reason: str) -> None:
        self.closed = (code, reason)


async def nobody_else(order: Order) -> None: ...


async def test_a_second_outage_while_it_heals_is_healed_too():
    store, line = Slow(), Line()
    bans, writer = Bans(store, "", nobody_else), cast(Writer, line)
    store.answers.set()
    assert not await bans.enter(writer, Barred("ada", "127.0.0.1"))
    store.answers.clear()
    store.asked.clear()
    bans.heal()
    await store.asked.wait()  # and has been told that nobody is banned
    await Book(store, "").write(new_ban("ada", None, 60))
    bans.heal()
    store.answers.set()
    await wait_until(lambda: line.closed == (4503, "banned"))
    await bans.stop()


async def test_who_comes_while_the_ban_is_begun_is_not_missed():
    store, line = Slow(), Line()
    bans = Bans(store, "", nobody_else)
    writer = cast(Writer, line)
    coming = asyncio.create_task(bans.enter(writer, Barred("ada", "127.0.0.1")))
    await store.asked.wait()
    await bans.ban(new_ban("ada", None, 60))
    store.answers.set()
    assert not await coming, "so it was, when the store was asked"
    assert line.closed == (4503, "banned")


async def test_nobody_gets_in_while_the_store_does_not_say():
    async with cluster() as they:
        they.store.down = True
        refusal = await they.sites[0].refusal("/rooms/tea?user=bob")
        assert (refusal.status, refusal.body["code"]) == (503, "unavailable")
        with pytest.raises(StoreUnavailable):
            await they.publisher.ban(user="bob")


@pytest.mark.parametrize("server", ["shared_redis", "shared_postgres"])
async def test_from_outside(request: pytest.FixtureRequest, server: str):
    url = request.getfixturevalue(server).url
    namespace, app = unique(), FastAPI()
    add_channel(app, url=url, namespace=namespace, bans=True)
    Room().mount(app, "/rooms/{channel}", user=named)
    async with (
        serving(app) as site,
        Publisher(url, namespace=namespace) as publisher,
        site.connect("/rooms/tea?user=ada") as ada,
    ):
        await publisher.ban(user="ada", seconds=30)
        assert (await ada.closed()).code == 4503
        assert (await site.refusal("/rooms/tea?user=ada")).status == 403
        assert [ban.user for ban in await publisher.bans()] == ["ada"]
        await publisher.unban(user="ada")
        async with site.connect("/rooms/tea?user=ada") as again:
            assert await is_in(again)


async def test_in_one_process_nothing_is_asked_where_nobody_asked_for_it():
    app = FastAPI()
    add_channel(app)
    Room().mount(app, "/rooms/{channel}", user=named)
    async with serving(app) as site, site.connect("/rooms/tea?user=ada") as ada:
        with pytest.raises(ConfigurationError, match=r"add_channel\(bans=True\)"):
            await Publisher._of(site.node).ban(user="ada")
        assert await is_in(ada)
        assert len(site.node.bans) == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((None, None), "give one of user= and address="),
        (("ada", "127.0.0.1"), "give one of user= and address="),
        ((None, "example.com"), "takes an address of IPv4 or IPv6, got 'example.com'"),
        ((None, "10.0.0.0/8"), "of one address of IPv4, .* '10.0.0.0/8', say '10.0.0.0'"),
        ((None, "2001:db8::/32"), "a network of 64 bits of IPv6: .* '2001:db8::/32', say '2001:db8::/64'"),
        ((None, "2001:db8::1/128"), "a network of 64 bits"),
        ((None, "127.0.0.1/"), "takes an address"),
        (("a" * 1025, None), "has 1 to 1024 characters .*, got 1025"),
        (("\ud800", None), "that UTF-8 can hold"),
        (("", None), "got 0"),
        (("ada", None, -1.0), "0 to 315360000 seconds, got -1.0"),
        (("ada", None, float("nan")), "got nan"),
    ],
)
def test_what_is_no_ban(given: tuple[str | None, str | None], said: str):
    with pytest.raises(ConfigurationError, match=said):
        new_ban(*given)


@pytest.mark.parametrize(
    ("given", "stands_for"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1/32", "127.0.0.1"),
        ("2001:DB8::/64", "2001:db8::/64"),
        ("2001:db8::7/64", "2001:db8::/64"),
    ],
)
def test_a_network_is_the_one_that_a_ban_is_of(given: str, stands_for: str):
    assert new_ban(None, given).address == stands_for


def test_there_has_to_be_a_store():
    with pytest.raises(ConfigurationError, match=r"add_channel\(bans=True\) needs a store"):
        add_channel(FastAPI(), url="nats://127.0.0.1:1", bans=True)
