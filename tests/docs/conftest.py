"""What holds for every page."""

import logging
from collections.abc import AsyncIterator, Iterator

import pytest

from fastapi_channels.layers import channel_layers


@pytest.fixture(autouse=True)
async def own_layers(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """A page finds no channel layers that another has configured."""
    monkeypatch.setattr(channel_layers, "_settings", None)
    monkeypatch.setattr(channel_layers, "_layers", {})
    yield
    await channel_layers.close()


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """A page that makes a configuration of uvicorn configures its loggers, for every test after it."""
    loggers = [
        logging.getLogger(name) for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi")
    ]
    before = [(each, each.level, each.propagate, each.handlers[:]) for each in loggers]
    yield
    for logger, level, propagate, handlers in before:
        logger.setLevel(level)
        logger.propagate = propagate
        logger.handlers[:] = handlers
