"""`add_channel`: wires one node into one application; and what upstream's users read of it."""

from __future__ import annotations

import logging
import math
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Any, Final, TypeVar

from broadcaster import Broadcast, BroadcastBackend
from fastapi import APIRouter, FastAPI
from fastapi.params import Depends
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastapi_channels.channels import upstream

from .brokers import adopt, create_backend
from .channels.pagination import Paginator
from .cluster.node import SCOPE_KEY, Node, current_node
from .cluster.process import on_sigterm, warn_of_islands
from .cluster.settings import Settings
from .contract.serving import add_document
from .exceptions import BrokerUnavailable, ConfigurationError
from .permission import Permission, combine
from .sessions.origin import parse_origins
from .stores import Store, StoreUnavailable, store_beside
from .throttling import MemoryLimiter, RateLimiter, normalize, parse_proxies

logger = logging.getLogger("fastapi_channels")

MIN_SECRET: Final = 32
"""Bytes of a secret: a shorter key makes HMAC-SHA256 weaker than its hash (RFC 2104 section 3)."""

Parent = TypeVar("Parent", FastAPI, APIRouter)


def add_channel(
    parent: Parent,
    *,
    url: str | None = None,
    backend: BroadcastBackend | None = None,
    broadcast: Broadcast | None = None,
    store_url: str | None = None,
    store: Store | None = None,
    limiter_url: str | None = None,
    storage: Any = None,
    prefix: str = "fastapi-channel",
    identifier: Callable[..., Any] | None = None,
    ws_callback: Callable[..., Any] | None = None,
    permission_classes: Permission = None,
    throttle_classes: Any = None,
    pagination_class: type[Paginator] | None = None,
    secret: str | bytes | None = None,
    allowed_origins: Iterable[str] | None = None,
    trusted_proxies: Iterable[str] = (),
    user_key: Callable[[Any], Any] | str | None = None,
    namespace: str = "",
    publish_timeout: float = 2.0,
    drain_seconds: float = 10.0,
    retry_after: float = 1.0,
    health_url: str | None = None,
    asyncapi_url: str | None = "/asyncapi.json",
    asyncapi_docs_url: str | None = "/asyncapi",
    asyncapi_component_url: str | None = None,
    asyncapi_dependencies: Sequence[Depends] = (),
    **unused: Any,
) -> Parent:
    """Give `parent` what its channels need: a broker, rate limits, and rules that hold for all of them.

    Args:
        parent: the application, or a router (then before it is included).
        url: the broker: `memory://` (the default), `redis://host:port/db`, or another scheme of broadcaster.
        backend: a broadcaster backend, in place of `url`.
        broadcast: a Broadcast, whose backend is used, in place of `url`.
        store_url: where state is kept that outlives a connection, such as histories: `memory://`, or
            `redis://…` as for the broker; that of `url` unless given.
        store: a Store, in place of `store_url`.
        limiter_url: where rate limits are counted: `memory://` or `redis://…`; `url` where that is Redis.
        storage: a `redis.asyncio` client to count with, or a RateLimiter.
        prefix: begins the keys of rate limits.
        identifier: whom rate limits count, called with the websocket; the user, else the address.
        ws_callback: answers calls over their rate, in place of the error.
        permission_classes: who may connect, and call actions, anywhere in the application.
        throttle_classes: rates over all messages of a client in a room.
        pagination_class: whose instances `current_paginator` gives to actions: `Paginator`, or a subclass.
        secret: signs what clients keep and give back, such as cursors; 32 bytes or more. Unless given, it is
            random and each process has another: several processes need one.
        allowed_origins: pages that may connect beside the server's own; `["*"]` for any.
        trusted_proxies: addresses and networks whose X-Forwarded-For is believed.
        user_key: what names a user: a function of it, or the name of its attribute; its `id`, `identity`,
            `username` or `sub` unless given.
        namespace: begins the broker's topics, so that two applications can share a server.
        publish_timeout: seconds until `BrokerUnavailable`.
        drain_seconds: over how many seconds connections are closed when uvicorn is told to end (SIGTERM),
            at most; 0 leaves it to uvicorn, which closes all at once.
        retry_after: seconds that those clients are told to stay away, at least; each is told up to twice as
            many, by chance.
        health_url: where `…/live` and `…/ready` answer the probes of an orchestrator; None for nowhere.
        asyncapi_url: where the AsyncAPI document is served, and as YAML beside it where PyYAML is installed;
            None for nowhere. An application with `openapi_url=None` serves none either.
        asyncapi_docs_url: where the page is that shows the document and tries it, linked from FastAPI's own;
            None for nowhere. It needs Jinja2, and the document.
        asyncapi_component_url: where AsyncAPI's React component is, to be shown there in place of that page:
            `https://unpkg.com/@asyncapi/react-component@3.2.1`, or a path of this application.
        asyncapi_dependencies: of both routes, to protect them: `[Depends(only_staff)]`.

    Raises:
        ConfigurationError: an argument that cannot work, or a second call for the same parent.
    """
    upstream.drop("add_channel()", unused, upstream.ADD_CHANNEL)
    if not isinstance(parent, FastAPI | APIRouter):
        raise ConfigurationError(f"add_channel() takes a FastAPI application or an APIRouter, got {parent!r}")
    if Node.attached(parent) is not None:
        raise ConfigurationError(
            "add_channel() was called on this object already: one call configures all of its channels"
        )
    settings = Settings(
        permission=combine(permission_classes),
        throttles=normalize(throttle_classes),
        identifier=identifier,
        ws_callback=ws_callback,
        allowed_origins=parse_origins(allowed_origins),
        trusted_proxies=parse_proxies(trusted_proxies),
        user_key=user_key,
        secret=_secret(secret),
        pagination_class=_paginator(pagination_class),
        namespace=namespace,
        publish_timeout=publish_timeout,
        drain_seconds=_seconds("drain_seconds", drain_seconds),
        retry_after=_seconds("retry_after", retry_after),
        view={
            "permission_classes": permission_classes,
            "throttle_classes": throttle_classes,
            "pagination_class": pagination_class,
            "limiter_url": limiter_url,
        },
    )
    node = Node(
        _backend(url or limiter_url, backend, broadcast),
        _limiter(limiter_url or url, storage, prefix),
        settings,
        _store(store, store_url, url or limiter_url, namespace),
    )
    node.rooms.announces = store is None and store_url is None and _announces(node.store, url or limiter_url)
    node.attach(parent)
    router = parent.router if isinstance(parent, FastAPI) else parent
    router.lifespan_context = _with_node(router.lifespan_context, node)
    if health_url is not None:
        _add_health(router, health_url.rstrip("/"), node)
    if asyncapi_url is not None:
        pages = (asyncapi_docs_url, asyncapi_component_url)
        add_document(parent, asyncapi_url, settings, asyncapi_dependencies, *pages)
    if isinstance(parent, FastAPI):
        parent.add_middleware(_NodeMiddleware, node=node)
    return parent


