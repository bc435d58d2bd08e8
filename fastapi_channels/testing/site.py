"""An application while it runs, in process or on a port, and its clients."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Self, TypedDict, Unpack
from urllib.parse import urlencode

from starlette.applications import Starlette

from fastapi_channels.client.errors import Refused
from fastapi_channels.client.settings import Closed, Wire
from fastapi_channels.wire.messages import SUBPROTOCOL, Envelope

from .asgi import App, dial_in, living, scope
from .client import Client
from .failures import MARK, Watched
from .receiver import WITHIN
from .record import Record, record
from .routes import UNFOUND, leads


class Options(TypedDict, total=False):
    """How a client comes.

    Attributes:
        user: who it is, as an authentication middleware would say; in process only.
        query: parameters of the URL.
        headers, cookies: of the handshake.
        protocols: further subprotocols, such as `bearer.…` with a token.
        within: seconds that each of its waits may take.
        envelope: as the channel has it.
        fluent: whether it speaks the whole protocol: every call is replied to, and a refusal can be read.
        raise_server_exceptions: in place of what `running` or `serving` was told.
    """

    user: Any
    query: Mapping[str, str] | None
    headers: Mapping[str, str] | None
    cookies: Mapping[str, str] | None
    protocols: Sequence[str]
    within: float | None
    envelope: Envelope | None
    fluent: bool
    raise_server_exceptions: bool | None


class Site:
    """Opens clients, and closes them at its end.

    Attributes:
        app: the application.
        url: where it is, as `ws://…`.
    """

    def __init__(self, app: App, watched: Watched, url: str, *, in_process: bool, within: float) -> None:
        self.app = app
        self.url = url
        self._watched = watched
        self._in_process = in_process
        self._within = within
        self._stack = AsyncExitStack()

    async def client(self, path: str, **options: Unpack[Options]) -> Client:
        """A client that was let in; it is closed with the site.

        Raises:
            Refused: it was not.
        """
        client = await self._let_in(path, **options)
        self._stack.push_async_callback(client.left)
        return client

    @asynccontextmanager
    async def connect(self, path: str, **options: Unpack[Options]) -> AsyncIterator[Client]:
        """A client that was let in, and has left at the end of the block.

        Raises:
            Refused: it was not let in.
        """
        client = await self._let_in(path, **options)
        try:
            yield client
        except BaseException:
            await client.left()
            raise
        await client.close()

    async def _let_in(
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
        raise_server_exceptions: bool | None = None,
    ) -> Client:
        if user is not None and not self._in_process:
            raise TypeError("user= says who a client is without a server alone: log in over this one")
        if query:
            path += ("&" if "?" in path else "?") + urlencode(query)
        named = dict(headers or {})
        if cookies:
            named["cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        offered = [*([SUBPROTOCOL] if fluent else []), *protocols]
        failures = self._watched.client(raise_server_exceptions)
        try:
            wire = await self._dial(self.url + path, offered, {**named, MARK: failures.mark}, user)
        except Exception as exc:
            failures.check()
            if isinstance(exc, Closed):
                closed = exc
            elif self._in_process:
                closed = Closed(0, "HTTP 500")  # of the application, as a server would answer
            else:
                raise  # the test's own: nothing was sent
            refused = Refused(closed.code, closed.reason)
            refused.add_note(f"This is how {path} was answered.")
            if closed.reason in UNFOUND and not leads(self.app, scope(self.url + path)):
                refused.add_note("No WebSocket route of the application has that path.")
            raise refused from exc
        within = self._within if within is None else within
        client = Client(wire, within=within, envelope=envelope, failures=failures)
        try:
            await client.welcomed()
        except BaseException:
            await client.left()
            raise
        return client

    async def refusal(self, path: str, **options: Unpack[Options]) -> Refused:
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
            return await dial_in(self._watched, url, protocols, headers, user=user, host="192.0.2.1")
        from fastapi_channels.client.sockets import dialer

        return await dialer(proxy=None)(url, protocols, headers)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()


@asynccontextmanager
async def running(
    app: Starlette, *, within: float = WITHIN, raise_server_exceptions: bool = True
) -> AsyncIterator[Site]:
    """The application with its lifespan, in the event loop of the test: no server, and no port.

    Args:
        within: seconds that each wait of a client may take.
        raise_server_exceptions: whether the test is to get what the application raises, where that is no
            answer for the client: in the next wait of that client, or at the end.
    """
    watched = Watched(app, raises=raise_server_exceptions)
    with watched.checked():
        async with living(app), Site(app, watched, "ws://testserver", in_process=True, within=within) as site:
            yield site


@asynccontextmanager
async def serving(
    app: Starlette, *, within: float = WITHIN, raise_server_exceptions: bool = True, **options: Any
) -> AsyncIterator[Site]:
    """The application on uvicorn, in this process, on a free port of the loopback.

    Args:
        within, raise_server_exceptions: as of `running`.
        options: of `uvicorn.Config`.
    """
    watched = Watched(app, raises=raise_server_exceptions)
    with watched.checked():
        async with _listening(watched, options) as port:
            url = f"ws://127.0.0.1:{port}"
            async with Site(app, watched, url, in_process=False, within=within) as site:
                yield site


@asynccontextmanager
async def _listening(watched: Watched, options: dict[str, Any]) -> AsyncIterator[int]:
    """The port of an application on uvicorn."""
    import uvicorn

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    settings: dict[str, Any] = {"log_config": None, "timeout_graceful_shutdown": 5, **options}
    config = uvicorn.Config(watched, **settings)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    try:
        await server.startup(sockets=[listener])
        if server.should_exit:
            raise SystemExit
    except SystemExit:  # uvicorn has logged why
        listener.close()
        raise watched.stopped or RuntimeError("the application has not started: see the log") from None
    try:
        yield listener.getsockname()[1]
    finally:
        await server.shutdown(sockets=[listener])
