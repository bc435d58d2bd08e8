"""One script for the clients of all languages, against a real server: one that lives, and one that dies."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, TypeAlias

import pytest

from fastapi_channels import Channel, Connection
from tests.support.live import Site, application, process, serving
from tests.support.proxy import Proxy
from tests.support.servers import RedisServer, free_port

from .driven import Driven, in_node, in_python

Language: TypeAlias = Callable[[str], AbstractAsyncContextManager[Driven]]
EACH: Final = pytest.mark.parametrize("language", [in_node, in_python])


@EACH
async def test_all_that_passes_between_the_two(language: Language):
    async with (
        process("tests.client.served:create_app", "--factory") as server,
        language(server.site.http) as client,
    ):
        client.do("room", id="a", address="/rooms/{channel}", parameters={"channel": "lobby"})
        assert (await client.call("a", "say", text="hello"))["reply"] == 5
        assert await client.until(lambda told: "said" in told) == {"id": "a", "said": {"text": "hello"}}
        assert (await client.call("a", "nothing"))["reply"] is None
        assert (await client.call("a", "sure", question="really?"))["reply"] == 7
        assert (await client.call("a", "refused"))["error"] == "permission_denied"
        streamed = await client.asked("stream", id="a", action="count", payload={"upto": 3})
        assert streamed["items"] == [0, 1, 2]
        left = await client.asked("stream", id="a", action="forever", payload={}, most=2)
        assert left["items"] == [1, 1]
        while (await client.call("a", "is_running"))["reply"]:
            pass
        client.do("open", id="a", action="make", payload={}, window=8)
        for taken in range(0, 100, 10):
            # What it may be ahead of who takes slowly, it is; and never more.
            while (made := (await client.call("a", "how_many"))["reply"]) <= taken:
                pass
            assert made <= taken + 8
            ten = await client.asked("take", id="a", count=10)
            assert ten["items"] == list(range(taken + 1, taken + 11))
        client.do("room", id="b", address="/rooms/{channel}", parameters={"channel": "closed"})
        assert await client.until(lambda told: told.get("id") == "b" and "state" in told) == {
            "id": "b",
            "state": "refused",
            "code": "permission_denied",
        }
        client.do("socket", id="s", address="/desk")
        client.do("room", id="c", socket="s", name="lobby")
        assert (await client.call("c", "say", text="to both"))["reply"] == 7
        # Each on a connection of its own, so one may be told before the other.
        for id in ("c", "a"):
            await client.until(lambda told, id=id: told == {"id": id, "said": {"text": "to both"}})
        assert client.of("a", "said") == [{"text": "hello"}, {"text": "to both"}]
        for id in ("e", "f"):
            client.do("room", id=id, address="/shown/{channel}", parameters={"channel": "lobby"})
        for id in ("e", "f"):
            await client.until(lambda told, id=id: told == {"id": id, "present": 2})
        client.do("leave", id="f")
        await client.until(lambda told: told == {"id": "e", "present": 1}, after=len(client.told))
        client.do("room", id="d", socket="s", name="closed")
        refused = await client.until(lambda told: told.get("id") == "d" and "state" in told)
        assert refused["code"] == "permission_denied"
        # Whatever a payload has, the action is the one that was called.
        assert (await client.call("a", "say", text="third", action="cut", request_id="mine"))["reply"] == 5
        read = await client.asked("history", id="a", limit=2)
        assert read["pages"] == [["third", "to both"], ["hello"]]
        assert (await client.call("a", "cut"))["error"] == "ConnectionLost"
        assert (await client.call("a", "say", text="back"))["reply"] == 4
        assert (await client.call("a", "order", article="tea"))["error"] == "ConnectionLost"
        assert (await client.call("a", "order", article="tea", retry=True))["reply"] == 2


@pytest.mark.fault
@EACH
async def test_a_process_that_is_killed_and_one_that_is_restarted(
    mortal_redis: RedisServer, language: Language
):
    """All in the room hear everything once and in order, on one socket or two."""
    address = ["--factory", "--port", str(free_port())]
    how = {"environment": {"CHANNELS_URL": mortal_redis.url}}
    said = []
    async with language(f"http://127.0.0.1:{address[-1]}") as client:
        for ending in ("kill", "terminate"):
            async with process("tests.client.served:create_app", *address, **how) as server:
                if not said:
                    client.do("room", id="a", address="/rooms/{channel}", parameters={"channel": "lobby"})
                    client.do("socket", id="s", address="/desk")
                    client.do("room", id="b", socket="s", name="lobby")
                    # Who was never there misses what is said before.
                    await client.until(lambda told: told == {"id": "b", "state": "joined"})
                for number in range(3):
                    said.append({"text": f"{ending} {number}"})
                    assert (await client.call("a", "say", **said[-1]))["reply"] == len(said[-1]["text"])
                await getattr(server, ending)()
        async with process("tests.client.served:create_app", *address, **how):
            assert (await client.call("a", "say", text="end"))["reply"] == 3
            said.append({"text": "end"})
            for id in ("a", "b"):
                await client.until(lambda told, id=id: told == {"id": id, "said": {"text": "end"}})
                assert client.of(id, "said") == said
                assert client.of(id, "gap") == []


class Lagging(Channel):
    """Drops what a slow client does not take, and keeps the connection."""

    slow_policy = "drop_oldest"
    outbox_limit = 300_000
    history = 2000
    history_size = 256 * 1024 * 1024
    recovery_limit = 2000


class Forgetful(Lagging):
    history = 3


class Talk:
    """What is said in the room `lobby` of a channel: numbers, with much between them that fills buffers."""

    def __init__(self, channel: Channel, site: Site) -> None:
        self.said: list[int] = []
        self._channel = channel
        self._site = site

    @property
    def members(self) -> list[Connection]:
        hub = self._site.node.hub
        return [each for room in hub.rooms for each in hub.members(room)]

    async def say(self) -> int:
        await self._channel.broadcast("lobby", "filler", FILLER)
        self.said.append(len(self.said))
        await self._channel.broadcast("lobby", "said", self.said[-1])
        return self.said[-1]

    async def overflow(self) -> None:
        """Go on until the only member cannot be written to, and more is dropped than is kept for it."""
        (member,) = self.members
        while member.direct is not None:
            await self.say()
        for _ in range(3 * Lagging.outbox_limit // len(FILLER)):
            await self.say()


FILLER: Final = 50_000 * "x"


@EACH
@pytest.mark.parametrize("kind", [Lagging, Forgetful])
async def test_a_client_that_does_not_read_for_a_while_has_all_once_and_in_order_or_is_told_of_a_gap(
    language: Language, kind: type[Channel]
):
    channel = kind()
    async with (
        serving(application(channel)) as site,
        Proxy(site.port) as proxy,
        language(f"http://127.0.0.1:{proxy.port}") as client,
    ):
        talk = Talk(channel, site)
        client.do("room", id="a", address="/{channel}", parameters={"channel": "lobby"})
        await client.until(lambda told: told == {"id": "a", "state": "joined"})
        first = await talk.say()
        await client.until(lambda told: told == {"id": "a", "said": first})
        (member,) = talk.members
        proxy.freeze()
        await talk.overflow()
        proxy.thaw()
        if kind is Forgetful:
            await client.until(lambda told: "gap" in told)
        last = await talk.say()
        await client.until(lambda told: told == {"id": "a", "said": last})
        assert talk.members == [member], "its connection was kept"
        heard = client.of("a", "said")
        if kind is Lagging:
            assert (heard, client.of("a", "gap")) == (talk.said, [])
        else:
            assert heard == sorted(set(heard))
            assert len(heard) < len(talk.said)
            assert client.of("a", "gap") == ["limit"]
