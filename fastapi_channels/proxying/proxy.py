"""A channel whose clients speak with another server."""

from __future__ import annotations

import ssl as ssl_module
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Final

from fastapi import APIRouter, FastAPI, WebSocket

from fastapi_channels.actions.spec import is_action
from fastapi_channels.channels import BaseChannel
from fastapi_channels.channels.hooks import hook
from fastapi_channels.channels.misspelt import refuse_misspelt
from fastapi_channels.channels.mounting import add_route
from fastapi_channels.cluster.node import Node
from fastapi_channels.connection import Connection
from fastapi_channels.exceptions import CloseCode, ConfigurationError
from fastapi_channels.sessions.http import Headers
from fastapi_channels.sessions.life import is_limit
from fastapi_channels.signatures.callables import awaited
from fastapi_channels.wire.messages import Body
from fastapi_channels.wire.rooms import MAX_ROOM, names_in

from .line import Line, Upstream
from .passing import Passing
from .session import ProxySession
from .target import Target

HOOKS: Final = ("from_client", "from_server", "upstream_headers")


class WebSocketProxy(BaseChannel):
    """Connects its clients to another server: `WebSocketProxy("ws://chat/{room}").mount(app, "/{room}")`.

    Who may connect, from which pages and how often is asked as on every channel, and before the other server
    hears of it. That is connected to before the client is accepted, and chooses the subprotocol. Messages
    pass whole, as text or as bytes; neither side is read from faster than the other takes. Close codes and
    reasons pass too. Nothing else of the client's handshake passes, but for what is listed here.

    Settings are attributes, as on every channel; those below may be given to `__init__` too. Its clients are
    in one room, of the name of the target, in the scope `proxy`.

    Attributes:
        target: the URL, `ws://` or `wss://`. Its `{names}` are parameters of the route's path. Several are
            addresses of the same: each client begins with the next, and goes on where one is not there.
        pass_headers: names of the client's headers that are passed on. `cookie`, `authorization` and `origin`
            are not, unless they are here.
        pass_query: names in the client's query that are passed on.
        pass_subprotocols: those that the other server is offered, of what the client offers.
        pass_response_headers: names of headers of the other server's answer that the client gets.
        forwarded: `for`, `proto` and `host`, those of `X-Forwarded-…` that are sent: the address of the
            client as this application knows it, `https` or `http`, and its `Host` header.
        connect_timeout: seconds for each address, until its handshake is complete.
        ping_interval: seconds between two pings of the other server; None for none.
        ping_timeout: seconds that it has for each answer; None for any time.
        ssl: for `wss://`; the default context unless given.
        max_message_size: bytes of a message, of either side.
        send_timeout: seconds that either side may need to take a message.
    """

    target: str | Sequence[str] = ()
    pass_headers: Collection[str] = ()
    pass_query: Collection[str] = ()
    pass_subprotocols: Collection[str] = ()
    pass_response_headers: Collection[str] = ()
    forwarded: Collection[str] = ()
    connect_timeout: float = 10.0
    ping_interval: float | None = 20.0
    ping_timeout: float | None = 20.0
    ssl: ssl_module.SSLContext | None = None
    max_message_size = 1024 * 1024
    scope = "proxy"

    def __init__(
        self,
        target: str | Sequence[str] | None = None,
        *,
        pass_headers: Collection[str] | None = None,
        pass_query: Collection[str] | None = None,
        pass_subprotocols: Collection[str] | None = None,
        pass_response_headers: Collection[str] | None = None,
        forwarded: Collection[str] | None = None,
        connect_timeout: float | None = None,
        ssl: ssl_module.SSLContext | None = None,
        **settings: Any,
    ) -> None:
        given = {
            "target": target,
            "pass_headers": pass_headers,
            "pass_query": pass_query,
            "pass_subprotocols": pass_subprotocols,
            "pass_response_headers": pass_response_headers,
            "forwarded": forwarded,
            "connect_timeout": connect_timeout,
            "ssl": ssl,
        }
        vars(self).update((name, value) for name, value in given.items() if value is not None)
        try:
            from .upstream import Dialler
        except ImportError:
            raise ConfigurationError(
                'a proxy needs websockets: pip install "fastapi-channels[client]"'
            ) from None
        self._targets = self._checked_targets()
        if self.channel == BaseChannel.channel:
            settings.setdefault("channel", self._targets[0].template[:MAX_ROOM])
        super().__init__(**settings)
        self._check_proxy_settings()
        self._passing = Passing(
            self.pass_headers,
            self.pass_query,
            self.pass_subprotocols,
            self.pass_response_headers,
            self.forwarded,
        )
        for each in self._targets:
            if said := each.fixed & self._passing.query_names:
                raise ConfigurationError(
                    f"{min(said)!r} is in the target's own query: leave it out of pass_query, or of that"
                )
        line = Line(
            self.connect_timeout,
            self.send_timeout,
            self.ping_interval,
            self.ping_timeout,
            self.max_message_size,
            self.ssl,
        )
        self._dialler = Dialler(self._targets, line)
        self._from_client = hook(self, WebSocketProxy, "from_client")
        self._from_server = hook(self, WebSocketProxy, "from_server")
        self._own_headers = hook(self, WebSocketProxy, "upstream_headers")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        refuse_misspelt(cls, WebSocketProxy, (*WebSocketProxy.__annotations__, *HOOKS), is_action)

    async def connect(
        self,
        websocket: WebSocket,
        channel: str | None = None,
        *,
        user: Any = None,
        subprotocol: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Connect `websocket` to the other server, in any FastAPI endpoint; returns when either has left.

        Raises:
            ConfigurationError: no add_channel() covers the endpoint, which has accepted already, or says the
                subprotocol or the headers of the answer, which are the other server's.
        """
        if subprotocol is not None or headers is not None:
            raise ConfigurationError(
                "the other server chooses the subprotocol, and the headers: see pass_subprotocols and "
                "pass_response_headers"
            )
        node = await self._node_of(websocket)
        session = ProxySession(
            self._dial,
            self._from_client,
            self._from_server,
            self._plan,
            websocket,
            channel or self.channel,
            node,
            user,
        )
        await session.run()

    def mount(
        self,
        app: FastAPI | APIRouter,
        path: str,
        *,
        name: str | None = None,
        user: Callable[..., Any] | None = None,
        sse: bool = False,
        http: bool = False,
        **options: Any,
    ) -> None:
        """Add a WebSocket route for this proxy; its path has the parameters that the target names.

        Raises:
            ConfigurationError: it does not have them; or `sse` or `http`: WebSockets alone are passed on.
        """
        if sse or http:
            raise ConfigurationError("a proxy passes WebSockets on: leave out sse= and http=")
        for target in self._targets:
            if missing := target.names - set(names_in(path)):
                raise ConfigurationError(
                    f"the target {target.template!r} wants {{{min(missing)}}}, which is not in {path!r}"
                )
        node = Node.attached(app)
        if node is not None:
            self._claim(node)
        connect = partial(WebSocketProxy.connect, self)
        name = name or type(self).__name__
        add_route(app, path, self, connect, name=name, in_room=False, user=user, options=options)

    async def from_client(self, message: Body, connection: Connection) -> Body | None:
        """What the other server gets in place of `message`: override it, plain or async. None passes nothing
        on. What it raises closes both sides: a WebSocketException with its code, any other with 1011."""
        return message

    async def from_server(self, message: Body, connection: Connection) -> Body | None:
        """What the client gets in place of `message`, as `from_client`."""
        return message

    async def upstream_headers(self, connection: Connection) -> Mapping[str, str]:
        """Headers of the handshake with the other server: override it, plain or async, to say who the client
        is, or who this application is. A client's header of the same name does not pass."""
        return {}

    async def _dial(self, connection: Connection) -> tuple[Upstream, str | None, Headers]:
        websocket, passing = connection.websocket, self._passing
        query = passing.query(websocket)
        urls = [each.url(websocket.path_params, query) for each in self._dialler.addresses()]
        own = {} if self._own_headers is None else await awaited(self._own_headers(connection))
        headers = passing.headers(connection, own)
        upstream = await self._dialler.dial(urls, passing.subprotocols(websocket), headers)
        try:
            subprotocol = upstream.subprotocol
            if subprotocol is None and self.authenticator is not None:
                subprotocol = passing.own_subprotocol(websocket)
            return upstream, subprotocol, passing.answered(upstream.answer)
        except BaseException:
            # Nobody else knows of it yet.
            await upstream.close(CloseCode.INTERNAL_ERROR, None)
            raise

    def _checked_targets(self) -> list[Target]:
        given = [self.target] if isinstance(self.target, str) else list(self.target)
        if not given:
            raise ConfigurationError(
                f"{type(self).__name__} has no target: say which server it connects to, "
                'WebSocketProxy("ws://chat:8000/{room}")'
            )
        return [Target(each) for each in given]

    def _check_proxy_settings(self) -> None:
        for name in ("connect_timeout", "ping_interval", "ping_timeout"):
            value = getattr(self, name)
            if not is_limit(value) or (value is None and name == "connect_timeout"):
                raise ConfigurationError(
                    f"{type(self).__name__}.{name} must be more than 0 seconds, got {value!r}"
                )
        if self.authenticator is not None and self.authenticator.first_frame is not None:
            raise ConfigurationError(
                f"{type(self).__name__}.authenticator reads a first frame, for which the client is accepted "
                "before the other server has chosen a subprotocol: leave out first_frame="
            )
