"""`add_channel`: wires one node into one application; and what upstream's users read of it."""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Final, TypeVar, get_args

from broadcaster import Broadcast, BroadcastBackend
from fastapi import APIRouter, FastAPI
from fastapi.params import Depends

from fastapi_channels.channels import upstream

from .brokers import schemes, the_backend
from .channels.pagination import Paginator
from .cluster.health import add_probes
from .cluster.middleware import NodeMiddleware
from .cluster.node import Node, current_node
from .cluster.process import on_sigterm, warn_of_islands, warn_without_websockets
from .cluster.settings import Settings
from .contract.serving import add_document
from .encryption import encryption_by
from .exceptions import ConfigurationError
from .operations.jobs.job import Job, given_jobs, jobs_of
from .operations.jobs.keeper import running
from .operations.store_calls import CountedStore
from .operations.tracing import Tracing, add_tracing
from .permission import Permission, combine
from .sessions.origin import parse_origins
from .stores import Limits, Store, store_beside
from .stores.store import WhenOver
from .throttling import MemoryLimiter, RateLimiter, normalize, parse_proxies
from .wire.rooms import check_namespace

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

logger = logging.getLogger("fastapi_channels")

MIN_SECRET: Final = 32
"""Bytes of a secret: a shorter key makes HMAC-SHA256 weaker than its hash (RFC 2104 section 3)."""

REDIS: Final = ("redis", "rediss", "unix")
LIMITERS: Final[dict[str, bool]] = dict.fromkeys(("memory", *REDIS), True)
"""The schemes of URLs by which rates are counted."""

Parent = TypeVar("Parent", FastAPI, APIRouter)


def add_channel(
    parent: Parent,
    *,
    url: str | None = None,
    backend: BroadcastBackend | None = None,
    broadcast: Broadcast | None = None,
    store_url: str | None = None,
    store: Store | None = None,
    encryption_keys: str | Sequence[str] | None = None,
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
    max_connections: int | None = None,
    max_connections_per_user: int | None = None,
    per_user_policy: WhenOver = "refuse",
    bans: bool = False,
    jobs: Sequence[Callable[..., Any]] | None = (),
    drain_seconds: float = 10.0,
    retry_after: float = 1.0,
    health_url: str | None = None,
    metrics: bool | CollectorRegistry = False,
    metrics_url: str | None = None,
    metrics_dependencies: Sequence[Depends] = (),
    tracing: bool | Tracing = False,
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
        encryption_keys: of what is said in rooms, as broker and store have it: the first encrypts, and each
            decrypts; a list, or a text with commas. It needs `cryptography`. None: nothing is encrypted.
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
        max_connections: WebSockets that a process has at a time, those whose handshake is not answered yet
            among them; one more is refused with 503. None for any number.
        max_connections_per_user: WebSockets that a user may have at a time, in whatever rooms, over all
            processes; None for any number. Those without a user are not counted.
        per_user_policy: what happens beyond that: `refuse`, with 429, or `close_oldest`, which closes the
            user's oldest with 4509.
        bans: whether who is banned (`Publisher.ban`) is refused: each handshake asks the store then.
        jobs: functions that are marked with `@every` or `@cron`, to be run beside those of the channels that
            are mounted. None: this process runs none, those of channels neither.
        drain_seconds: over how many seconds connections are closed when uvicorn is told to end (SIGTERM),
            at most; 0 leaves it to uvicorn, which closes all at once.
        retry_after: seconds that those clients are told to stay away, at least; each is told up to twice as
            many, by chance.
        health_url: where `…/live` and `…/ready` answer the probes of an orchestrator; None for nowhere.
        metrics: whether to count for Prometheus: True in the default registry of prometheus-client, or in the
            one that is given. It needs prometheus-client.
        metrics_url: where the metrics of all processes are; None for nowhere. Whoever can reach it can read
            them.
        metrics_dependencies: of that route, to protect it: `[Depends(only_prometheus)]`.
        tracing: whether to make spans for OpenTelemetry: True by the global provider, or a `Tracing(…)` that
            says more. It needs opentelemetry-api.
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
        namespace=check_namespace(namespace),
        publish_timeout=publish_timeout,
        max_connections=_count_of("max_connections", max_connections),
        per_user=_per_user(max_connections_per_user, per_user_policy),
        bans=bans,
        drain_seconds=_seconds("drain_seconds", drain_seconds),
        retry_after=_seconds("retry_after", retry_after),
        view={
            "permission_classes": permission_classes,
            "throttle_classes": throttle_classes,
            "pagination_class": pagination_class,
            "limiter_url": limiter_url,
        },
    )
    for name, path in (
        ("health_url", health_url),
        ("metrics_url", metrics_url),
        ("asyncapi_url", asyncapi_url),
        ("asyncapi_docs_url", asyncapi_docs_url),
    ):
        _check_path(name, path)
    own = None if jobs is None else given_jobs(jobs)
    encryption = encryption_by(encryption_keys)
    broker_url = limiter_url if url is None else url
    listens = backend is None and broadcast is None
    carrying = the_backend(broker_url, backend, broadcast)
    kept = _store(store, store_url, broker_url, namespace, listens)
    counted: CountedStore | None = None
    if metrics is not False and kept is not None and kept.shared:
        counted = CountedStore(kept)
        kept = counted
    node = Node(
        carrying,
        _limiter(limiter_url, url, storage, prefix),
        settings,
        encryption.over(kept),
        encryption.packing,
    )
    node.companions += encryption.notices(kept, namespace)
    if settings.per_user is not None:
        node.rooms.check_store("max_connections_per_user")
    if bans:
        node.rooms.check_store("add_channel(bans=True)")
    node.attach(parent)
    router = parent.router if isinstance(parent, FastAPI) else parent
    router.lifespan_context = _with_node(router.lifespan_context, node, parent, own)
    if health_url is not None:
        add_probes(router, health_url.rstrip("/"), node.health)
    _count(parent, node, metrics, metrics_url, metrics_dependencies, counted)
    add_tracing(parent, node, tracing)
    if asyncapi_url is not None:
        pages = (asyncapi_docs_url, asyncapi_component_url)
        add_document(parent, asyncapi_url, settings, asyncapi_dependencies, *pages)
    if isinstance(parent, FastAPI):
        parent.add_middleware(NodeMiddleware, node=node)
    return parent


