"""What is asked for of OpenTelemetry; `spans` does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter, FastAPI

from fastapi_channels.channels.socket import Socket
from fastapi_channels.cluster.node import Node
from fastapi_channels.cluster.observer import Observer
from fastapi_channels.contract.served import endpoints
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.wire.messages import TRACE

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider


class Tracing:
    """Spans for OpenTelemetry: of each handshake, join on a Socket, action, publication, delivery and job.

    Give it to `add_channel(tracing=)`, and to a `Publisher` outside of the application. None of its spans
    names a room or a user, or has anything of a payload.

    Args:
        provider: makes the spans; the global one unless given. It may be set later.
        clients: whether clients say what their actions belong to, by the fields `traceparent` and
            `tracestate` of their requests, and by the headers of these names of their handshakes (W3C Trace
            Context). A client that is believed decides what is sampled, as far as the sampler lets it.

    Attributes:
        observer: is told of what happens.
        clients: as given.

    Raises:
        ConfigurationError: opentelemetry-api is missing; or `provider` is none.
    """

    def __init__(self, provider: TracerProvider | None = None, *, clients: bool = False) -> None:
        try:
            from .spans import Spans
        except ModuleNotFoundError as exc:
            if (exc.name or "").partition(".")[0] != "opentelemetry":
                raise
            raise ConfigurationError(
                'tracing needs opentelemetry-api: pip install "fastapi-channels[tracing]"'
            ) from None
        self.clients = clients
        self.observer: Observer = Spans(provider, clients=clients)


def add_tracing(parent: FastAPI | APIRouter, node: Node, tracing: object) -> None:
    """Trace what happens in `node`, if it is asked for.

    Raises:
        ConfigurationError: it is asked for by something else than True or a Tracing.
    """
    if tracing is False:
        return
    if tracing is True:
        tracing = Tracing()
    if not isinstance(tracing, Tracing):
        raise ConfigurationError(f"tracing= takes True, or a Tracing(…), got {tracing!r}")
    node.observe(tracing.observer)
    if tracing.clients:
        node.companions.append(_Fields(parent))


class _Fields:
    """Holds, when the application starts, that no action has a field that says what is traced."""

    def __init__(self, parent: FastAPI | APIRouter) -> None:
        self._parent = parent

    async def start(self) -> None:
        """
        Raises:
            ConfigurationError: one has.
        """
        for endpoint in endpoints(self._parent):
            owner = endpoint.owner
            for channel in owner.channels if isinstance(owner, Socket) else (owner,):
                if channel.envelope.payload is None:
                    for spec in (channel._plan.actions or {}).values():
                        spec.refuse_fields(TRACE)

    async def stop(self) -> None:
        pass
