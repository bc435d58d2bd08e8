"""What the log is told once, and what it is told seldom."""

from __future__ import annotations

import logging

import pytest

from fastapi_channels.wire import log
from fastapi_channels.wire.log import MAX_TOLD, QUIET, Once, Seldom


def test_what_is_told_once_fills_neither_the_memory_nor_the_log(caplog: pytest.LogCaptureFixture):
    once = Once("refused origins")
    assert sum(once.is_new(str(n)) for n in range(MAX_TOLD)) == MAX_TOLD
    assert not once.is_new("0")
    assert not caplog.records
    assert not any(once.is_new(str(n)) for n in range(10 * MAX_TOLD))
    [last] = caplog.records
    assert last.getMessage() == f"more than {MAX_TOLD} refused origins: no further ones are told of"


def test_what_comes_often_is_told_at_once_and_then_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    now = 1000.0
    monkeypatch.setattr(log.time, "monotonic", lambda: now)
    seldom = Seldom(logging.getLogger("fastapi_channels"))
    told: list[int] = []
    for step in range(1000):
        now = 1000.0 + step * QUIET / 400  # ends within the third time
        if seldom.warn(f"the {step}th"):
            told.append(step)
    assert told == [0, 400, 800]
    assert [record.getMessage() for record in caplog.records] == [
        "the 0th",
        "the 400th (and 399 more before, that were not told of)",
        "the 800th (and 399 more before, that were not told of)",
    ]


def test_what_comes_again_after_a_while_is_told_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    times = iter((0.0, 1.5 * QUIET))
    monkeypatch.setattr(log.time, "monotonic", lambda: next(times))
    seldom = Seldom(logging.getLogger("fastapi_channels"))
    seldom.warn("it failed")
    seldom.warn("it failed")
    assert [record.getMessage() for record in caplog.records] == ["it failed"] * 2
