"""The plugin of pytest: fixtures that close what they made. It is found by its entry point."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any, Protocol

import pytest
from starlette.applications import Starlette

from .broker import FaultyBroker
from .client import Client
from .site import Site, running, serving
from .store import FaultyStore
from .sync import SyncSite


class ChannelsApp(Protocol):
    """Runs an application, and gives its site."""

    async def __call__(
        self, app: Starlette, *, within: float = ..., raise_server_exceptions: bool = ...
    ) -> Site: ...


class ChannelsServer(Protocol):
    """Serves an application, and gives its site."""

    async def __call__(
        self, app: Starlette, *, within: float = ..., raise_server_exceptions: bool = ..., **options: Any
    ) -> Site: ...


class ChannelsSyncApp(Protocol):
    """Runs an application for a test without an event loop, and gives its site."""

    def __call__(
        self, app: Starlette, *, within: float = ..., raise_server_exceptions: bool = ...
    ) -> SyncSite: ...


try:
    from pytest_asyncio import fixture as _async_fixture
except ImportError:  # with anyio's plugin, which runs async fixtures of pytest itself
    _async_fixture = pytest.fixture  # type: ignore[assignment] # it decorates alike


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fastapi-channels")
    group.addoption(
        "--channels-within", type=float, default=None, metavar="SECONDS", help="that a client of a test waits"
    )


def _within(request: pytest.FixtureRequest) -> dict[str, Any]:
    seconds = request.config.getoption("--channels-within")
    return {} if seconds is None else {"within": seconds}


@_async_fixture
async def channels_app(request: pytest.FixtureRequest) -> AsyncIterator[ChannelsApp]:
    """Runs applications in the event loop of the test: `site = await channels_app(app)`."""
    async with AsyncExitStack() as stack:

        async def run(app: Starlette, **options: Any) -> Site:
            return await stack.enter_async_context(running(app, **{**_within(request), **options}))

        yield run


@_async_fixture
async def channels_server(request: pytest.FixtureRequest) -> AsyncIterator[ChannelsServer]:
    """Serves applications on uvicorn, each on a free port: `site = await channels_server(app)`."""
    async with AsyncExitStack() as stack:

        async def serve(app: Starlette, **options: Any) -> Site:
            return await stack.enter_async_context(serving(app, **{**_within(request), **options}))

        yield serve


@pytest.fixture
def channels_sync_app(request: pytest.FixtureRequest) -> Iterator[ChannelsSyncApp]:
    """Runs applications for a test without an event loop: `site = channels_sync_app(app)`."""
    with ExitStack() as stack:

        def run(app: Starlette, **options: Any) -> SyncSite:
            return stack.enter_context(SyncSite(running(app, **{**_within(request), **options})))

        yield run


@pytest.fixture
def channels_broker() -> FaultyBroker:
    """A broker that several applications share, and that fails when it is told to."""
    return FaultyBroker()


@pytest.fixture
def channels_store() -> FaultyStore:
    """A store that several applications share, and that fails when it is told to."""
    return FaultyStore()


__all__ = [
    "ChannelsApp",
    "ChannelsServer",
    "ChannelsSyncApp",
    "Client",
    "channels_app",
    "channels_broker",
    "channels_server",
    "channels_store",
    "channels_sync_app",
]
