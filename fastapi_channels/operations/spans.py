"""Spans as OpenTelemetry has them. Their names are those of its semantic conventions, version 1.44.

An action has a trace of its own, linked to that of its handshake: a trace as long as a connection would be
complete when nobody looks for it any more. What is published carries the context to the other processes,
whose deliveries are children of it.

Nothing is detached where the context ends anyway: with an action, and with a job. So a stream that another
task closes detaches nothing in the wrong context.
"""

from __future__ import annotations

import asyncio
import logging
import re
import traceback
from collections.abc import Mapping
from contextvars import ContextVar, Token
from dataclasses import replace
from importlib.metadata import version
from typing import Any, Final, NamedTuple

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.websockets import WebSocket

from fastapi_channels.actions.spec import ActionSpec
from fastapi_channels.cluster.observer import Observer
from fastapi_channels.connection import Connection
from fastapi_channels.exceptions import ConfigurationError, WebSocketException
from fastapi_channels.wire.messages import TRACE, Message, Publication
from fastapi_channels.wire.rooms import SCOPE_END, SPACE_END

from .loggers import add_to_all

SYSTEM: Final = "fastapi_channels"
HANDSHAKE: Final = "fastapi_channels.handshake"
"""Where the scope of a WebSocket has the context of the span of its handshake."""
MAX_LENGTH: Final = 512
"""Characters of a `tracestate` that are looked at (W3C Trace Context, section 3.3.1.5)."""
MAX_MEMBERS: Final = 32
NO_ID: Final = "0"
_PARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[\x20-\x7e]{0,72})?")
_MEMBER: Final = re.compile(r"[a-z][a-z0-9_*/-]{0,240}(@[a-z][a-z0-9_*/-]{0,13})?=[!-+\--<>-~]{1,256}")
"""What of `tracestate` is taken. The API says a warning of the rest, with the words of whoever sent it."""
_W3C: Final = TraceContextTextMapPropagator()


class _Running(NamedTuple):
    """What goes on in this context, and the name of the action, or of the job."""

    span: Span
    name: str = ""
    token: Token[Context] | None = None


_handshake: ContextVar[_Running | None] = ContextVar("handshake", default=None)
_join: ContextVar[_Running | None] = ContextVar("join", default=None)
_action: ContextVar[_Running | None] = ContextVar("action", default=None)
_job: ContextVar[_Running | None] = ContextVar("job", default=None)
_delivery: ContextVar[_Running | None] = ContextVar("delivery", default=None)


