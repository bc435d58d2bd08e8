"""Who is signed out is gone from every process, also from one that was cut off."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from math import inf, nan
from typing import Annotated, Any

import pytest
from fastapi import Depends
from starlette.requests import HTTPConnection

from fastapi_channels import Channel, ConfigurationError, Publisher, action
from fastapi_channels.auth import Authenticator, Identity
from fastapi_channels.stores import StoreUnavailable
from fastapi_channels.testing.broker import FaultyBroker
from fastapi_channels.testing.store import FaultyStore, StoreView
from tests.support.live import Client, Site, application, serving, wait_until


def identify(token: str, connection: HTTPConnection) -> Identity:
    """A token that is `user session`, and when it was issued."""
    user, session, issued = token.split("|")
    return Identity(user, session=session or None, issued_at=float(issued) if issued else None)


class Room(Channel):
    authenticator = Authenticator(identify, revocable=True)
    finish_timeout = 0.1

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()

    @action()
    async def quick(self) -> str:
        return "quick"

    @action()
    async def work(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


async def me(identity: Annotated[Identity, Depends(Room.authenticator)]) -> str:
    return str(identity.user)


def bearer(user: str, session: str = "", issued: str = "1") -> dict[str, Any]:
    return {"additional_headers": {"Authorization": f"Bearer {user}|{session}|{issued}"}}


@dataclass
class Cluster:
    """Two processes."""

    bus: FaultyBroker = field(default_factory=FaultyBroker)
    store: FaultyStore = field(default_factory=FaultyStore)
    sites: list[Site] = field(default_factory=list)
    rooms: list[Room] = field(default_factory=list)
    views: list[StoreView] = field(default_factory=list)

    def publisher(self, number: int = 0) -> Publisher:
        return Publisher._of(self.sites[number].node)


@asynccontextmanager
async def cluster() -> AsyncIterator[Cluster]:
    found = Cluster()
    async with AsyncExitStack() as stack:
        for _ in range(2):
            room, view = Room(), found.store.view()
            app = application(room, backend=found.bus.backend(), store=view.as_store, publish_timeout=1.0)
            room.mount(app, "/calls/{channel}", http=True)
            app.get("/me")(me)
            found.sites.append(await stack.enter_async_context(serving(app, may_complain=True)))
            found.rooms.append(room)
            found.views.append(view)
        yield found


async def is_in(client: Client) -> bool:
    return (await client.call("quick"))["data"] == "quick"


async def test_a_user_is_gone_from_every_process_and_does_not_come_back():
    async with cluster() as they:
        one, two = they.sites
        async with (
            one.connect("/tea", **bearer("ada")) as here,
            two.connect("/tea", **bearer("ada")) as there,
            two.connect("/tea", **bearer("bob")) as other,
        ):
            assert await is_in(there)
            began = time.monotonic()
            await they.publisher().revoke_user("ada")
            for client in (here, there):
                assert await client.closed() == (4501, "revoked")
            assert time.monotonic() - began < 20.0
            assert await is_in(other)
        async with two.client() as http:
            for user, status in (("ada", 401), ("bob", 200)):
                answer = await http.get("/me", headers=bearer(user)["additional_headers"])
                assert answer.status_code == status, "a route goes by it too"
        refusal = await two.refusal("/tea", **bearer("ada"))
        assert (refusal.status, refusal.body["code"]) == (401, "unauthenticated")
        assert (await two.refusal("/tea", **bearer("ada", issued=""))).status == 401
        async with two.connect("/tea", **bearer("ada", issued=str(time.time() + 1))) as again:
            assert await is_in(again), "who has signed in again since"
        await wait_until(lambda: not any(len(site.node.revocations) for site in they.sites))


async def test_one_log_in_of_several():
    async with cluster() as they:
        _, two = they.sites
        async with (
            two.connect("/tea", **bearer("ada", "phone")) as phone,
            two.connect("/tea", **bearer("ada", "laptop")) as laptop,
        ):
            await they.publisher().revoke_session("phone")
            assert (await phone.closed()).code == 4501
            assert await is_in(laptop)
        assert (await they.sites[0].refusal("/tea", **bearer("ada", "phone"))).status == 401


async def refresh(client: Client, token: str) -> str:
    await client.send({"type": "refresh", "token": token})
    return (await client.receive())["code"]


async def test_who_brings_what_is_refused_is_whom_it_was():
    async with cluster() as they:
        one, publisher = they.sites[0], they.publisher()
        for session in ("phone", "laptop"):
            async with one.connect("/tea", **bearer("ada", session)) as ada:
                await publisher.revoke_session("stolen")
                assert await refresh(ada, "ada|stolen|1") == "unauthenticated"
                if session == "laptop":
                    they.views[0].down = True
                    assert await refresh(ada, "ada|other|1") == "unavailable"
                    they.views[0].down = False
                await publisher.revoke_session(session)
                assert (await ada.closed()).code == 4501


async def test_while_the_store_is_asked_a_client_is_whom_it_was_and_whom_it_may_be():
    async with cluster() as they:
        one = they.sites[0]
        async with one.connect("/tea", **bearer("ada", "phone")) as ada:
            assert await is_in(ada)
            they.store.calls.clear()
            they.store.fates = ["swap", "swap"]  # until something is written
            await ada.send({"type": "refresh", "token": "ada|other|1"})
            await wait_until(lambda: they.store.calls.count("get") == 2)
            await they.publisher().revoke_session("phone")
            assert (await ada.closed()).code == 4501


async def test_a_call_that_is_cut_says_why():
    async with cluster() as they, they.sites[0].client() as http:
        headers = {**bearer("ada")["additional_headers"], "Idempotency-Key": '"k-1"'}
        asking = asyncio.create_task(http.post("/calls/tea/actions/work", headers=headers))
        await they.rooms[0].begun.wait()
        await they.publisher().revoke_user("ada")
        answer = await asking
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        told = answer.json()
        assert (told["code"], told["action"], told["request_id"]) == ("unauthenticated", "work", "k-1")


async def test_what_runs_is_cancelled():
    async with cluster() as they, they.sites[1].connect("/tea", **bearer("ada")) as ada:
        await ada.send({"action": "work"})
        await they.rooms[1].begun.wait()
        await they.publisher().revoke_user("ada")
        assert (await ada.closed()).code == 4501
        async with asyncio.timeout(30):
            await they.rooms[1].cancelled.wait()


async def test_a_process_that_was_cut_off_heals_when_it_is_back():
    async with cluster() as they:
        one, two = they.sites
        async with (
            one.connect("/tea", **bearer("ada")) as here,
            two.connect("/tea", **bearer("ada")) as there,
        ):
            assert await is_in(here)
            assert await is_in(there)
            they.bus.crash()
            await wait_until(lambda: one.node.broker.away and two.node.broker.away)
            await they.publisher().revoke_user("ada")
            assert (await here.closed()).code == 4501, "at once, where it was asked for"
            assert await is_in(there), "nobody could tell it"
            they.bus.restart()
            assert (await there.closed()).code == 4501


async def test_a_store_that_does_not_answer_lets_nobody_in_and_is_asked_again():
    async with cluster() as they:
        one, two = they.sites
        async with two.connect("/tea", **bearer("ada")) as ada:
            assert await is_in(ada)
            they.views[0].down = True
            assert (await one.refusal("/tea", **bearer("bob"))).status == 503
            async with one.client() as http:
                answer = await http.get("/me", headers=bearer("bob")["additional_headers"])
                assert answer.status_code == 503
            with pytest.raises(StoreUnavailable):
                await they.publisher().revoke_user("ada")
            assert (await ada.closed()).code == 4501, "what is open is closed all the same"
        they.views[0].down = False
        async with one.connect("/tea", **bearer("bob")) as bob:
            assert await is_in(bob)


async def test_what_no_order_can_name_is_an_error():
    async with cluster() as they:
        publisher = they.publisher()
        for revoking in (
            publisher.revoke_user("a" * 1025),
            publisher.revoke_session(""),
            *(publisher.revoke_user("ada", seconds=seconds) for seconds in (0, -1, 1e12, inf, nan)),
            publisher.revoke_session("tab", seconds=inf),
        ):
            with pytest.raises(ConfigurationError, match=r"should have at|is remembered for"):
                await revoking
        assert "put" not in they.store.calls


def test_without_a_store_it_does_not_start():
    with pytest.raises(ConfigurationError, match="store"):
        application(Room(), backend=FaultyBroker().backend())


async def test_from_outside(shared_redis: Any):
    app = application(Room(), url=shared_redis.url, namespace="revoking.")
    async with (
        serving(app, may_complain=True) as site,
        Publisher(shared_redis.url, namespace="revoking.") as publisher,
        site.connect("/tea", **bearer("ada")) as ada,
    ):
        assert await is_in(ada)
        await publisher.revoke_user("ada")
        assert (await ada.closed()).code == 4501
        assert (await site.refusal("/tea", **bearer("ada"))).status == 401