class _NodeMiddleware:
    """Says which node serves a request: to routes, to routers that are included and to mounted apps."""

    def __init__(self, app: ASGIApp, node: Node) -> None:
        self.app = app
        self.node = node

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[SCOPE_KEY] = self.node
        token = current_node.set(self.node)
        try:
            await (
                _answered(self.app, scope, receive, send)
                if scope["type"] == "http"
                else self.app(scope, receive, send)
            )
        finally:
            current_node.reset(token)


async def _answered(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Serve a request; 503 where a route lets BrokerUnavailable through. A handler of the application for it
    comes first: this is outside of all of them."""
    began = False

    async def watched(message: Message) -> None:
        nonlocal began
        began = True
        await send(message)

    try:
        await app(scope, receive, watched)
    except (BrokerUnavailable, StoreUnavailable) as exc:
        if began:
            raise
        logger.debug("answered 503: %s", exc)
        headers = {"retry-after": "1"}
        response = JSONResponse({"detail": "Service Unavailable"}, 503, headers)
        await response(scope, receive, send)


def _with_node(original: Callable[[Any], Any], node: Node) -> Callable[[Any], Any]:
    """The lifespan `original`, inside that of the node: user code may broadcast from first to last."""

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[Any]:
        token = current_node.set(node)
        await node.start()
        _warn_without_websockets()
        if node.broker.local:
            warn_of_islands()
        try:
            with on_sigterm(node.drain) if node.settings.drain_seconds else nullcontext():
                async with original(app) as state:
                    yield state
        finally:
            await node.stop()
            current_node.reset(token)

    return lifespan


def _warn_without_websockets() -> None:
    """Say why every handshake will be answered 404, where uvicorn has found no WebSocket library."""
    chosen = sys.modules.get("uvicorn.protocols.websockets.auto")
    if chosen is not None and getattr(chosen, "AutoWebSocketsProtocol", chosen) is None:
        logger.warning(
            "uvicorn has no WebSocket library, and answers every handshake with 404: "
            'pip install "uvicorn[standard]"'
        )


def _seconds(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ConfigurationError(f"{name} must be 0 or more seconds, got {value!r}")
    return float(value)


def _secret(secret: str | bytes | None) -> bytes:
    if secret is None:
        return secrets.token_bytes(MIN_SECRET)
    value = secret.encode() if isinstance(secret, str) else secret
    if not isinstance(value, bytes) or len(value) < MIN_SECRET:
        raise ConfigurationError(
            f"secret must be {MIN_SECRET} bytes or more, and nobody else's: make one with "
            'python -c "import secrets; print(secrets.token_urlsafe())", and keep it out of the code'
        )
    return value


def _paginator(given: Any) -> type[Paginator] | None:
    if given is None or (isinstance(given, type) and issubclass(given, Paginator)):
        return given
    raise ConfigurationError(
        f"pagination_class takes Paginator or a class that inherits from it, got {given!r}"
    )


def _add_health(router: APIRouter, url: str, node: Node) -> None:
    """Liveness says that the event loop turns; readiness, whether new connections should come here."""

    async def live() -> dict[str, bool]:
        return {"live": True}

    async def ready() -> JSONResponse:
        health = node.health()
        return JSONResponse(health.as_dict(), 200 if health.ready else 503)

    router.add_api_route(f"{url}/live", live, include_in_schema=False)
    router.add_api_route(f"{url}/ready", ready, include_in_schema=False)


def _backend(
    url: str | None, backend: BroadcastBackend | None, broadcast: Broadcast | None
) -> BroadcastBackend:
    if backend is not None and broadcast is not None:
        raise ConfigurationError("give one of url, backend and broadcast, got backend and broadcast")
    if broadcast is not None:
        return adopt(broadcast)
    if backend is not None:
        if not isinstance(backend, BroadcastBackend):
            raise ConfigurationError(f"backend= takes a broadcaster BroadcastBackend, got {backend!r}")
        return backend
    return create_backend(url or "memory://")


def _store(store: Store | None, store_url: str | None, url: str | None, namespace: str) -> Store | None:
    if store is not None and store_url is not None:
        raise ConfigurationError("give one of store and store_url, got both")
    return store or store_beside(url, store_url, namespace=namespace)


def _announces(store: Store | None, url: str | None) -> bool:
    """Whether the broker of `url`, which is the server of `store` too, brings what that publishes."""
    scheme = (url or "").partition("://")[0].lower()
    return store is not None and store.announces and not scheme.endswith("-stream")


def _limiter(url: str | None, storage: Any, prefix: str) -> RateLimiter:
    if storage is None and (url or "").partition("://")[0].lower() in ("redis", "rediss", "unix"):
        storage = url
    if storage is None:
        return MemoryLimiter()
    if not isinstance(storage, str) and callable(getattr(storage, "hit", None)):
        limiter: RateLimiter = storage
        return limiter
    from .throttling import RedisLimiter

    return RedisLimiter(storage, prefix=prefix)


class _View(type):
    """Reads attributes from the node of the running request; nothing can be set."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        node = Node.of()
        if name == "broadcast":
            return _Publisher(node)
        try:
            return node.settings.view[name]
        except KeyError:
            raise AttributeError(f"FastAPIChannel has no attribute {name!r}") from None

    def __setattr__(cls, name: str, value: Any) -> None:
        raise AttributeError(f"FastAPIChannel is read-only: give {name!r} to add_channel()")


class FastAPIChannel(metaclass=_View):
    """A read-only view of what `add_channel` was given, inside a request or the lifespan.

    It has `broadcast` (with `publish(channel, message)`), `permission_classes`, `throttle_classes`,
    `pagination_class` and `limiter_url`.
    """


class _Publisher:
    def __init__(self, node: Node) -> None:
        self._node = node

    async def publish(self, channel: str, message: str | bytes) -> None:
        await self._node.publish(channel, message)