class Spans(Observer):
    """Makes them for a node, or for whoever publishes.

    Args:
        provider: as of `Tracing`.
        clients: whether clients are believed what they belong to.

    Raises:
        ConfigurationError: `provider` is none.
    """

    def __init__(self, provider: TracerProvider | None = None, *, clients: bool = False) -> None:
        if provider is not None and not isinstance(provider, TracerProvider):
            raise ConfigurationError(f"Tracing() takes a TracerProvider of OpenTelemetry, got {provider!r}")
        self._tracer = trace.get_tracer(SYSTEM, version("fastapi-channels"), provider)
        self._clients = clients
        self._actions: dict[ActionSpec, tuple[str, dict[str, str]]] = {}
        self._open: dict[str, Span] = {}
        """Of what is being published, by its `traceparent`."""
        add_to_all(_IDS)

    # A handshake

    def asked(self, connection: str, websocket: WebSocket) -> None:
        scope = websocket.scope
        if scope.get("method") == "POST":
            return  # of one action, which has a span
        route = getattr(scope.get("route"), "path", None)
        attributes = {
            "fastapi_channels.connection.id": connection,
            "network.protocol.name": "websocket" if "method" not in scope else "http",
            "url.scheme": str(scope.get("scheme", "")),
        }
        if route:
            attributes["http.route"] = route
        if websocket.client is not None:
            attributes["network.peer.address"] = websocket.client.host
        parent = _context_of(websocket.headers) if self._clients else None
        name = f"connect {route}" if route else "connect"
        span = self._tracer.start_span(name, parent, SpanKind.SERVER, attributes)
        if (own := span.get_span_context()).is_valid:
            scope[HANDSHAKE] = own
        token = attach(trace.set_span_in_context(span))
        _handshake.set(_Running(span, token=token))

    def refused(self, code: str) -> None:
        running = _handshake.get()
        if running is not None:
            running.span.set_attribute("fastapi_channels.code", code)
            if code in ("unavailable", "internal_error"):
                _fail(running.span, code)

    def answered(self, failure: BaseException | None) -> None:
        running = _handshake.get()
        if running is None:
            return
        _handshake.set(None)
        if isinstance(failure, Exception):
            _fail(running.span, type(failure).__qualname__, failure)
        running.span.end()
        if running.token is not None:
            detach(running.token)

    # A join on a Socket

    def joining(self, channel: str, connection: str, websocket: WebSocket, message: Message) -> None:
        parent = _context_of(self._said(message)) or Context()
        handshake = websocket.scope.get(HANDSHAKE)
        span = self._tracer.start_span(
            f"join {channel}",
            parent,
            SpanKind.SERVER,
            {"fastapi_channels.connection.id": connection},
            None if handshake is None else [Link(handshake)],
        )
        _join.set(_Running(span, token=attach(trace.set_span_in_context(span, parent))))

    def answered_join(self, failure: BaseException | None) -> None:
        running = _join.get()
        if running is None:
            return
        _join.set(None)
        if isinstance(failure, WebSocketException):
            running.span.set_attribute("fastapi_channels.code", failure.error_code)
        elif isinstance(failure, Exception):
            _fail(running.span, type(failure).__qualname__, failure)
        running.span.end()
        if running.token is not None:
            detach(running.token)

    # An action

    def acting(self, channel: str, spec: ActionSpec, connection: Connection, message: Message) -> None:
        known = self._actions.get(spec)
        if known is None:
            name = f"{channel}/{spec.name}"
            known = self._actions[spec] = name, {"rpc.system.name": SYSTEM, "rpc.method": name}
        scope = connection.websocket.scope
        parent: Context | None = Context()
        said = self._said(message)
        if scope.get("method") == "POST" and trace.get_current_span().get_span_context().is_valid:
            parent = None  # of what instruments HTTP
        elif said.get("traceparent"):
            parent = _context_of(said) or parent
        elif scope.get("method") == "POST" and self._clients:
            parent = _context_of(connection.websocket.headers) or parent
        handshake = scope.get(HANDSHAKE)
        span = self._tracer.start_span(
            known[0],
            parent,
            SpanKind.SERVER,
            {**known[1], "fastapi_channels.connection.id": connection.id},
            None if handshake is None else [Link(handshake)],
        )
        attach(trace.set_span_in_context(span, parent))
        _action.set(_Running(span, spec.name))

    def _said(self, message: Message) -> dict[str, Any]:
        """What a client says that its request belongs to; the handler does not get it."""
        return {name: message.data.pop(name, None) for name in TRACE} if self._clients else {}

    def failed(self, channel: str, action: str, code: str, failure: BaseException | None) -> None:
        if not action and (joining := _join.get()) is not None:
            joining.span.set_attribute("fastapi_channels.code", code)
            if failure is not None:
                _fail(joining.span, type(failure).__qualname__, failure)
        running = _action.get()
        if running is None or not action or running.name != action:
            return
        running.span.set_attribute("rpc.response.status_code", code)
        if failure is not None:
            _fail(running.span, type(failure).__qualname__, failure)

    def acted(self) -> None:
        running = _action.get()
        if running is None:
            return
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            running.span.set_attribute("rpc.response.status_code", "cancelled")
        running.span.end()

    # A publication

    def publishing(self, publication: Publication, room: str) -> Publication:
        attributes = _of_messaging("publish", "send", publication, room)
        name = f"publish {attributes[TEMPLATE]}"
        span = self._tracer.start_span(name, None, SpanKind.PRODUCER, attributes)
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, trace.set_span_in_context(span, Context()))
        if not carrier:
            return publication
        if span.is_recording():
            self._open[carrier["traceparent"]] = span
        state = carrier.get("tracestate", "")
        return replace(publication, traceparent=carrier["traceparent"], tracestate=state)

    def published(self, publication: Publication, seconds: float, failure: BaseException | None) -> None:
        span = self._open.pop(publication.traceparent, None)
        if span is None:
            return
        if isinstance(failure, Exception):
            _fail(span, type(failure).__qualname__, failure)
        span.end()

    def delivering(self, publication: Publication, room: str, recipients: int) -> None:
        said = {"traceparent": publication.traceparent, "tracestate": publication.tracestate}
        context = _context_of(said)
        if context is None:
            return
        parent = trace.get_current_span(context)
        created = parent.get_span_context()
        span = parent
        if created.trace_flags.sampled:
            attributes = _of_messaging("deliver", "process", publication, room)
            span = self._tracer.start_span(
                f"deliver {attributes[TEMPLATE]}",
                context,
                SpanKind.CONSUMER,
                {**attributes, "fastapi_channels.recipients": recipients},
                [Link(created)],
            )
        _delivery.set(_Running(span, token=attach(trace.set_span_in_context(span, Context()))))

    def delivered(self) -> None:
        running = _delivery.get()
        if running is None:
            return
        _delivery.set(None)
        running.span.end()
        if running.token is not None:
            detach(running.token)

    # A job

    def running(self, job: str) -> None:
        span = self._tracer.start_span(f"job {job}", Context(), attributes={"fastapi_channels.job.name": job})
        attach(trace.set_span_in_context(span, Context()))
        _job.set(_Running(span, job))

    def ran(self, job: str, seconds: float | None, outcome: str, failure: BaseException | None) -> None:
        running = _job.get()
        if running is None or running.name != job:
            return
        running.span.set_attribute("fastapi_channels.job.outcome", outcome)
        if outcome == "error" and failure is not None:
            _fail(running.span, type(failure).__qualname__, failure)
        elif outcome == "timeout":
            _fail(running.span, outcome)
        running.span.end()


