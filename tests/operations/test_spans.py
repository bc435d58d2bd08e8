"""What is traced, as an exporter gets it: in one process, and over several."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from opentelemetry import propagate, trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import SpanContext, SpanKind, StatusCode
from pydantic import BaseModel

from fastapi_channels import (
    BrokerUnavailable,
    Channel,
    ConfigurationError,
    Connection,
    Publisher,
    Socket,
    SyncPublisher,
    Tracing,
    action,
    add_channel,
    every,
    limiter,
)
from fastapi_channels import client as channels_client
from fastapi_channels.operations.loggers import LOGGERS
from fastapi_channels.sessions.session import Session
from fastapi_channels.sessions.stream_session import StreamSession
from fastapi_channels.testing.asgi import in_process, living
from fastapi_channels.testing.broker import FaultyBroker
from fastapi_channels.testing.store import FaultyStore
from fastapi_channels.wire.messages import Publication
from fastapi_channels.wire.packing import MARK, PLAIN
from fastapi_channels.wire.shortcut import WEBSOCKETS
from tests.support.events import listening
from tests.support.live import Client, Site, process, serving, unique, wait_until
from tests.support.servers import RedisServer, required
from tests.support.wire import Wire, dial, dialing, node_of

from .traced import SPAN, Kept

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PAYLOAD = "in the payload"
SAMPLED = f"00-{TRACE}-{PARENT}-01"


class Traced:
    """A provider, and what it was told."""

    def __init__(self, **options: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(**options)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("the application")

    @property
    def names(self) -> list[str]:
        """Of the spans in the order in which they have ended."""
        return [span.name for span in self._exporter.get_finished_spans()]

    def all(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._exporter.get_finished_spans() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.all(name)
        return span

    async def ended(self, name: str, number: int = 1) -> ReadableSpan:
        await wait_until(lambda: len(self.all(name)) >= number)
        return self.all(name)[-1]


def context_of(span: ReadableSpan) -> SpanContext:
    context = span.get_span_context()
    assert context is not None
    return context


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def attributes_of(span: ReadableSpan) -> Mapping[str, Any]:
    return span.attributes or {}


def exceptions_of(span: ReadableSpan) -> list[Mapping[str, Any]]:
    return [event.attributes or {} for event in span.events if event.name == "exception"]


class Item(BaseModel):
    number: int


class Room(Channel):
    finish_timeout = 0.05

    def __init__(self, traced: Traced) -> None:
        super().__init__()
        self.tracer = traced.tracer
        self.begun = asyncio.Event()

    @action()
    async def say(self, text: str, connection: Connection) -> None:
        with self.tracer.start_as_current_span("query"):
            await asyncio.sleep(0)
        await self.broadcast(connection.room, "said", text)

    @action()
    def plain(self) -> str:
        with self.tracer.start_as_current_span("in a thread"):
            return "ok"

    @action()
    async def fail(self) -> None:
        raise RuntimeError("on purpose")

    @action()
    async def misfit(self) -> None:
        Item.model_validate({"number": PAYLOAD})

    @action()
    async def chained(self) -> None:
        try:
            Item.model_validate({"number": PAYLOAD})
        except ValueError as exc:
            raise LookupError("on purpose") from exc

    @action()
    async def grouped(self) -> None:
        raise ExceptionGroup("on purpose", [ValueError(PAYLOAD)])

    @action()
    async def worded(self) -> None:
        raise ValueError(PAYLOAD)

    @action()
    async def refuse(self) -> None:
        raise HTTPException(402)

    @action()
    async def gateway(self) -> None:
        raise HTTPException(502)

    @limiter(times=1, hours=1)
    @action()
    async def rarely(self) -> str:
        return "ok"

    @action()
    async def count(self) -> AsyncIterator[int]:
        for number in range(3):
            with self.tracer.start_as_current_span("piece"):
                await asyncio.sleep(0)
            yield number

    @action()
    async def endless(self) -> AsyncIterator[int]:
        with self.tracer.start_as_current_span("held open"):
            while True:
                yield 0
                await asyncio.sleep(0.001)

    @action()
    async def until_gone(self, connection: Connection) -> AsyncIterator[int]:
        while not connection.closed:
            yield 0
            await asyncio.sleep(0)
        yield 1

    @action()
    async def wait(self) -> None:
        self.begun.set()
        await asyncio.Event().wait()

    @action()
    async def everything(self, data: dict[str, Any]) -> dict[str, Any]:
        return data


class Small(Channel):
    max_connection = 1


def as_seen(connection: Connection, frame: dict[str, Any]) -> dict[str, Any]:
    logging.getLogger("fastapi_channels").warning("seen")
    return frame


class Seen(Channel):
    room_pattern = "seen:{number:int}"
    for_each = [as_seen]


@pytest.fixture
def traced() -> Traced:
    return Traced()


def application(traced: Traced, *, clients: bool = False, **settings: Any) -> FastAPI:
    app = FastAPI()
    add_channel(app, tracing=Tracing(traced.provider, clients=clients), **settings)
    Room(traced).mount(app, "/rooms/{channel}", sse=True, http=True)
    Small().mount(app, "/small/{channel}")
    Seen().mount(app, "/seen/{channel}")
    Socket(Room(traced)).mount(app, "/socket")
    return app


@asynccontextmanager
async def in_room(traced: Traced, **settings: Any) -> AsyncIterator[Wire]:
    app = application(traced, **settings)
    async with living(app), dial(app, "/rooms/a") as wire:
        yield wire


async def call(wire: Wire, name: str, **fields: Any) -> Any:
    wire.call(name, **fields)
    return await wire.receive()


# One process


async def test_a_connection_with_ten_actions_and_ten_broadcasts_is_as_many_spans(traced: Traced):
    async with in_room(traced) as wire:
        assert traced.names == ["connect /rooms/{channel}"], "it does not last as long as the connection"
        for _ in range(10):
            assert (await call(wire, "say", text="x"))["event"] == "said"
    expected = ["query", "publish {room}", "deliver {room}", "Room/say"]
    assert sorted(traced.names[1:]) == sorted(10 * expected)


async def test_the_handshake_says_where_and_not_who(traced: Traced):
    async with in_room(traced):
        span = traced.one("connect /rooms/{channel}")
    connection = attributes_of(span)["fastapi_channels.connection.id"]
    assert attributes_of(span) == {
        "fastapi_channels.connection.id": connection,
        "http.route": "/rooms/{channel}",
        "network.peer.address": "192.0.2.1",
        "network.protocol.name": "websocket",
        "url.scheme": "ws",
    }
    assert (span.kind, span.status.status_code, span.parent) == (SpanKind.SERVER, StatusCode.UNSET, None)


async def test_a_join_on_a_socket_is_a_trace_of_its_own_linked_to_the_handshake(traced: Traced):
    app = application(traced, clients=True)
    async with living(app), dial(app, "/socket") as wire:
        for room, more in (("a", {}), ("b", {"traceparent": SAMPLED}), ("a", {})):
            wire.send({"type": "join", "channel": room, **more})
            await wire.receive()
        await traced.ended("join Room", 3)
        await call(wire, "say", channel="a", text="x")
        await traced.ended("Room/say")
    handshake = traced.one("connect /socket")
    alone, asked, again = traced.all("join Room")
    assert [link.context for span in (alone, asked, again) for link in span.links] == [
        context_of(handshake)
    ] * 3
    assert (alone.kind, alone.parent) == (SpanKind.SERVER, None)
    assert (context_of(asked).trace_id, parent_of(asked)) == (int(TRACE, 16), int(PARENT, 16))
    assert attributes_of(alone) == {
        "fastapi_channels.connection.id": attributes_of(handshake)["fastapi_channels.connection.id"]
    }
    assert attributes_of(again)["fastapi_channels.code"] == "already_joined"
    assert traced.one("Room/say").parent is None, "an action is no part of the join before it"


async def test_a_join_that_is_refused_says_why(traced: Traced):
    app = FastAPI()
    add_channel(app, tracing=Tracing(traced.provider))
    Socket(Small()).mount(app, "/socket")
    async with living(app), dial(app, "/socket") as first, dial(app, "/socket") as second:
        for wire in (first, second):
            wire.send({"type": "join", "channel": "a"})
            await wire.receive()
        await traced.ended("join Small", 2)
    joined, refused = traced.all("join Small")
    assert "fastapi_channels.code" not in attributes_of(joined)
    assert attributes_of(refused)["fastapi_channels.code"] == "channel_full"
    assert refused.status.status_code is StatusCode.UNSET


async def test_an_action_is_a_trace_of_its_own_linked_to_the_handshake(traced: Traced):
    async with in_room(traced) as wire:
        await call(wire, "say", text="x")
    handshake, say = traced.one("connect /rooms/{channel}"), traced.one("Room/say")
    assert (say.kind, say.parent) == (SpanKind.SERVER, None)
    assert [link.context for link in say.links] == [context_of(handshake)]
    assert context_of(say).trace_id != context_of(handshake).trace_id
    connection = attributes_of(handshake)["fastapi_channels.connection.id"]
    assert attributes_of(say) == {
        "fastapi_channels.connection.id": connection,
        "rpc.method": "Room/say",
        "rpc.system.name": "fastapi_channels",
    }


async def test_what_a_handler_does_is_within_its_span(traced: Traced):
    async with in_room(traced) as wire:
        await call(wire, "say", text="x")
        await call(wire, "plain")
    for inner, outer in (
        ("query", "Room/say"),
        ("publish {room}", "Room/say"),
        ("deliver {room}", "publish {room}"),
        ("in a thread", "Room/plain"),
    ):
        assert parent_of(traced.one(inner)) == context_of(traced.one(outer)).span_id


async def test_a_publication_and_its_delivery_follow_the_conventions(traced: Traced):
    async with in_room(traced) as wire:
        await call(wire, "say", text="x")
    publish, deliver = traced.one("publish {room}"), traced.one("deliver {room}")
    assert (publish.kind, deliver.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    both = {"messaging.system": "fastapi_channels", "messaging.destination.template": "{room}"}
    said = {"messaging.operation.name": "publish", "messaging.operation.type": "send"}
    assert attributes_of(publish) == both | said
    done = {"messaging.operation.name": "deliver", "messaging.operation.type": "process"}
    assert attributes_of(deliver) == both | done | {"fastapi_channels.recipients": 1}
    assert [link.context.span_id for link in deliver.links] == [context_of(publish).span_id]


async def test_a_stream_is_one_span_from_its_call_to_its_last_reply(traced: Traced):
    async with in_room(traced) as wire:
        wire.call("count", request_id=1)
        while (await wire.receive())["more"]:
            pass
        await traced.ended("Room/count")
    stream = traced.one("Room/count")
    assert {parent_of(piece) for piece in traced.all("piece")} == {context_of(stream).span_id}
    assert len(traced.all("piece")) == 3
    assert stream.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("how", ["cancel", "leave"])
async def test_a_stream_that_is_ended_ends_its_span(
    traced: Traced, how: str, caplog: pytest.LogCaptureFixture
):
    async with in_room(traced) as wire:
        wire.call("endless", request_id=1)
        await wire.receive()
        if how == "cancel":
            wire.send({"type": "cancel", "request_id": 1})
            await traced.ended("Room/endless")
    span = traced.one("Room/endless")
    assert attributes_of(span)["rpc.response.status_code"] == "cancelled"
    assert (span.status.status_code, span.events) == (StatusCode.UNSET, ())
    assert parent_of(traced.one("held open")) == context_of(span).span_id
    assert "Failed to detach context" not in caplog.text


async def test_a_stream_that_finds_its_client_gone_is_cancelled(traced: Traced):
    async with in_room(traced) as wire:
        wire.call("until_gone", request_id=1)
        await wire.receive()
    span = await traced.ended("Room/until_gone")
    assert attributes_of(span)["rpc.response.status_code"] == "cancelled"
    assert (span.status.status_code, span.events) == (StatusCode.UNSET, ())


async def test_an_action_that_is_interrupted_as_its_client_leaves_is_cancelled(traced: Traced):
    async with in_room(traced) as wire:
        wire.call("wait")
    span = await traced.ended("Room/wait")
    assert attributes_of(span)["rpc.response.status_code"] == "cancelled"
    assert span.status.status_code is StatusCode.UNSET


# What goes wrong


async def test_a_fault_is_an_error_with_its_exception_once(traced: Traced):
    async with in_room(traced) as wire:
        assert (await call(wire, "fail"))["code"] == "internal_error"
        assert (await call(wire, "gateway"))["code"] == "http_error"
    for name, kind, code in (
        ("fail", "RuntimeError", "internal_error"),
        ("gateway", "HTTPException", "http_error"),
    ):
        span = await traced.ended(f"Room/{name}")
        assert span.status.status_code is StatusCode.ERROR
        assert attributes_of(span)["error.type"] == kind
        assert attributes_of(span)["rpc.response.status_code"] == code
        (exception,) = exceptions_of(span)
        assert str(exception["exception.type"]).endswith(kind)
        assert "test_spans.py" in str(exception["exception.stacktrace"])


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("misfit", "pydantic_core._pydantic_core.ValidationError"),
        ("chained", "LookupError"),
        ("grouped", "ExceptionGroup"),
        ("worded", "ValueError"),
    ],
)
async def test_an_exception_is_recorded_without_what_it_says(traced: Traced, name: str, kind: str):
    async with in_room(traced) as wire:
        await call(wire, name)
    span = await traced.ended(f"Room/{name}")
    (exception,) = exceptions_of(span)
    assert exception["exception.type"] == kind
    assert f"in {name}" in str(exception["exception.stacktrace"])
    assert PAYLOAD not in span.to_json()


@pytest.mark.parametrize(
    ("name", "code"),
    [("refuse", "http_error"), ("say", "invalid_payload"), ("rarely", "rate_limited")],
)
async def test_what_a_client_is_refused_is_no_error(traced: Traced, name: str, code: str):
    async with in_room(traced) as wire:
        await call(wire, "rarely")
        assert (await call(wire, name))["code"] == code
    span = await traced.ended(f"Room/{name}")
    assert attributes_of(span)["rpc.response.status_code"] == code
    assert (span.status.status_code, span.events) == (StatusCode.UNSET, ())
    assert "error.type" not in attributes_of(span)


async def test_names_that_clients_invent_make_no_spans(traced: Traced):
    async with in_room(traced) as wire:
        assert (await call(wire, "invented"))["code"] == "unknown_action"
        wire.send("no JSON")
        assert (await wire.receive())["code"] == "parse_error"
    assert traced.names == ["connect /rooms/{channel}"]


async def test_a_handshake_that_is_refused_says_why(traced: Traced):
    app = application(traced, max_connections=1)
    async with living(app):
        async with dialing(app, "/small/a", headers=[("origin", "https://evil.example")]) as wire:
            await wire.ended()
        async with dial(app, "/small/a"), dialing(app, "/rooms/a") as wire:
            await wire.ended()
    origin, _ = traced.all("connect /small/{channel}")
    assert attributes_of(origin)["fastapi_channels.code"] == "origin_denied"
    assert origin.status.status_code is StatusCode.UNSET
    full = traced.one("connect /rooms/{channel}")
    assert attributes_of(full)["error.type"] == "unavailable"
    assert full.status.status_code is StatusCode.ERROR


async def test_an_endpoint_that_fails_before_it_answers_is_an_error(traced: Traced):
    class Broken(Channel):
        presence = True

        def presence_data(self, connection: Connection) -> Any:
            raise LookupError("on purpose")

    app = FastAPI()
    add_channel(app, tracing=Tracing(traced.provider))
    Broken().mount(app, "/{channel}")
    async with living(app):
        with pytest.raises(LookupError):
            async with dialing(app, "/a") as wire:
                await wire.ended()
    span = traced.one("connect /{channel}")
    assert span.status.status_code is StatusCode.ERROR
    assert len(exceptions_of(span)) == 1


async def test_a_broadcast_that_the_broker_does_not_take_is_an_error(traced: Traced):
    bus = FaultyBroker()
    async with in_room(traced, backend=bus.backend(), store=FaultyStore(), publish_timeout=0.05) as wire:
        bus.crash()
        assert (await call(wire, "say", text="x"))["code"] == "unavailable"
    publish, say = traced.one("publish {room}"), await traced.ended("Room/say")
    assert attributes_of(publish)["error.type"] == BrokerUnavailable.__name__
    assert publish.status.status_code is say.status.status_code is StatusCode.ERROR


# What is not traced


async def test_without_an_sdk_nothing_is_made_and_nothing_carried():
    publication = Publication("a", "x")
    assert Tracing().observer.publishing(publication, "a") is publication
    traced, app = Traced(), FastAPI()
    add_channel(app, tracing=True)
    Room(traced).mount(app, "/{channel}")
    async with living(app), dial(app, "/a") as wire:
        assert (await call(wire, "say", text="x"))["event"] == "said"
    assert traced.names == ["query"], "the application's own"


async def test_what_is_not_sampled_is_not_sampled_anywhere():
    traced = Traced(sampler=ParentBased(ALWAYS_OFF))
    async with in_room(traced) as wire:
        assert (await call(wire, "say", text="x"))["event"] == "said"
    assert traced.names == []


# What a client says


async def test_a_client_that_is_believed_has_its_action_in_its_trace(traced: Traced):
    async with in_room(traced, clients=True) as wire:
        said = await call(wire, "everything", a=1, traceparent=SAMPLED, tracestate="vendor=x")
    assert said["data"] == {"action": "everything", "a": 1}, "the handler does not get it"
    span = traced.one("Room/everything")
    assert (context_of(span).trace_id, parent_of(span)) == (int(TRACE, 16), int(PARENT, 16))
    assert context_of(span).trace_state.to_header() == "vendor=x"
    assert len(span.links) == 1


async def test_the_client_in_python_says_what_its_calls_belong_to(traced: Traced):
    def trace_of_caller() -> dict[str, str]:
        carrier: dict[str, str] = {"baggage": "is left out"}
        propagate.inject(carrier)
        return carrier

    app = application(traced, clients=True)
    async with living(app):
        client = channels_client.Client("http://test", dial=in_process(app), trace=trace_of_caller)
        async with client:
            room = await client.room("/rooms/{channel}", channel="a").ready()
            with traced.tracer.start_as_current_span("click") as click:
                said = await room.call("everything", {"a": 1})
    assert said.keys() == {"action", "request_id", "a"}
    assert parent_of(traced.one("Room/everything")) == click.get_span_context().span_id


async def test_a_client_is_not_believed_unless_that_is_asked_for(traced: Traced):
    app = application(traced)
    async with living(app), dial(app, "/rooms/a", headers=[("traceparent", SAMPLED)]) as wire:
        said = await call(wire, "everything", traceparent=SAMPLED)
    assert said["data"]["traceparent"] == SAMPLED
    assert traced.one("Room/everything").parent is traced.one("connect /rooms/{channel}").parent is None


async def test_the_headers_of_a_handshake_are_believed_with_the_rest(traced: Traced):
    app = application(traced, clients=True)
    async with living(app), dial(app, "/rooms/a", headers=[("traceparent", SAMPLED)]):
        pass
    assert parent_of(traced.one("connect /rooms/{channel}")) == int(PARENT, 16)


HOSTILE = (
    *(None, 7, [], {}, "", "x", SAMPLED.upper(), f"00-{TRACE}-{PARENT}", f"ff-{TRACE}-{PARENT}-01"),
    *(f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01", SAMPLED + "-more", SAMPLED + "\n"),
    *(10_000 * "0", f"01-{TRACE}-{PARENT}-01-" + 1000 * "x"),
)


async def test_what_is_no_trace_is_not_taken(traced: Traced, caplog: pytest.LogCaptureFixture):
    async with in_room(traced, clients=True) as wire:
        for hostile in HOSTILE:
            assert (await call(wire, "everything", traceparent=hostile))["status"] == "ok"
    spans = traced.all("Room/everything")
    assert [span.parent for span in spans] == [None] * len(HOSTILE)
    assert caplog.records == [], "whoever sends it does not fill the log"


@pytest.mark.parametrize("state", [7, "", "x", "a=b,a", ",".join(f"k{n}=v" for n in range(33)), 600 * "x"])
async def test_a_state_that_cannot_be_read_is_left_out(
    traced: Traced, state: Any, caplog: pytest.LogCaptureFixture
):
    async with in_room(traced, clients=True) as wire:
        await call(wire, "everything", traceparent=SAMPLED, tracestate=state)
    span = traced.one("Room/everything")
    assert parent_of(span) == int(PARENT, 16)
    assert context_of(span).trace_state.to_header() == ""
    assert caplog.records == []


async def test_an_action_with_a_field_of_that_name_does_not_start(traced: Traced):
    class Taken(Channel):
        @action()
        async def take(self, traceparent: str) -> None: ...

    app = FastAPI()
    add_channel(app, tracing=Tracing(traced.provider, clients=True))
    Taken().mount(app, "/{channel}")
    with pytest.raises(ConfigurationError, match="would never get the field 'traceparent'"):
        async with living(app):
            pass


# A socket, and HTTP


async def test_actions_on_a_socket_are_linked_to_its_handshake(traced: Traced):
    app = application(traced)
    async with living(app), dial(app, "/socket") as wire:
        wire.send({"type": "join", "channel": "a"})
        await wire.receive()
        await call(wire, "plain", channel="a", request_id=1)
    (link,) = traced.one("Room/plain").links
    assert link.context == context_of(traced.one("connect /socket"))


async def test_an_action_by_post_belongs_to_the_request(traced: Traced):
    app = application(traced)

    @app.middleware("http")
    async def instrumented(request: Any, call_next: Any) -> Any:
        with traced.tracer.start_as_current_span("POST"):
            return await call_next(request)

    async with living(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            response = await http.post("/rooms/a/actions/plain", json={})
    assert response.json()["data"] == "ok"
    assert parent_of(traced.one("Room/plain")) == context_of(traced.one("POST")).span_id
    assert not any(name.startswith("connect") for name in traced.names)


# Jobs and logs


async def test_a_run_of_a_job_is_a_trace(traced: Traced, monkeypatch: pytest.MonkeyPatch):
    class Kept(Channel):
        @every(seconds=0.1)
        async def tick(self, due: datetime) -> None:
            await self.broadcast("a", "ticked")

        @every(seconds=0.1)
        async def fail(self) -> None:
            raise RuntimeError("on purpose")

    app = FastAPI()
    add_channel(app, tracing=Tracing(traced.provider))
    Kept().mount(app, "/{channel}")
    async with living(app):
        await traced.ended("job Kept.tick")
        await traced.ended("job Kept.fail")
    tick, fail = traced.all("job Kept.tick")[0], traced.all("job Kept.fail")[0]
    assert parent_of(traced.all("publish {room}")[0]) == context_of(tick).span_id
    assert attributes_of(tick)["fastapi_channels.job.outcome"] == "ok"
    assert fail.status.status_code is StatusCode.ERROR
    assert len(exceptions_of(fail)) == 1


async def test_lines_in_the_log_have_the_ids_of_the_span(traced: Traced, caplog: pytest.LogCaptureFixture):
    async with in_room(traced) as wire:
        await call(wire, "fail")
    span = await traced.ended("Room/fail")
    (record,) = (record for record in caplog.records if "error" in record.getMessage())
    assert vars(record)["trace_id"] == trace.format_trace_id(context_of(span).trace_id)
    assert vars(record)["span_id"] == trace.format_span_id(context_of(span).span_id)


@pytest.mark.parametrize("name", LOGGERS)
def test_each_line_has_ids_for_a_format(traced: Traced, caplog: pytest.LogCaptureFixture, name: str):
    Tracing(traced.provider)
    logging.getLogger(name).warning("alone")
    with traced.tracer.start_as_current_span("within") as span:
        logging.getLogger(name).warning("within")
    ids = span.get_span_context()
    within = f"{trace.format_trace_id(ids.trace_id)} {trace.format_span_id(ids.span_id)} within"
    form = logging.Formatter("%(trace_id)s %(span_id)s %(message)s")
    assert [form.format(record) for record in caplog.records] == ["0 0 alone", within]


def test_ids_that_an_application_gives_its_records_stay(traced: Traced):
    Tracing(traced.provider)
    record = logging.LogRecord("fastapi_channels", logging.INFO, "", 0, "", None, None)
    record.trace_id = "its own"
    logging.getLogger("fastapi_channels").filter(record)
    assert (vars(record)["trace_id"], vars(record)["span_id"]) == ("its own", "0")


# Several processes


@asynccontextmanager
async def processes(*all: Traced) -> AsyncIterator[list[FastAPI]]:
    bus, store = FaultyBroker(), FaultyStore()
    async with AsyncExitStack() as stack:
        apps = [application(each, backend=bus.backend(), store=store.view().as_store) for each in all]
        for app in apps:
            await stack.enter_async_context(living(app))
        yield apps


async def test_a_broadcast_is_followed_into_another_process():
    here, there = Traced(), Traced()
    async with (
        processes(here, there) as (one, other),
        dial(one, "/rooms/a") as ann,
        dial(other, "/rooms/a") as bob,
    ):
        ann.call("say", text="x")
        await bob.receive()
        deliver = await there.ended("deliver {room}")
    publish = here.one("publish {room}")
    assert context_of(deliver).trace_id == context_of(here.one("Room/say")).trace_id
    assert parent_of(deliver) == context_of(publish).span_id
    assert [link.context.span_id for link in deliver.links] == [context_of(publish).span_id]


async def test_what_each_recipient_gets_is_made_within_the_delivery(caplog: pytest.LogCaptureFixture):
    here, there = Traced(), Traced()
    async with processes(here, there) as (one, other), dial(other, "/seen/seen:7") as bob:
        channel = Seen()
        channel.bind(one)
        await channel.broadcast("seen:7", "said", for_each=as_seen)
        await bob.receive()
        deliver = await there.ended("deliver Seen/{room}")
    assert context_of(deliver).trace_id == context_of(here.one("publish Seen/{room}")).trace_id
    (record,) = (record for record in caplog.records if record.getMessage() == "seen")
    assert vars(record)["span_id"] == trace.format_span_id(context_of(deliver).span_id)


async def test_what_is_published_to_a_topic_is_followed_to_who_subscribes():
    class Sensors(Channel):
        topics = True
        room_pattern = "hall/{number:int}"

    here, there = Traced(), Traced()
    bus, store = FaultyBroker(), FaultyStore()
    one, other = apps = FastAPI(), FastAPI()
    channels = Sensors(), Sensors()
    for app, channel, traced in zip(apps, channels, (here, there), strict=True):
        backend, view = bus.backend(), store.view().as_store
        add_channel(app, tracing=Tracing(traced.provider), backend=backend, store=view)
        channel.mount(app, "/{channel:path}")
    async with living(one), living(other), dial(other, "/hall/+") as bob:
        channels[0].bind(one)
        await channels[0].broadcast("hall/1", "said", 7)
        assert (await bob.receive())["data"] == 7
        deliver = await there.ended("deliver Sensors/{topic}")
    assert parent_of(deliver) == context_of(here.one("publish Sensors/{topic}")).span_id
    assert attributes_of(deliver)["fastapi_channels.recipients"] == 1


async def test_what_is_sent_to_one_connection_is_followed_to_its_process():
    here, there, nowhere = Traced(), Traced(), Traced()
    async with processes(here, there, nowhere) as (one, other, _), dial(other, "/rooms/a") as bob:
        (connection,) = node_of(other).rooms.connections.values()
        await node_of(one).send_to_connection(connection.id, '"hello"')
        assert await bob.receive() == "hello"
        deliver = await there.ended("deliver {connection}")
    assert parent_of(deliver) == context_of(here.one("publish {connection}")).span_id
    assert nowhere.names == []


def test_what_a_stranger_puts_into_the_broker_is_a_publication_all_the_same():
    for hostile in ("7", "null", "[]", '"' + 600 * "x" + '"'):
        text = f'{MARK}{{"kind":"","traceparent":{hostile},"tracestate":{hostile}}}\nbody'
        assert PLAIN.unpack("topic", text) == Publication("topic", "body")


async def test_a_hostile_trace_in_the_broker_is_not_taken(traced: Traced, caplog: pytest.LogCaptureFixture):
    app = application(traced)
    async with living(app), dial(app, "/rooms/a") as wire:
        for hostile in ("no trace", SAMPLED + ";", 512 * "0"):
            await node_of(app).broker.publish(Publication("a", '"x"', traceparent=hostile, tracestate="\n"))
            assert await wire.receive() == "x"
    assert traced.names == ["connect /rooms/{channel}"]
    assert caplog.records == []


@required(RedisServer)
async def test_over_redis_from_a_script_into_two_processes(shared_redis: RedisServer):
    """The publisher is in this process, and the history's publications go by way of the store."""
    namespace = unique("traced") + ":"
    environment = {"REDIS_URL": shared_redis.url, "NAMESPACE": namespace}
    served = [
        process("tests.operations.traced:create_app", "--factory", environment=environment) for _ in range(2)
    ]
    async with AsyncExitStack() as stack:
        both = [await stack.enter_async_context(each) for each in served]
        for number, (path, channel) in enumerate((("/rooms/a", None), ("/kept/b", Kept))):
            here = Traced()
            clients = [await stack.enter_async_context(each.site.connect(path)) for each in both]
            publisher = Publisher(shared_redis.url, namespace=namespace, tracing=Tracing(here.provider))
            async with publisher:
                with here.tracer.start_as_current_span("a request"):
                    await publisher.broadcast(path[-1], "said", "hello", channel=channel)
            for client in clients:
                await client.receive_until(lambda frame: frame.get("event") == "said")
            publish, outer = here.one("publish {room}"), here.one("a request")
            assert parent_of(publish) == context_of(outer).span_id
            for each in both:
                await wait_until(
                    lambda lines=each.lines, number=number: spans_in(lines, "deliver {room}")[number:]
                )
                (deliver,) = spans_in(each.lines, "deliver {room}")[number:]
                assert int(deliver["context"]["trace_id"], 16) == context_of(outer).trace_id
                assert int(deliver["parent_id"], 16) == context_of(publish).span_id


