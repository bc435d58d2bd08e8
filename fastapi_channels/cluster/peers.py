"""The other processes of the application: who is alive, and asking all of them.

Every process that shares a broker publishes a heartbeat. A question goes to all of them over the
broker, and each answers for itself: nothing is stored, so nothing can be stale. Seats in a room of
limited size are claimed in the order of Lamport's clock, as Ricart and Agrawala (1981) do for a lock:
of two claims made at the same time each process prefers the same one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

from pydantic_core import from_json, to_json

from fastapi_channels.exceptions import BrokerUnavailable
from fastapi_channels.wire.messages import Publication
from fastapi_channels.wire.rooms import RESERVED

from .tasks import Tasks

logger = logging.getLogger("fastapi_channels")

EVERY_NODE: Final = RESERVED + "nodes"
HEARTBEAT: Final = 2.0
"""Seconds between two signs of life; after three without one a process is taken for dead."""
ASK_TIMEOUT: Final = 1.0
"""Seconds that a process has to answer; one that does not is left out."""
SETTLING: Final = 0.25
"""Seconds after the start in which other processes make themselves known."""

Publish: TypeAlias = Callable[[Publication], Awaitable[None]]
Answerer: TypeAlias = Callable[[dict[str, Any]], Any]


class Cluster:
    """This process among the others.

    Args:
        node: this process's id.
        namespace: begins every topic.
        publish: sends a publication through the broker.
        answers: for each kind of question, what this process says to it.
        suspect: called with a reason when the own heartbeat does not come back.
    """

    def __init__(
        self,
        node: str,
        namespace: str,
        publish: Publish,
        answers: Mapping[str, Answerer],
        suspect: Callable[[str], None],
    ) -> None:
        self.node = node
        self.topics = (namespace + EVERY_NODE, namespace + RESERVED + "node:" + node)
        self._node_topic = namespace + RESERVED + "node:"
        self._publish = publish
        self._answers = answers
        self._suspect = suspect
        self._clock = 0
        self._questions = 0
        self._own_sign = 0.0
        self.reset()

    def reset(self) -> None:
        """Know nobody, as before `start`, and run in whatever event loop comes next."""
        self._peers: dict[str, float] = {}
        self._pending: dict[int, _Question] = {}
        self._tasks = Tasks()
        self._started = asyncio.Event()
        self._settled = 0.0

    @property
    def peers(self) -> set[str]:
        """Ids of the other processes that are alive."""
        return set(self._peers)

    def tick(self) -> int:
        """The next value of the Lamport clock."""
        self._clock += 1
        return self._clock

    def start(self) -> None:
        """Begin to give signs of life; the topics must be subscribed."""
        now = asyncio.get_running_loop().time()
        self._settled, self._own_sign = now + SETTLING, now
        self._started.set()
        self._tasks.spawn(self._live())

    async def stop(self) -> None:
        """Say good-bye, so that nobody waits for an answer from here."""
        await self._tasks.stop()
        try:
            await self._send(self.topics[0], "bye")
        except ConnectionError:
            logger.debug("the broker is gone before the good-bye")

    def outage(self) -> None:
        """The broker was away: nobody could give a sign of life, so nobody is taken for dead."""
        now = asyncio.get_running_loop().time()
        self._own_sign = now
        self._peers = dict.fromkeys(self._peers, now)

    async def settle(self) -> None:
        """Wait until the processes that were here before have had the time to make themselves known.

        Raises:
            BrokerUnavailable: the broker has not been reached yet.
        """
        try:
            async with asyncio.timeout(ASK_TIMEOUT):
                await self._started.wait()
        except TimeoutError:
            raise BrokerUnavailable("the other processes have not been reached yet") from None
        await asyncio.sleep(self._settled - asyncio.get_running_loop().time())

    async def ask(self, kind: str, **question: Any) -> dict[str, Any]:
        """The answers of all other live processes to one question, by their id.

        Raises:
            BrokerUnavailable: the question could not be sent.
        """
        await self.settle()
        if not self._peers:
            return {}
        self._questions += 1
        number = self._questions
        pending = self._pending[number] = _Question(set(self._peers))
        try:
            await self._send(self.topics[0], "ask", kind=kind, number=number, **question)
            async with asyncio.timeout(ASK_TIMEOUT):
                await pending.done.wait()
        except TimeoutError:
            logger.warning("no answer to %r from %s", kind, ", ".join(sorted(pending.missing)))
        finally:
            self._pending.pop(number, None)
        return pending.answers

    def receive(self, publication: Publication) -> None:
        """Take a message of another process, or the own one that came back."""
        try:
            body = from_json(publication.body)
            kind, sender = body["type"], str(body["node"])
            self._clock = max(self._clock, int(body["clock"]))
        except (ValueError, KeyError, TypeError):
            logger.warning("a message on %r is not from this framework", publication.topic)
            return
        if sender == self.node:
            self._own_sign = asyncio.get_running_loop().time()
        elif kind == "bye":
            self._forget(sender)
        else:
            self._hear(sender, kind, body)

    def _hear(self, sender: str, kind: str, body: dict[str, Any]) -> None:
        known = sender in self._peers
        self._peers[sender] = asyncio.get_running_loop().time()
        if kind == "answer":
            pending = self._pending.get(body.get("number", 0))
            if pending is not None:
                pending.take(sender, body.get("answer"))
        elif kind == "ask" and body.get("kind") in self._answers:
            answer = self._answers[body["kind"]](body)
            self._say(self._node_topic + sender, "answer", number=body.get("number"), answer=answer)
        elif not known:
            # A newcomer: let it know of this process at once, not at the next heartbeat.
            self._say(self.topics[0], "here")

    def _forget(self, peer: str) -> None:
        self._peers.pop(peer, None)
        for pending in self._pending.values():
            pending.give_up(peer)

    async def _live(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self._send(self.topics[0], "here")
            except ConnectionError as exc:
                logger.debug("no sign of life: %s", exc)
                self.outage()
            await asyncio.sleep(HEARTBEAT)
            old = loop.time() - 3 * HEARTBEAT
            for peer in [peer for peer, heard in self._peers.items() if heard < old]:
                logger.warning("the process %s is gone", peer)
                self._forget(peer)
            if self._own_sign < old:
                self.outage()
                self._suspect("the own heartbeat does not come back")

    def _say(self, topic: str, type_: str, **fields: Any) -> None:
        async def say() -> None:
            try:
                await self._send(topic, type_, **fields)
            except ConnectionError as exc:
                logger.debug("not said: %s", exc)

        self._tasks.spawn(say())

    async def _send(self, topic: str, type_: str, **fields: Any) -> None:
        body = to_json({"type": type_, "node": self.node, "clock": self._clock, **fields}).decode()
        await self._publish(Publication(topic, body, kind="cluster"))


class _Question:
    """Who has still to answer, and what the others said."""

    def __init__(self, peers: set[str]) -> None:
        self.missing = peers
        self.answers: dict[str, Any] = {}
        self.done = asyncio.Event()

    def take(self, peer: str, answer: Any) -> None:
        self.answers[peer] = answer
        self.give_up(peer)

    def give_up(self, peer: str) -> None:
        self.missing.discard(peer)
        if not self.missing:
            self.done.set()
