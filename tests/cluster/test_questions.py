"""What one process asks all of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI

from fastapi_channels import BrokerUnavailable, add_channel
from fastapi_channels.cluster.node import Node
from fastapi_channels.cluster.questions import MAX_ANSWER, NEWCOMERS, WITHIN
from fastapi_channels.testing.asgi import living
from fastapi_channels.testing.broker import FaultyBroker
from fastapi_channels.testing.clock import now, timeless
from fastapi_channels.wire.messages import Publication
from fastapi_channels.wire.rooms import node_topic
from tests.support.wire import node_of


@asynccontextmanager
async def nodes(bus: FaultyBroker, count: int = 3) -> AsyncIterator[list[Node]]:
    """Processes that answer `name` with their numbers."""
    async with AsyncExitStack() as stack:
        found: list[Node] = []
        for number in range(count):
            app = FastAPI()
            add_channel(app, backend=bus.backend())
            await stack.enter_async_context(living(app))
            node = node_of(app)
            node.questions.answers["name"] = lambda number=number: number
            found.append(node)
        yield found


async def names(node: Node) -> list[Any]:
    return sorted((await node.questions.ask("name")).values())


@timeless
async def test_all_answer_whoever_asks():
    async with nodes(FaultyBroker()) as three:
        for _ in range(2):
            for node in three:
                found = await node.questions.ask("name")
                assert next(iter(found)) == node.id
                assert sorted(found.values()) == [0, 1, 2]


@timeless
async def test_a_question_may_be_about_something():
    async with nodes(FaultyBroker()) as three:
        for node in three:
            node.questions.answers["greet"] = lambda whom="nobody": f"hello {whom}"
        assert set((await three[0].questions.ask("greet", "ada")).values()) == {"hello ada"}
        assert set((await three[0].questions.ask("greet")).values()) == {"hello nobody"}


@timeless
async def test_who_asks_several_things_at_once_gets_the_answers_of_each():
    async with nodes(FaultyBroker()) as three:
        one = three[0].questions
        three[2].questions.answers["other"] = one.answers["other"] = lambda: "x"
        found = await asyncio.gather(one.ask("name"), one.ask("other"), one.ask("name"))
        assert [len(answers) for answers in found] == [3, 2, 3]


@timeless
async def test_who_is_silent_is_waited_for_once():
    async with nodes(FaultyBroker()) as three:
        one, two, _ = three
        assert await names(one) == [0, 1, 2]
        two.broker._backend.mute = True  # type: ignore[attr-defined]  # a FaultyBackend
        for waited in (WITHIN, NEWCOMERS):
            began = now()
            assert await names(one) == [0, 2]
            assert waited <= now() - began < waited + 0.1
        two.broker._backend.mute = False  # type: ignore[attr-defined]
        assert await names(one) == [0, 1, 2]


@timeless
async def test_who_answers_late_is_waited_for_the_next_time():
    async with nodes(FaultyBroker()) as three:
        one, two, _ = three
        two.broker._backend.delay = NEWCOMERS + 0.1  # type: ignore[attr-defined]
        assert await names(one) == [0, 2]
        await asyncio.sleep(1)
        assert await names(one) == [0, 1, 2]


@timeless
async def test_one_process_alone_asks_nobody():
    app = FastAPI()
    add_channel(app)
    async with living(app):
        began = now()
        assert len(await node_of(app).questions.ask("health")) == 1
        assert now() == began


@timeless
async def test_without_a_broker_nobody_can_be_asked():
    bus = FaultyBroker()
    async with nodes(bus, 1) as (node,):
        bus.crash()
        with pytest.raises(BrokerUnavailable):
            await node.questions.ask("name")


@timeless
async def test_what_is_no_answer_is_ignored(caplog: pytest.LogCaptureFixture):
    async with nodes(FaultyBroker(), 2) as (one, two):
        two.questions.answers["large"] = lambda: MAX_ANSWER * "x"
        one.questions.answers["large"] = lambda: ""
        bodies = ["", "[]", "no JSON", '{"node": 1}', '{"node": "x"}', MAX_ANSWER * " "]
        with caplog.at_level(logging.WARNING):
            for body in bodies:
                await two.broker.publish(Publication(node_topic(one.id), body, kind="report"))
            forged = f'{{"node": "{one.id}", "number": 1, "answer": 7}}'
            await two.broker.publish(Publication(node_topic(one.id), forged, kind="report"))
            assert await names(one) == [0, 1]
            assert len(await one.questions.ask("large")) == 1
        said = [record.getMessage() for record in caplog.records]
        assert len([line for line in said if "is no answer" in line]) == len(bodies)
        assert "an answer about 'large' is too large, and is not given" in said