def spans_in(lines: list[str], name: str) -> list[Any]:
    """Of those that a process has written."""
    spans = [json.loads(line.removeprefix(SPAN)) for line in lines if line.startswith(SPAN)]
    return [span for span in spans if span["name"] == name]


# Those who only publish


def test_a_publisher_without_an_event_loop_carries_the_context_too(traced: Traced):
    """As in a Celery worker."""
    spans, found = Tracing(traced.provider).observer, []
    with traced.tracer.start_as_current_span("a task") as outer:
        publication = spans.publishing(Publication("a", "x"), "a")
        spans.published(publication, 0.0, None)
        found.append(outer.get_span_context())
    assert publication.traceparent.split("-")[1] == trace.format_trace_id(found[0].trace_id)
    assert parent_of(traced.one("publish {room}")) == found[0].span_id


@required(RedisServer)
async def test_a_sync_publisher_sends_within_the_span_of_its_caller(
    traced: Traced, shared_redis: RedisServer
):
    def work() -> int:
        with (
            SyncPublisher(shared_redis.url, tracing=Tracing(traced.provider)) as publisher,
            traced.tracer.start_as_current_span("a task") as outer,
        ):
            publisher.broadcast(unique(), "said")
            return outer.get_span_context().span_id

    task = await asyncio.to_thread(work)
    assert parent_of(traced.one("publish {room}")) == task


