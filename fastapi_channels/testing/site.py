"""An application while it runs, in process or on a port, and its clients."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Self
from urllib.parse import urlencode

from fastapi_channels.client.errors import Refused
from fastapi_channels.client.settings import Closed, Wire
from fastapi_channels.wire.messages import SUBPROTOCOL, Envelope

from .asgi import App, dial_in, living
from .client import WITHIN, Client
from .record import Record, record


class Site:
    """Opens clients, and closes them at its end.

    Attributes:
        app: the application.
        url: where it is, as `ws://…`.
    """

    def __init__(self, app: App, url: str, *, in_process: bool, within: float = WITHIN) -> None:
        self.app = app
        self.url = url
        self._in_process = in_process
        self._within = within
        self._stack = AsyncExitStack()

    async def client(self, path: str, **options: Any) -> Client:
        """A client that was let in; it is closed with the site.

        Args:
            options: as of `connect`.

        Raises:
            Refused: it was not.
        """
        return await self._stack.enter_async_context(self.connect(path, **options))

    @asynccontextmanager
    async def connect(
        self,
        path: str,
        *,
        user: Any = None,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        protocols: Sequence[str] = (),
        within: float | None = None,
        envelope: Envelope | None = None,
        fluent: bool = True,
    ) -> AsyncIterator[Client]:
        """A client that was let in, and has left at the end of the block.

        Args:
            user: who it is, as an authentication middleware would say; in process only.
            protocols: further subprotocols, such as `bearer.…` with a token.
            within: seconds that each of its waits may take.
            envelope: as the channel has it.
            fluent: whether it speaks the whole protocol: every call is replied to, and a refusal can be read.

        Raises:
            Refused: it was not let in.
        """
        if query:
            path += ("&" if "?" in path else "?") + urlencode(query)
        named = dict(headers or {})
        if cookies:
            named["cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        offered = [*([SUBPROTOCOL] if fluent else []), *protocols]
        try:
            wire = await self._dial(self.url + path, offered, named, user)
        except Closed as exc:
            raise Refused(exc.code, exc.reason) from exc
        client = Client(wire, within=self._within if within is None else within, envelope=envelope)
        try:
            await client.welcomed()
            yield client
        finally:
            await client.close()

    async def refusal(self, path: str, **options: Any) -> Refused:
        """Why a client is not let in.

        Raises:
            AssertionError: it is.
        """
        try:
            async with self.connect(path, **options):
                pass
        except Refused as exc:
            return exc
        raise AssertionError(f"{path} was let in")

    def record(self) -> AbstractContextManager[Record]:
        """As `record(site.app)`."""
        return record(self.app)

    async def _dial(self, url: str, protocols: list[str], headers: dict[str, str], user: Any) -> Wire:
        if self._in_process:
            return await dial_in(self.app, url, protocols, headers, user=user, host="192.0.2.1")
        if user is not None:
            raise TypeError("user= says who a client is without a server alone: log in over this one")
        from fastapi_channels.client.sockets import dialer

        return await dialer(proxy=None)(url, protocols, headers)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()


@asynccontextmanager
async def running(app: Any, *, within: float = WITHIN) -> AsyncIterator[Site]:
    """The application with its lifespan, in the event loop of the test: no server, and no port.

    Args:
        within: seconds that each wait of a client may take.
    """
    async with living(app), Site(app, "ws://testserver", in_process=True, within=within) as site:
        yield site


@asynccontextmanager
async def serving(app: Any, *, within: float = 5 * WITHIN, **options: Any) -> AsyncIterator[Site]:
    """The application on uvicorn, on a free port of the loopback.

    Args:
        options: of `uvicorn.Config`.
    """
    import uvicorn

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    settings: dict[str, Any] = {"log_config": None, "timeout_graceful_shutdown": 5, **options}
    config = uvicorn.Config(app, **settings)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[listener])
    try:
        async with Site(
            app, f"ws://127.0.0.1:{listener.getsockname()[1]}", in_process=False, within=within
        ) as site:
            yield site
    finally:
        await server.shutdown(sockets=[listener])
