"""The changes of subscriptions, against a model, with every interleaving that hypothesis thinks of."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_channels.brokers.subscriptions import Subscriptions
from fastapi_channels.exceptions import BrokerUnavailable
from tests.support.brokers import other_tasks
from tests.support.live import wait_until


class Server:
    """Holds subscriptions; each call stays open until the test answers it."""

    def __init__(self, timeout: float = 30) -> None:
        self.held: set[str] = set()
        self.calls: list[Call] = []
        self.subscriptions = Subscriptions(self.join, self.leave, timeout)

    async def join(self, topic: str, deadline: float) -> None:
        await self._call(Call("join", topic))
        self.held.add(topic)

    async def leave(self, topic: str) -> None:
        await self._call(Call("leave", topic))
        self.held.discard(topic)

    async def _call(self, call: Call) -> None:
        assert call.topic not in [other.topic for other in self.calls], "two changes of a topic at once"
        self.calls.append(call)
        try:
            await call.answer
        finally:
            self.calls.remove(call)

    def answer(self, index: int = 0, *, refuse: bool = False) -> None:
        call = self.calls[index % len(self.calls)]
        if call.answer.done():
            return
        if refuse and call.kind == "join":
            call.answer.set_exception(BrokerUnavailable("refused"))
        else:
            call.answer.set_result(None)

    async def answer_all(self) -> None:
        for _ in range(1000):
            for index in range(len(self.calls)):
                self.answer(index)
            await asyncio.sleep(0)


class Call:
    def __init__(self, kind: str, topic: str) -> None:
        self.kind = kind
        self.topic = topic
        self.answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()


async def asked(server: Server, *calls: str) -> None:
    """Wait until these calls, and no others, are open."""
    await wait_until(lambda: [f"{call.kind} {call.topic}" for call in server.calls] == list(calls))


async def test_callers_share_one_join():
    server = Server()
    callers = [asyncio.create_task(server.subscriptions.add("room")) for _ in range(50)]
    await asked(server, "join room")
    assert server.subscriptions.topics == {"room"}
    assert server.subscriptions.settled() == set()
    server.answer()
    await asyncio.gather(*callers)
    await server.subscriptions.add("room")
    assert server.calls == []
    assert server.subscriptions.settled() == {"room"}


async def test_a_failure_reaches_all_and_is_taken_back():
    server = Server()
    callers = [asyncio.create_task(server.subscriptions.add("room")) for _ in range(3)]
    await asked(server, "join room")
    server.answer(refuse=True)
    for caller in callers:
        with pytest.raises(BrokerUnavailable, match="refused"):
            await caller
    assert server.subscriptions.topics == set()
    await asked(server, "leave room")
    await server.answer_all()
    assert other_tasks() == set()


async def test_the_last_caller_that_gives_up_takes_it_back():
    server = Server()
    first, second = (asyncio.create_task(server.subscriptions.add("room")) for _ in range(2))
    await asked(server, "join room")
    first.cancel()
    await asyncio.wait((first,))
    assert server.subscriptions.topics == {"room"}
    second.cancel()
    await asyncio.wait((second,))
    assert server.subscriptions.topics == set()
    server.answer()
    await asked(server, "leave room")
    await server.answer_all()
    assert server.held == set()
    assert other_tasks() == set()


async def test_a_caller_that_gives_up_does_not_undo_a_later_one():
    server = Server()
    first = asyncio.create_task(server.subscriptions.add("room"))
    await asked(server, "join room")
    leaving = asyncio.create_task(server.subscriptions.discard("room"))
    await asyncio.sleep(0)
    second = asyncio.create_task(server.subscriptions.add("room"))
    await asyncio.sleep(0)
    first.cancel()
    await server.answer_all()
    await asyncio.gather(leaving, second)
    assert server.held == {"room"}


async def test_callers_do_not_wait_for_a_change_that_hangs():
    server = Server(timeout=0.01)
    server.subscriptions.topics.add("room")
    await server.subscriptions.discard("room")
    await asked(server, "leave room")
    with pytest.raises(BrokerUnavailable, match="an earlier change"):
        await server.subscriptions.add("room")
    await asked(server, "leave room")
    assert server.subscriptions.topics == set()
    await server.answer_all()
    assert server.held == set()
    assert other_tasks() == set()


async def test_clear():
    server = Server()
    confirmed = asyncio.create_task(server.subscriptions.add("confirmed"))
    await server.answer_all()
    await confirmed
    adding = asyncio.create_task(server.subscriptions.add("room"))
    discarding = asyncio.create_task(server.subscriptions.discard("confirmed"))
    await asked(server, "join room", "leave confirmed")
    await asyncio.wait(server.subscriptions.clear())
    with pytest.raises(BrokerUnavailable, match="stopped"):
        await adding
    await discarding
    assert server.subscriptions.topics == set()
    assert other_tasks() == set()


@dataclass(frozen=True)
class Step:
    what: str
    topic: str = ""
    number: int = 0


TOPICS = ("a", "b")
STEPS = st.one_of(
    st.builds(Step, st.sampled_from(["add", "discard"]), st.sampled_from(TOPICS)),
    st.builds(Step, st.sampled_from(["cancel", "answer", "refuse"]), number=st.integers(0, 9)),
    st.just(Step("turn")),
)


@given(st.lists(STEPS, max_size=40), st.sets(st.sampled_from(TOPICS)))
def test_the_last_word_counts_whatever_happened(steps: Sequence[Step], wanted: set[str]):
    async def run() -> None:
        server = Server()
        callers: list[asyncio.Task[None]] = []
        for step in steps:
            if step.what == "add":
                callers.append(asyncio.create_task(server.subscriptions.add(step.topic)))
            elif step.what == "discard":
                callers.append(asyncio.create_task(server.subscriptions.discard(step.topic)))
            elif step.what == "cancel" and callers:
                callers[step.number % len(callers)].cancel()
            elif step.what in ("answer", "refuse") and server.calls:
                server.answer(step.number, refuse=step.what == "refuse")
            elif step.what == "turn":
                await asyncio.sleep(0)
        last_words = [
            asyncio.create_task(
                server.subscriptions.add(topic) if topic in wanted else server.subscriptions.discard(topic)
            )
            for topic in TOPICS
        ]
        await server.answer_all()
        await asyncio.gather(*last_words)
        for outcome in await asyncio.gather(*callers, return_exceptions=True):
            assert outcome is None or isinstance(outcome, BrokerUnavailable | asyncio.CancelledError)
        assert server.subscriptions.topics == server.held == server.subscriptions.settled() == wanted
        assert other_tasks() == set()

    asyncio.run(run())
