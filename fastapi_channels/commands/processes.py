"""What a command asks the processes of an application."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import secrets
from typing import Any, Final, Self

from fastapi_channels.cluster.orders import Probe
from fastapi_channels.wire.messages import Publication, decode_json
from fastapi_channels.wire.rooms import node_topic

from .broker import outside_of

MOST: Final = 3600.0
"""Seconds that can be waited for."""
UNHEARD: Final = 1
"""The exit status where no process has answered."""


def add_wait(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--wait", type=_seconds, default=1.0, help="seconds for the processes to answer; 1")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds <= MOST:
        raise argparse.ArgumentTypeError(f"0 to {MOST:g} seconds, got {text}")
    return seconds


class Processes:
    """Asks all processes of the application over one connection to the broker.

    Raises:
        ConfigurationError: as `outside_of`.
    """

    def __init__(self, given: argparse.Namespace) -> None:
        self._me = secrets.token_hex(6)
        self._outside = outside_of(given, self._take)
        self._numbers = itertools.count(1)
        self._open: dict[int, dict[str, Any]] = {}

    async def __aenter__(self) -> Self:
        await self._outside.subscribe(node_topic(self._me))
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self._outside.close()

    async def ask(self, *questions: str, within: float, about: str = "") -> list[dict[str, Any]]:
        """To each question what the processes say that answer within so many seconds, by their ids.

        Raises:
            BrokerUnavailable: nobody could be asked.
        """
        asked = {next(self._numbers): question for question in questions}
        self._open = {number: {} for number in asked}
        for number, question in asked.items():
            probe = Probe(asker=self._me, question=question, about=about, number=number)
            await self._outside.sender.order(probe)
        await asyncio.sleep(within)
        return list(self._open.values())

    def _take(self, publication: Publication) -> None:
        report = decode_json(publication.body)
        if report.get("number") in self._open:
            self._open[report["number"]][report["node"]] = report["answer"]
