"""The commands that speak over an application's broker, and ask its store."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

import pytest
from fastapi import HTTPException
from prometheus_client import CollectorRegistry

from fastapi_channels import Channel, action, every
from fastapi_channels.__main__ import main
from fastapi_channels.channels.base import words_of
from fastapi_channels.commands.listen import _show
from fastapi_channels.commands.top import HEADS
from fastapi_channels.stores import create_store
from fastapi_channels.wire.messages import Publication
from tests.channels.test_publisher import Auction, Kept, listening, two_processes
from tests.support.live import application, serving, unique
from tests.support.programs import Running, program
from tests.support.servers import NatsServer, RedisServer, free_port

AUCTION = f"{Auction.__module__}:{Auction.__name__}"
KEPT = f"{Kept.__module__}:{Kept.__name__}"
ANYTHING = "tests.topics.test_spaces:Anything"


class Done(NamedTuple):
    status: int
    out: str
    err: str


def command(*words: str, **how: Any) -> AbstractAsyncContextManager[Running]:
    return program(*(sys.executable, "-m", "fastapi_channels", *words), env={"PYTHONUNBUFFERED": "1"}, **how)


async def inside(capsys: pytest.CaptureFixture[str], *words: str) -> Done:
    """What a command does in this process: to start one takes longer."""
    status = await asyncio.to_thread(main, words)
    out, err = capsys.readouterr()
    return Done(status, out, err)


async def line(stream: asyncio.StreamReader) -> str:
    async with asyncio.timeout(30):
        return (await stream.readline()).decode().rstrip("\n")


async def test_publish_sends_to_a_room(shared_redis: RedisServer, capsys: pytest.CaptureFixture[str]):
    namespace = unique()
    where = ("--namespace", namespace, "--url", shared_redis.url)
    async with (
        two_processes(shared_redis.url, namespace) as (here, there),
        here.connect("/rooms/a") as client,
        there.connect("/auctions/7") as bidder,
    ):
        assert await inside(capsys, "publish", "a", "said", '{"text": "hi"}', *where) == (0, "", "")
        assert await client.receive() == {
            "type": "event",
            "event": "said",
            "channel": "a",
            "data": {"text": "hi"},
        }
        bid = ("publish", "auction:7", "bid", "--channel", AUCTION, *where)
        assert await inside(capsys, *bid, '{"amount": 5}') == (0, "", "")
        assert (await bidder.receive())["data"] == {"amount": 5}
        refused = await inside(capsys, *bid, '{"amount": "much"}')
        assert (refused.status, refused.out) == (2, "")
        assert refused.err.startswith(
            "fastapi-channels: the data does not fit the event: amount: Input should"
        )
        assert "pydantic" not in refused.err
        assert refused.err.count("\n") == 1


async def test_ban_refuses_for_a_time_and_lists(
    shared_redis: RedisServer, capsys: pytest.CaptureFixture[str]
):
    namespace = unique()
    where = ("--namespace", namespace, "--url", shared_redis.url)
    hall = application(Channel(), url=shared_redis.url, namespace=namespace, bans=True)
    async with serving(hall) as site, site.connect("/a") as client:
        assert await inside(capsys, "ban", *where) == (0, "", "")
        banned = ("ban", "127.0.0.1", "--address", *where)
        assert await inside(capsys, *banned, "--seconds", "60", "--reason", "too\nmuch") == (0, "", "")
        assert (await client.closed()).code == 4503
        assert (await site.refusal("/a")).status == 403
        listed = await inside(capsys, "ban", *where)
        name, until, reason, by = listed.out.rstrip("\n").split("\t")
        assert (name, by) == ("address 127.0.0.1", "the command line")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}\+00:00", until)
        assert "\n" not in reason
        assert await inside(capsys, *banned, "--end") == (0, "", "")
        async with site.connect("/a"):
            pass
    for words in (("--end",), ("--address",)):
        assert "say WHO" in (await inside(capsys, "ban", *words, *where)).err
    wrong = await inside(capsys, "ban", "example.com", "--address", *where)
    assert (wrong.status, wrong.out) == (2, "")
    assert "an address of IPv4 or IPv6" in wrong.err
    network = await inside(capsys, "ban", "10.0.0.0/8", "--address", *where)
    assert (network.status, network.out) == (2, "")
    assert "say '10.0.0.0'" in network.err


async def test_a_ban_that_nobody_asks_for_is_an_error(
    shared_redis: RedisServer, capsys: pytest.CaptureFixture[str]
):
    namespace = unique()
    where = ("--namespace", namespace, "--url", shared_redis.url)
    async with two_processes(shared_redis.url, namespace) as (_, there):
        refused = await inside(capsys, "ban", "ada", *where)
        assert (refused.status, refused.out) == (2, "")
        assert "add_channel(bans=True)" in refused.err
        assert await inside(capsys, "ban", *where) == (0, "", ""), "nothing was written"
        answers, health = there.node.questions.answers, there.node.questions.answers["health"]
        answers["health"] = lambda: {**health(), "bans": True}
        some = await inside(capsys, "ban", "ada", *where)
        assert some == (0, "", "processes that refuse who is banned: 1 of 2\n")
    alone = await inside(capsys, "ban", "ada", "--wait", "0", *where)
    assert alone == (0, "", "processes that refuse who is banned: 0 of 0\n")


async def test_listen_prints_what_is_sent_until_it_is_interrupted(
    shared_redis: RedisServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    namespace = unique()
    monkeypatch.setenv("CHANNELS_URL", shared_redis.url)
    async with command("listen", "a", "--namespace", namespace) as listener:
        assert await line(listener.stderr) == "listening"
        for text in ("one", "two"):
            words = ("publish", "a", "said", f'"{text}"', "--namespace", namespace)
            assert (await inside(capsys, *words)).status == 0
            assert json.loads(await line(listener.stdout))["data"] == text
        listener.process.send_signal(signal.SIGINT)
        assert await listener.wait() == 0
        assert await listener.stderr.read() == b""


async def test_listen_prints_nothing_of_what_processes_tell_each_other(capsys: pytest.CaptureFixture[str]):
    for kind in ("presence", ""):
        _show(Publication("a", f"of the kind {kind!r}", kind=kind), "a", Channel.envelope, asyncio.Event())
    assert capsys.readouterr().out == "of the kind ''\n"


async def test_listen_prints_of_a_room_with_history_what_its_clients_get(
    shared_redis: RedisServer,
    shared_nats: NatsServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    """Also where the broker brings it and another server keeps it."""
    where = ("--channel", KEPT, "--namespace", unique())
    for broker, store in ((shared_redis.url, shared_redis.url), (shared_nats.url, shared_redis.url)):
        words = (*where, "--url", broker, "--store-url", store)
        async with command("listen", "kept:1", *words) as listener:
            assert await line(listener.stderr) == "listening"
            assert (await inside(capsys, "publish", "kept:1", "said", '"hi"', *words)).status == 0
            frame = json.loads(await line(listener.stdout))
            assert (frame["data"], frame["channel"]) == ("hi", "kept:1")
            assert re.fullmatch("[0-9a-f]+:[12]", frame["position"])


async def test_listen_prints_what_has_no_place_for_a_position_as_it_is(capsys: pytest.CaptureFixture[str]):
    for body in ("[1]", b"\xff"):
        _show(Publication("a", body, position="e:1"), "a", Channel.envelope, asyncio.Event())
    assert capsys.readouterr().out == "[1]\nb'\\xff'\n"


async def test_listen_prints_the_topics_that_fit(
    shared_redis: RedisServer, capsys: pytest.CaptureFixture[str]
):
    where = ("--channel", ANYTHING, "--namespace", unique(), "--url", shared_redis.url)
    async with command("listen", "price/+", *where) as listener:
        assert await line(listener.stderr) == "listening"
        for topic in ("price/a", "news", "price/a/b", "price/b"):
            assert await inside(capsys, "publish", topic, "said", "1", *where) == (0, "", "")
        heard = [json.loads(await line(listener.stdout))["channel"] for _ in range(2)]
        assert heard == ["price/a", "price/b"]
        refused = await inside(capsys, "publish", "price/+", "said", "1", *where)
        assert (refused.status, refused.out) == (2, "")
        assert "A topic has no wildcards in its name" in refused.err


async def test_publish_finds_the_history_in_another_store(
    shared_redis: RedisServer,
    shared_nats: NatsServer,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    namespace, words = (
        unique(),
        ("publish", "kept:1", "said", "1", "--channel", KEPT, "--url", shared_nats.url),
    )
    without = await inside(capsys, *words, "--namespace", namespace)
    assert without.status == 2
    assert "history needs a store that all processes share" in without.err
    monkeypatch.setenv("CHANNELS_STORE_URL", shared_redis.url)
    assert await inside(capsys, *words, "--namespace", namespace) == (0, "", "")
    store = create_store(shared_redis.url, namespace=namespace)
    assert store is not None
    topic = namespace + words_of(Kept).key("kept:1")
    assert (await store.tops({topic: None}))[topic].offset == 1
    await store.close()


async def test_listen_ends_when_nobody_reads_any_more(
    shared_redis: RedisServer, capsys: pytest.CaptureFixture[str]
):
    namespace = unique()
    where = ("--namespace", namespace, "--url", shared_redis.url)
    read, write = os.pipe()
    async with command("listen", "a", *where, stdout=write) as listener:
        os.close(write)
        assert await line(listener.stderr) == "listening"
        os.close(read)
        assert (await inside(capsys, "publish", "a", "said", "1", *where)).status == 0
        assert await listener.wait() == 0
        assert await listener.stderr.read() == b""


async def test_the_doctor_says_which_processes_heard_it(
    shared_redis: RedisServer, capsys: pytest.CaptureFixture[str]
):
    namespace = unique()
    words = ("doctor", "--url", shared_redis.url, "--namespace", namespace)
    async with two_processes(shared_redis.url, namespace) as (here, there), here.connect("/rooms/a"):
        done = await inside(capsys, *words)
        answers, health = there.node.questions.answers, there.node.questions.answers["health"]
        answers["health"] = lambda: {**health(), "version": "0.0.9"}
        mixed = await inside(capsys, *words)
    assert "versions: " not in done.out
    assert "versions: the processes run 0.0.9, " in mixed.out
    assert (done.status, done.err) == (0, "")
    for number, site in ((1, here), (0, there)):
        assert f"process {site.node.id} (host " in done.out
        assert f"pid {os.getpid()}): ready, {number} connections in {number} rooms" in done.out
    assert "broker: a message came back in" in done.out
    assert "store: answered in" in done.out
    assert "processes: 2 heard it within 1 s" in done.out
    alone = await inside(capsys, *words, "--wait", "0")
    assert alone.status == 1
    assert "processes: 0 heard it" in alone.out
    assert "say its own URL and --namespace" in alone.out


async def printed(capsys: pytest.CaptureFixture[str], *words: str, until: str) -> str:
    """What a command prints when it has that to say in the end: nobody says when all processes, and the
    store, have heard of everybody."""
    async with asyncio.timeout(30):
        while (done := await inside(capsys, *words)).err != f"{until}\n":
            pass
    assert done.status == 0
    return done.out


async def test_rooms_and_members_are_those_of_all_processes_and_kick_reaches_them(
    shared_redis: RedisServer, capsys: pytest.CaptureFixture[str]
):
    namespace = unique()
    where = ("--namespace", namespace, "--url", shared_redis.url)
    async with (
        two_processes(shared_redis.url, namespace) as (here, there),
        here.clients("/rooms/a?user=ada", "/rooms/b?user=b%1b%5B2Job") as (ada, bob),
        there.clients("/rooms/a?user=ada", "/auctions/1?user=eve") as (phone, eve),
    ):
        rooms = await printed(capsys, "rooms", "--wait", "0.1", *where, until="rooms: 3; processes: 2")
        assert rooms.splitlines()[0].split() == ["2", "a"]
        assert sorted(line.strip() for line in rooms.splitlines()[1:]) == [
            "1  auction:1  (of auctions)",
            "1  b",
        ]
        found = await printed(capsys, "rooms", "uct", "--wait", "0.1", *where, until="rooms: 1; processes: 2")
        assert found.split() == ["1", "auction:1", "(of", "auctions)"]
        members = await printed(capsys, "members", "a", *where, until="members: 2")
        told = [line.split("  ") for line in members.splitlines()]
        assert {one[0] for one in told} == {(await each.call("me"))["data"] for each in (ada, phone)}
        assert {user for _, _, user in told} == {"ada"}
        (since,) = {len(since) for _, since, _ in told}
        assert since == len("2026-01-01T00:00:00+00:00")
        bidding = ("members", "auction:1", "--channel", AUCTION, *where)
        assert (await printed(capsys, *bidding, until="members: 1")).rstrip().endswith("  eve")
        number = (await bob.call("me"))["data"]
        assert (await printed(capsys, "members", "b", *where, until="members: 1")).split("  ")[2] == (
            '"b\\u001b[2Job"\n'
        ), "no control sequence reaches the terminal"
        kicked = await inside(capsys, "kick", "ada", "--code", "4503", "--reason", "no", *where)
        assert kicked == (0, "", "closed: 2; processes: 2\n")
        for client in (ada, phone):
            assert await client.closed() == (4503, "no")
        nobody = (1, "", "closed: 0; processes: 2\n")
        assert await inside(capsys, "kick", number, "--user", *where) == nobody
        assert await inside(capsys, "kick", f"{here.node.id}.999999", *where) == nobody
        assert await inside(capsys, "kick", number, *where) == (0, "", "closed: 1; processes: 2\n")
        assert (await bob.closed()).code == 1000
        assert (await eve.call("nothing"))["code"] == "unknown_action", "she is still there"
    assert await asyncio.to_thread(main, ["rooms", "--wait", "0", *where]) == 1
    assert capsys.readouterr().err == "rooms: 0; processes: 0\n"


class Failing(Channel):
    @action()
    async def fail(self) -> None:
        raise HTTPException(402)


async def test_top_shows_the_processes_and_rates_where_there_are_metrics(
    shared_redis: RedisServer, capsys: pytest.CaptureFixture[str]
):
    namespace = unique()
    where = ("--namespace", namespace, "--url", shared_redis.url)
    counting = application(Failing(), url=shared_redis.url, namespace=namespace, metrics=CollectorRegistry())
    plain = application(Channel(), url=shared_redis.url, namespace=namespace)
    async with serving(counting) as one, serving(plain) as other, one.connect("/a") as client:
        for site in (one, other):
            await listening(site.node)
        looking = asyncio.create_task(
            asyncio.to_thread(main, ["top", "--every", "0.5", "--times", "2", *where])
        )
        while not looking.done():
            await client.call("fail")
            await asyncio.sleep(0.02)
        assert await looking == 0
    first, second = (block.splitlines() for block in capsys.readouterr().out.split("process ")[1:])
    assert first[0].split() == [*HEADS[1:]]
    rows = {row.split()[0]: row.split()[3:] for row in second[1:]}
    assert rows[other.node.id] == ["ready", "0", "0", "-", "-", "-", "-"]
    state, connections, rooms, *rates = rows[one.node.id]
    assert (state, connections, rooms) == ("ready", "1", "1")
    assert min(map(float, rates)) > 0


@every(seconds=0.1)
async def often() -> None: ...


@every(seconds=86_400)
async def daily() -> None: ...


async def test_jobs_are_those_of_the_application(
    shared_redis: RedisServer, capsys: pytest.CaptureFixture[str]
):
    where = ("--namespace", unique(), "--url", shared_redis.url)
    async with serving(application(Channel(), url=where[3], namespace=where[1], jobs=[often, daily])) as site:
        await listening(site.node)
        async with asyncio.timeout(30):
            words = ("jobs", "--wait", "0.1", *where)
            while "(ok, " not in (out := await printed(capsys, *words, until="jobs: 2; processes: 1")):
                pass
    today, now = out.splitlines()
    assert re.fullmatch(r"daily: due \S+T\S+, not run yet", today)
    assert re.fullmatch(r"often: due \S+, last \S+ \(ok, 0\.\d+ s\)", now)


@pytest.mark.parametrize("wait", ["-3", "nan", "inf", "soon"])
def test_the_doctor_waits_for_a_time_that_ends(wait: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as caught:
        main(["doctor", "--url", "redis://x", "--wait", wait])
    assert caught.value.code == 2
    assert "argument --wait: " in capsys.readouterr().err


async def test_the_doctor_says_that_there_is_no_store(
    shared_redis: RedisServer, shared_nats: NatsServer, capsys: pytest.CaptureFixture[str]
):
    away = f"redis://127.0.0.1:{free_port()}"
    done = await inside(capsys, "doctor", "--url", shared_redis.url, "--store-url", away)
    assert done.status == 2
    assert "fastapi-channels: Redis did not answer within" in done.err
    words = ("doctor", "--wait", "0", "--url", shared_nats.url, "--namespace", unique())
    without = await inside(capsys, *words)
    assert (without.status, without.err) == (1, "")
    assert "store: none" in without.out


async def test_a_broker_that_is_not_there_is_an_error(capsys: pytest.CaptureFixture[str]):
    url = f"redis://ada:s3cret@127.0.0.1:{free_port()}"
    each = (
        ("publish", "a", "said", "1"),
        ("listen", "a"),
        ("doctor",),
        ("rooms",),
        ("kick", "ada"),
        ("top",),
    )
    # At once, as each waits for its deadline.
    done = [asyncio.to_thread(main, [*words, "--url", url]) for words in each]
    assert await asyncio.gather(*done) == [2] * len(each)
    printed = capsys.readouterr()
    told = printed.err.splitlines()
    assert len(told) == len(each)
    # A machine that is busy may not have learnt why within the deadline.
    reasons = ("the broker is down: ", "an earlier change of the subscription of ")
    assert all(one.startswith(tuple(f"fastapi-channels: {reason}" for reason in reasons)) for one in told)
    assert "s3cret" not in printed.err + printed.out


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("publish", "a", "said", "1"), "say where the broker is: --url, or CHANNELS_URL"),
        (("publish", "a", "said", "hello", "--url", "redis://x"), "the data is no JSON (a text is in quotes"),
        (("publish", "a", "said", "1", "--url", "memory://"), "memory:// never leaves its process"),
        (("doctor", "--url", "memory://"), "memory:// never leaves its process"),
        (("listen", "", "--url", "redis://x"), "A room name must have"),
        (("listen", "x", "--url", "redis://x", "--channel", AUCTION), "no room of Auction is named 'x'"),
        (("listen", "x", "--url", "redis://x", "--channel", "json:loads"), "'json:loads' is no channel"),
        (
            ("listen", "x", "--url", "redis://x", "--channel", "nowhere:X"),
            "there is no module 'nowhere' here",
        ),
    ],
)
def test_what_cannot_work_is_said(
    words: tuple[str, ...],
    problem: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.delenv("CHANNELS_URL", raising=False)
    assert main(words) == 2
    assert problem in capsys.readouterr().err
