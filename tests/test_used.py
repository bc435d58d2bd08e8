"""The ready-made channels: a room for two people, and one for a group."""

import asyncio
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket

from fastapi_channels import Connection, GroupChannel, PersonChannel, action, add_channel
from tests.support.live import Client, Site, application, each_implementation, serving, wait_until


class Pair(PersonChannel):
    @action()
    async def say(self, text: str, connection: Connection) -> None:
        await self.broadcast_to_channel(connection.room, text)

    @action()
    async def who(self, connection: Connection) -> Any:
        return await self.members(connection.room)


class Announcing(Pair):
    announce = True


def with_users(room: PersonChannel) -> FastAPI:
    """Clients say who they are in the query."""
    app = FastAPI()
    add_channel(app)

    @app.websocket("/{channel}")
    async def enter(websocket: WebSocket, channel: str, user: str | None = None) -> None:
        await room.connect(websocket, channel, user=user)

    return app


async def users(client: Client) -> list[str]:
    return sorted(str(member["user"]) for member in (await client.call("who"))["data"])


async def refused(site: Site, path: str) -> None:
    refusal = await site.refusal(path)
    assert (refusal.status, refusal.body["code"]) == (503, "channel_full")
    assert "2" in refusal.body["errors"]


async def test_two_people_talk_and_a_third_is_refused():
    async with (
        serving(application(Pair())) as site,
        site.unharmed(),
        site.clients("/r", "/r") as (one, other),
    ):
        await refused(site, "/r")
        await one.send({"action": "say", "text": "hello"})
        assert [await one.read(), await other.read()] == ["hello", "hello"]
        async with site.connect("/another"):
            pass
        await other.close()
        await wait_until(lambda: site.node.hub.count("r") == 1)
        async with site.connect("/r"):
            await refused(site, "/r")


async def test_a_person_is_a_user_on_any_number_of_devices():
    async with (
        serving(with_users(Pair())) as site,
        site.unharmed(),
        site.clients("/r?user=ann", "/r?user=bob") as (phone, bob),
    ):
        async with site.connect("/r?user=ann") as laptop:
            await refused(site, "/r?user=eve")
            await refused(site, "/r")
            await bob.send({"action": "say", "text": "hello"})
            assert [await client.read() for client in (phone, laptop, bob)] == ["hello"] * 3
            assert await users(bob) == ["ann", "ann", "bob"]
            await phone.close()
            await wait_until(lambda: site.node.hub.count("r") == 2)
            await refused(site, "/r?user=eve")
        await wait_until(lambda: site.node.hub.count("r") == 1)
        async with site.connect("/r?user=eve") as eve:
            assert await users(eve) == ["bob", "eve"]


async def test_a_connection_that_is_not_known_to_be_dead_locks_nobody_out():
    async with serving(with_users(Pair())) as site, site.clients("/r?user=ann", "/r?user=bob") as (_, bob):
        for _ in range(3):
            async with site.connect("/r?user=ann") as again:
                assert await users(again) == ["ann", "ann", "bob"]
            await wait_until(lambda: site.node.hub.count("r") == 2)
        assert await users(bob) == ["ann", "bob"]


async def test_who_comes_and_goes_is_announced_where_that_is_wanted():
    async with serving(with_users(Announcing())) as site, site.unharmed(), site.connect("/r?user=ann") as ann:
        event = await ann.receive()
        assert (event["event"], event["channel"]) == ("joined", "r")
        assert event["data"]["member"]["user"] == "ann"
        assert [member["user"] for member in event["data"]["members"]] == ["ann"]
        async with site.connect("/r?user=bob") as bob:
            for client in (ann, bob):
                event = await client.receive()
                assert (event["event"], event["data"]["member"]["user"]) == ("joined", "bob")
                assert {member["user"] for member in event["data"]["members"]} == {"ann", "bob"}
                bobs_id = event["data"]["member"]["id"]
        event = await ann.receive()
        assert event["event"] == "left"
        assert event["data"]["member"] == {"id": bobs_id, "user": "bob"}
        assert [member["user"] for member in event["data"]["members"]] == ["ann"]


async def test_nothing_is_announced_unless_that_is_wanted():
    async with serving(with_users(Pair())) as site, site.connect("/r?user=ann") as ann:
        async with site.connect("/r?user=bob"):
            pass
        await ann.send({"action": "say", "text": "alone"})
        assert await ann.read() == "alone"


@pytest.mark.parametrize(("group", "limit"), [(GroupChannel(), 200), (GroupChannel(max_connection=3), 3)])
async def test_a_group_has_a_capacity(group: GroupChannel, limit: int):
    async with serving(application(group)) as site, site.unharmed():
        async with site.clients(*["/r"] * limit):
            refusal = await site.refusal("/r")
            assert (refusal.status, refusal.body["code"]) == (503, "channel_full")
            assert str(limit) in refusal.body["errors"]
        await wait_until(lambda: site.node.hub.count("r") == 0)
        async with site.connect("/r"):
            pass


@each_implementation
async def test_of_50_who_come_at_once_two_are_let_in(ws: str):
    async with serving(application(Pair()), ws=ws) as site, site.unharmed():
        done = asyncio.Event()

        async def arrive() -> bool:
            try:
                async with site.connect("/r"):
                    await done.wait()
            except Exception:
                return False
            return True

        arrivals = [asyncio.create_task(arrive()) for _ in range(50)]
        await wait_until(lambda: sum(task.done() for task in arrivals) == 48)
        assert site.node.hub.count("r") == 2
        done.set()
        assert sorted(await asyncio.gather(*arrivals)) == [False] * 48 + [True] * 2
