"""How a store asks its server, without one."""

from __future__ import annotations

import asyncio
import logging
from contextlib import nullcontext
from types import SimpleNamespace
from typing import NoReturn

import asyncpg
import pytest

from fastapi_channels.brokers.backend import NotSent
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.stores import StoreUnavailable
from fastapi_channels.stores.deadline import Deadline
from fastapi_channels.stores.postgres import _refusal


def _unsent(cause: Exception) -> NotSent:
    try:
        raise NotSent("there is no connection") from cause
    except NotSent as exc:
        return exc


async def test_what_will_not_change_is_told_at_once():
    async def ask() -> NoReturn:
        raise _unsent(asyncpg.InvalidPasswordError('password authentication failed for user "ann"'))

    async with asyncio.timeout(60):
        with pytest.raises(StoreUnavailable, match=r"^PostgreSQL refuses it: .* failed for user"):
            await Deadline("PostgreSQL", 3600, (asyncpg.PostgresError,), _refusal).answer(ask)


@pytest.mark.parametrize(
    ("cause", "is_final"),
    [
        (asyncpg.InvalidCatalogNameError('database "x" does not exist'), True),
        (ConfigurationError("the schema was made by a newer one"), True),
        (asyncpg.CannotConnectNowError("the database system is starting up"), False),
        (OSError("nobody is there"), False),
    ],
)
def test_what_postgresql_says_for_good(cause: Exception, is_final: bool):
    assert (_refusal(_unsent(cause)) is cause) is is_final
    assert (_refusal(cause) is cause) is is_final


async def test_an_outage_is_told_once_and_then_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    async def ask() -> str:
        if is_there:
            return "here"
        raise NotSent("there is no connection")

    monkeypatch.setattr("fastapi_channels.wire.log.QUIET", 0.0)
    deadline = Deadline("Redis", 0.01, (), lambda exc: None)
    told = r"^Redis did not answer within 0\.01 s: there is no connection$"
    for is_there in (False, False, False, True, False):
        with nullcontext() if is_there else pytest.raises(StoreUnavailable, match=told):
            assert await deadline.answer(ask) == "here"
    first = "the store does not answer: Redis did not answer within 0.01 s: there is no connection"
    lines = [first, "the store answers again", f"{first} (and 2 more before, that were not told of)"]
    assert [(each.levelno, each.getMessage().partition(" after ")[0]) for each in caplog.records] == [
        (logging.WARNING, line) for line in lines
    ]


async def test_what_is_told_has_an_end_that_is_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """However short it was. Of an outage that nothing is told of, the end is not told either; one that goes
    on is told as soon as the log may be told again."""

    async def ask() -> None:
        if not is_there:
            raise ConnectionError("gone")

    clock = [1000.0]
    for module in ("fastapi_channels.wire.log", "fastapi_channels.stores.deadline"):
        monkeypatch.setattr(f"{module}.time", SimpleNamespace(monotonic=lambda: clock[0]))
    deadline = Deadline("Redis", 1.0, (), lambda exc: None)
    for clock[0], is_there in (
        *((1000.0, False), (1000.5, True)),
        *((1001.0, False), (1001.5, True)),
        *((1020.0, False), (1031.0, False), (1032.0, False), (1033.0, True), (1034.0, True)),
    ):
        with nullcontext() if is_there else pytest.raises(StoreUnavailable):
            await deadline.answer(ask)
    first = "the store does not answer: Redis did not do it: ConnectionError: gone"
    assert [record.getMessage() for record in caplog.records] == [
        first,
        "the store answers again after 0.5 s",
        f"{first} (and 2 more before, that were not told of)",
        "the store answers again after 13.0 s",
    ]