def _with_node(
    original: Callable[[Any], Any], node: Node, parent: FastAPI | APIRouter, own: Sequence[Job] | None
) -> Callable[[Any], Any]:
    """The lifespan `original`, inside that of the node: user code may broadcast from first to last. Jobs are
    run inside both: they find what `original` has made."""

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[Any]:
        # Where the application has a node too, that one serves our channels, and runs their jobs.
        serves = Node.attached(app) in (None, node)
        jobs = [] if own is None else jobs_of(parent if serves else None, own)
        if jobs:
            node.rooms.check_store(f"the job {jobs[0].name!r}")
        token = current_node.set(node)
        await node.start()
        warn_without_websockets()
        if node.broker.local:
            warn_of_islands()
        try:
            with on_sigterm(node.drain) if node.settings.drain_seconds else nullcontext():
                async with original(app) as state, running(jobs, node, app, state):
                    yield state
        finally:
            await node.stop()
            current_node.reset(token)

    return lifespan


def _seconds(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ConfigurationError(f"{name} must be 0 or more seconds, got {value!r}")
    return float(value)


def _check_path(name: str, path: str | None) -> None:
    if path is not None and not (isinstance(path, str) and path.startswith("/")):
        raise ConfigurationError(f'{name} must be a path that begins with "/", or None, got {path!r}')


def _count_of(name: str, value: int | None) -> int | None:
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise ConfigurationError(f"{name} must be 1 or more, or None, got {value!r}")


def _per_user(limit: int | None, policy: WhenOver) -> Limits | None:
    if policy not in get_args(WhenOver):
        expected = " or ".join(map(repr, get_args(WhenOver)))
        raise ConfigurationError(f"per_user_policy must be {expected}, got {policy!r}")
    if _count_of("max_connections_per_user", limit) is not None:
        return Limits(per_user=limit, when_over=policy)
    if policy != "refuse":
        raise ConfigurationError(
            f"per_user_policy={policy!r} does nothing without max_connections_per_user: give that too; for "
            "one room there is max_per_user of its channel"
        )
    return None


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


def _count(
    parent: FastAPI | APIRouter,
    node: Node,
    metrics: bool | CollectorRegistry,
    url: str | None,
    dependencies: Sequence[Depends],
    store: CountedStore | None,
) -> None:
    if metrics is False:
        if url is not None or dependencies:
            raise ConfigurationError("metrics_url and metrics_dependencies do nothing without metrics=True")
        return
    try:
        from .operations.exposition import add_metrics
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] != "prometheus_client":
            raise
        raise ConfigurationError(
            'metrics= needs prometheus-client: pip install "fastapi-channels[metrics]"'
        ) from None
    add_metrics(parent, node, metrics, url, dependencies, store)


def _store(
    store: Store | None, store_url: str | None, url: str | None, namespace: str, listens: bool
) -> Store | None:
    if store is not None and store_url is not None:
        raise ConfigurationError("give one of store and store_url, got both")
    if store is not None and not callable(getattr(store, "renew", None)):
        raise ConfigurationError(
            f"store= takes a Store, got {type(store).__name__}; the URL of one is store_url="
        )
    return store or store_beside(url, store_url, namespace=namespace, listens=listens)


def _limiter(limiter_url: str | None, url: str | None, storage: Any, prefix: str) -> RateLimiter:
    if limiter_url is not None:
        schemes.of(limiter_url, LIMITERS, "a limiter")
        url = limiter_url
    if storage is None and (url or "").partition("://")[0].lower() in REDIS:
        storage = url
    if storage is None:
        return MemoryLimiter()
    if not isinstance(storage, str) and callable(getattr(storage, "hit", None)):
        if not callable(getattr(storage, "wait", None)):
            raise ConfigurationError(
                f"storage= takes a RateLimiter, with hit(), wait() and close(): this "
                f"{type(storage).__name__} has no wait()"
            )
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