# Beside other instrumentations


@asynccontextmanager
async def instrumented(traced: Traced, **options: Any) -> AsyncIterator[tuple[FastAPI, Site, Client]]:
    app = application(traced)
    FastAPIInstrumentor.instrument_app(app, tracer_provider=traced.provider, **options)
    async with serving(app) as site, site.connect("/rooms/a") as client:
        yield app, site, client


def streams(site: Site) -> Iterator[Any]:
    return (each for each in site.node.sessions if isinstance(each, StreamSession))


def has_port(site: Site) -> bool:
    return all(isinstance(each, Session) and each.writer.port for each in site.node.sessions)


async def test_an_instrumentation_around_send_is_named_once(traced: Traced, caplog: pytest.LogCaptureFixture):
    async with instrumented(traced, exclude_spans=["receive", "send"]) as (_, site, client):
        await client.call("plain")
        async with site.connect("/rooms/b"):
            assert not has_port(site)
    (told,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert f"excluded_urls={WEBSOCKETS!r}" in told
    assert traced.one("Room/plain").parent is None, "it is in no trace as long as the connection"


@pytest.mark.direct
async def test_what_the_warning_says_gives_the_port_back(traced: Traced, caplog: pytest.LogCaptureFixture):
    async with instrumented(traced, excluded_urls=WEBSOCKETS) as (_, site, client):
        await client.call("plain")
        assert has_port(site)
    assert sorted(traced.names) == ["Room/plain", "connect /rooms/{channel}", "in a thread"]
    assert caplog.records == []


async def test_what_the_warning_says_leaves_calls_by_post_in_their_requests(traced: Traced):
    async with (
        instrumented(traced, excluded_urls=WEBSOCKETS) as (_, site, _),
        site.client() as http,
    ):
        assert (await http.post("/rooms/a/actions/plain", json={})).is_success
        request = await traced.ended("POST /rooms/{channel}/actions/plain")
    assert parent_of(traced.one("Room/plain")) == context_of(request).span_id


@pytest.mark.direct
async def test_streams_are_left_out_by_how_their_path_ends(traced: Traced):
    async with (
        instrumented(traced, excluded_urls=f"{WEBSOCKETS},/events$") as (_, site, _),
        listening(site, "/rooms/a/events") as stream,
    ):
        await site.node.publish("a", '"x"')
        assert (await stream.next()).data == '"x"'
        assert all(each.writer._server for each in streams(site)), "it is written past ASGI"
    assert "GET /rooms/{channel}/events" not in traced.names


@pytest.mark.direct
async def test_fastapi_s_own_telemetry_leaves_the_port(traced: Traced):
    app = FastAPI(telemetry={"tracer_provider": traced.provider})
    add_channel(app, tracing=Tracing(traced.provider))
    Room(traced).mount(app, "/rooms/{channel}", sse=True)
    async with serving(app) as site, site.connect("/rooms/a") as client:
        await client.call("plain")
        assert has_port(site)
        async with listening(site, "/rooms/a/events") as stream:
            await site.node.publish("a", '"x"')
            assert (await stream.next()).data == '"x"'
            assert all(each.writer._server for each in streams(site)), "it is written past ASGI"
    assert traced.one("Room/plain").parent is None
