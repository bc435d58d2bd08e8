"""The metrics as prometheus-client has them, and the route that has those of all processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.params import Depends
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry

from fastapi_channels.channels.socket import Socket
from fastapi_channels.cluster.node import Node
from fastapi_channels.contract.served import endpoints
from fastapi_channels.contract.serving import check_path, checked_dependencies
from fastapi_channels.exceptions import BrokerUnavailable, ConfigurationError

from .families import FAMILIES, PREFIX, PROCESS
from .metrics import Metrics, Snapshot, is_snapshot
from .numbers import Number
from .store_calls import CountedStore

QUESTION = "metrics"


def metrics_of(snapshots: Mapping[str, Snapshot]) -> Iterator[Metric]:
    """The metrics of processes, by the number of each. What this version does not know is left out."""
    makers: dict[str, Callable[..., Metric]] = {
        "gauge": GaugeMetricFamily,
        "counter": CounterMetricFamily,
        "histogram": HistogramMetricFamily,
    }
    for name, family in FAMILIES.items():
        metric = makers[family.kind](PREFIX + name, family.help)
        for process, snapshot in snapshots.items():
            for suffix, values, figure in snapshot.get(name, ()):
                names = (*family.labels, "le") if suffix == "_bucket" else family.labels
                if len(names) == len(values):
                    labels = {PROCESS: process, **dict(zip(names, values, strict=True))}
                    metric.add_sample(PREFIX + name + suffix, labels, figure)
        yield metric


class ProcessCollector(Collector):
    """The metrics of this process, for a registry of prometheus-client."""

    def __init__(self, metrics: Metrics, number: Number) -> None:
        self._metrics = metrics
        self._number = number

    def describe(self) -> Iterator[Metric]:
        """The names, by which a registry finds that another application has them."""
        return metrics_of({})

    def collect(self) -> Iterator[Metric]:
        return metrics_of({str(self._number): self._metrics.snapshot()})


class _Gathered(Collector):
    def __init__(self, snapshots: Mapping[str, Snapshot]) -> None:
        self._snapshots = snapshots

    def collect(self) -> Iterator[Metric]:
        return metrics_of(self._snapshots)


class Exposed:
    """Runs beside the node of `parent`: it is observed, and in `registry` while it runs.

    Raises:
        ConfigurationError: it is observed already.
    """

    def __init__(
        self,
        parent: FastAPI | APIRouter,
        node: Node,
        registry: CollectorRegistry,
        store: CountedStore | None,
    ) -> None:
        self._parent = parent
        self._node = node
        self._registry = registry
        self._metrics = Metrics(node, store)
        self._number = Number(node.id, node.settings.namespace, node.store)
        self._collector: ProcessCollector | None = None
        node.observe(self._metrics)
        node.companions.append(self)
        node.questions.answers[QUESTION] = self._answer

    async def start(self) -> None:
        """
        Raises:
            ConfigurationError: the registry has metrics of another application.
        """
        collector = ProcessCollector(self._metrics, self._number)
        try:
            self._registry.register(collector)
        except ValueError:
            raise ConfigurationError(
                "the registry has metrics of these names, of another application in this process: give each "
                "its own, metrics=CollectorRegistry()"
            ) from None
        self._collector = collector
        for endpoint in endpoints(self._parent):
            owner = endpoint.owner
            for channel in owner.channels if isinstance(owner, Socket) else (owner,):
                self._metrics.expect(channel._plan)
        self._metrics.start()
        await self._number.start()

    async def stop(self) -> None:
        if self._collector is not None:
            self._registry.unregister(self._collector)
            self._collector = None
        self._metrics.stop()
        await self._number.stop()

    def _answer(self) -> dict[str, Any]:
        return {"process": str(self._number), "samples": self._metrics.snapshot()}

    async def gather(self) -> dict[str, Snapshot]:
        """The snapshots of all processes that answer; of this one alone, where the broker is away."""
        try:
            answers = await self._node.questions.ask(QUESTION)
        except BrokerUnavailable:
            answers = {self._node.id: self._answer()}
        found: dict[str, Snapshot] = {}
        for answer in answers.values():
            if isinstance(answer, dict) and is_snapshot(answer.get("samples")):
                found.setdefault(str(answer.get("process"))[:64], cast(Snapshot, answer["samples"]))
        return found


def add_metrics(
    parent: FastAPI | APIRouter,
    node: Node,
    registry: object,
    url: str | None = None,
    dependencies: Sequence[Depends] = (),
    store: CountedStore | None = None,
) -> None:
    """Count what happens in `node`, for `registry`, and at `url` what happens in all processes. They share
    `store`.

    Raises:
        ConfigurationError: an argument is not what it has to be.
    """
    if registry is True:
        registry = REGISTRY
    if not isinstance(registry, CollectorRegistry):
        raise ConfigurationError(f"metrics= takes True, or a registry of prometheus-client, got {registry!r}")
    dependencies = checked_dependencies("metrics_dependencies", dependencies)
    if url is not None:
        check_path("metrics_url", url)
    exposed = Exposed(parent, node, registry, store)
    if url is not None:
        _add_route(parent, exposed, url, dependencies)


def _add_route(
    parent: FastAPI | APIRouter, exposed: Exposed, url: str, dependencies: Iterable[Depends]
) -> None:
    async def metrics(request: Request) -> Response:
        gathered = CollectorRegistry()
        gathered.register(_Gathered(await exposed.gather()))
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(gathered), headers={"content-type": content_type, "cache-control": "no-store"})

    parent.add_api_route(url, metrics, include_in_schema=False, dependencies=list(dependencies))