TEMPLATE: Final = "messaging.destination.template"


def _of_messaging(operation: str, kind: str, publication: Publication, room: str) -> dict[str, Any]:
    """The attributes of what is done with a publication. Of a room the scope is named, which is a class."""
    scope = room.rpartition(SCOPE_END)[0].removesuffix(SPACE_END[:1])
    noun = publication.kind or "room"
    template = f"{scope}/{{{noun}}}" if scope else f"{{{noun}}}"
    return {
        "messaging.system": SYSTEM,
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
        TEMPLATE: template,
    }


def _context_of(said: Mapping[str, Any]) -> Context | None:
    """What a client, or another process, says that this belongs to; None for nothing that can be read."""
    parent, state = said.get("traceparent"), said.get("tracestate")
    if not isinstance(parent, str) or _PARENT.fullmatch(parent) is None:
        return None
    carrier = {"traceparent": parent}
    if isinstance(state, str) and 0 < len(state) <= MAX_LENGTH:
        members = [member.strip(" \t") for member in state.split(",")]
        if len(members) <= MAX_MEMBERS and all(map(_MEMBER.fullmatch, members)):
            carrier["tracestate"] = state
    context = _W3C.extract(carrier, Context())
    return context if trace.get_current_span(context).get_span_context().is_valid else None


def _fail(span: Span, kind: str, failure: BaseException | None = None) -> None:
    """Say that something went wrong on this side: of what type, and where. What it says, what its causes say
    and those in a group, may be what a client has sent. The record in the log has it, and the ids of the
    span."""
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR))
    if failure is not None:
        frames = "".join(traceback.format_tb(failure.__traceback__))
        name = f"{type(failure).__module__}.{type(failure).__qualname__}".removeprefix("builtins.")
        span.add_event("exception", {"exception.type": name, "exception.stacktrace": frames})


class _Ids(logging.Filter):
    """Adds the ids of trace and span to the records of this package, by the names that OpenTelemetry has for
    them in logs of other formats. Without a span they are "0", as its instrumentation of logging has it: a
    format that names them holds for each record."""

    def filter(self, record: logging.LogRecord) -> bool:
        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            record.trace_id = trace.format_trace_id(context.trace_id)
            record.span_id = trace.format_span_id(context.span_id)
        else:
            for name in ("trace_id", "span_id"):
                if not hasattr(record, name):  # an application's own factory of records may say one
                    setattr(record, name, NO_ID)
        return True


_IDS: Final = _Ids()
