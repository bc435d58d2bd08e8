"""The lease of a process; what becomes of it is in `test_places.py`, and in the fault tests."""

from __future__ import annotations

import importlib.util
import time

import pytest

from fastapi_channels.cluster.tenure import Tenure
from fastapi_channels.stores import StoreUnavailable
from fastapi_channels.stores.redis import RedisStore
from tests.support.live import wait_until


def test_a_system_has_no_clock_that_goes_on_while_it_sleeps(monkeypatch: pytest.MonkeyPatch):
    """Windows has neither of these, and macOS not the first."""
    for name in ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC", "clock_gettime"):
        monkeypatch.delattr(time, name, raising=False)
    spec = importlib.util.find_spec("fastapi_channels.cluster.tenure")
    assert spec is not None
    assert spec.loader is not None
    tenure = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tenure)
    assert time.monotonic() - tenure._now() < 10


async def test_that_the_store_does_not_answer_is_told_once(caplog: pytest.LogCaptureFixture):
    async def renewed(anew: bool) -> None: ...

    store = RedisStore("redis://127.0.0.1:1/0", timeout=0.02)
    tenure = Tenure("node", store, renewed, lambda left, own: None)
    with pytest.raises(StoreUnavailable):
        await store.count("room")
    tenure.start()
    await wait_until(lambda: tenure.away > 0)
    await tenure.stop()
    await store.close()
    (record,) = caplog.records
    assert record.getMessage().startswith("the store does not answer: ")
