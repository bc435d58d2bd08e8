"""What one process asks all of them, and the answers that come back over the broker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from fastapi_channels.wire.messages import Body, decode_json, encode_json, size_of

from .orders import Probe

logger = logging.getLogger("fastapi_channels")

NEWCOMERS: Final = 0.2
"""Seconds that processes get to answer which have not answered before."""
WITHIN: Final = 1.0
"""Seconds that those get which have."""
MAX_ANSWER: Final = 1024 * 1024
"""Bytes of an answer."""


class Questions:
    """
    Args:
        node: the id of this process.
        order: gives an order to all processes.
        report: sends a body to the process of that id.
        alone: whether there is no other process.

    Attributes:
        answers: what this process answers to each question, as what JSON can hold; called with what it is
            about, where that is said. To a question that it does not know it says nothing.
    """

    def __init__(
        self,
        node: str,
        order: Callable[[Probe], Awaitable[None]],
        report: Callable[[str, Body], Awaitable[None]],
        *,
        alone: bool,
    ) -> None:
        self._node = node
        self._order = order
        self._report = report
        self._alone = alone
        self.answers: dict[str, Callable[..., Any]] = {}
        self._numbers = 0
        self._open: dict[int, dict[str, Any]] = {}
        self._known: set[str] = set()
        """The processes that have answered lately."""
        self._arrived = asyncio.Event()

    async def ask(self, question: str, about: str = "") -> dict[str, Any]:
        """The answers of all processes that give one in time, by their ids; that of this one is the first.

        Raises:
            BrokerUnavailable: nobody could be asked.
        """
        self._numbers += 1
        number = self._numbers
        found = {self._node: self._answer(question, about)}
        if self._alone:
            return found
        self._open[number] = found
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await self._order(Probe(asker=self._node, question=question, about=about, number=number))
            async with asyncio.timeout_at(began + WITHIN):
                while not self._known <= found.keys():
                    await self._next()
            async with asyncio.timeout_at(began + NEWCOMERS):
                while True:
                    await self._next()
        except TimeoutError:
            # Those that are silent are waited for no more; who answers late is, from the next time on.
            self._known &= found.keys()
        finally:
            del self._open[number]
        return found

    async def _next(self) -> None:
        """Wait for one more answer, to whatever was asked."""
        if self._arrived.is_set():
            self._arrived = asyncio.Event()
        await self._arrived.wait()

    async def answer(self, probe: Probe) -> None:
        """Answer a question of another process."""
        if probe.question not in self.answers or probe.asker == self._node:
            return
        answer = self._answer(probe.question, probe.about)
        body = encode_json({"node": self._node, "number": probe.number, "answer": answer})
        if size_of(body) > MAX_ANSWER:
            logger.warning("an answer about %r is too large, and is not given", probe.question)
            return
        await self._report(probe.asker, body)

    def _answer(self, question: str, about: str) -> Any:
        answer = self.answers[question]
        return answer(about) if about else answer()

    def receive(self, body: Body) -> None:
        """Take an answer as it came from the broker; anything else is ignored."""
        try:
            found: Any = decode_json(body) if size_of(body) <= MAX_ANSWER else None
            node, number, answer = found["node"], found["number"], found["answer"]
        except (ValueError, TypeError, KeyError):
            logger.warning("what came over the broker is no answer, and is ignored")
            return
        if not isinstance(node, str) or node == self._node:
            return
        self._known.add(node)
        if isinstance(number, int) and number in self._open:
            self._open[number][node] = answer
        self._arrived.set()
