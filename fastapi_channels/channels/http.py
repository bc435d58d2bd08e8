"""The same channel without a WebSocket: the routes of its streams of events, and of its actions."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, Literal, NotRequired, cast

from fastapi import APIRouter, Body, FastAPI, Request
from fastapi.params import Depends
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from typing_extensions import TypedDict

from fastapi_channels.actions.spec import ActionSpec
from fastapi_channels.sessions.plan import CATCH_ALL
from fastapi_channels.signatures.dependencies import TOLD
from fastapi_channels.wire.messages import Envelope, RequestId
from fastapi_channels.wire.stream import MEDIA_TYPE, Exchange, Stream, spoken

from .mounting import check_taken, wanted_of

OF_PATH: Final = "{}{{"
"""In the name of an action, what a path would take for a parameter."""

SINCE: Final = [
    {
        "name": name,
        "in": where,
        "required": False,
        "schema": {"type": "string"},
        "description": "A position: what was published behind it comes first.",
    }
    for name, where in (("since", "query"), ("Last-Event-ID", "header"))
]
"""What a request for events may say beside what FastAPI reads."""


class Mounted:
    """Where one channel is reached over HTTP.

    Args:
        app: gets the routes.
        path: that of its WebSockets, which its other routes begin with.
        name: begins those of the routes.
        in_room: whether the path says which room is meant.
        user: a dependency whose value is who asks.
        dependencies: of each route.
    """

    def __init__(
        self,
        app: FastAPI | APIRouter,
        path: str,
        *,
        name: str,
        in_room: bool,
        user: Callable[..., Any] | None,
        dependencies: Sequence[Depends],
    ) -> None:
        self._router = app.router if isinstance(app, FastAPI) else app
        self._path = path.rstrip("/")
        self._name = name
        self._wanted = wanted_of(user, in_room=in_room)
        self._dependencies = dependencies

    def add_stream(self, serve: Callable[..., Awaitable[None]], envelope: Envelope, *, keeps: bool) -> None:
        """Let `serve` answer with events. It is called with the Stream, and what `wanted_of` says.

        Args:
            keeps: whether the room has a history, of which what was missed is recovered.
        """

        async def stream(scope: Scope, receive: Receive, send: Send, **wanted: Any) -> None:
            found = Stream(scope, receive, send, spoken(Headers(scope=scope).get("accept", "")))
            await serve(found, **wanted)
            await found.end()

        described = {
            "response_class": Served,
            "response_description": "What passes in the room",
            "responses": _refusals(_error(envelope), streams=True),
            "openapi_extra": {"parameters": SINCE} if keeps else None,
            "tags": [self._name],
        }
        self._add("events", self._endpoint(stream), ["GET"], name=f"{self._name}.events", **described)

    def add_actions(
        self, serve: Callable[..., Awaitable[None]], actions: Sequence[ActionSpec], envelope: Envelope
    ) -> None:
        """Let `serve` answer calls: called with the Exchange, the action's name, and what `wanted_of` says.

        Each of `actions` is described; any other name is served too, and is an error if nothing has it.
        """

        async def call(scope: Scope, receive: Receive, send: Send, action: str, **wanted: Any) -> None:
            exchange = Exchange(scope, receive, send)
            await serve(exchange, action, **wanted)
            await exchange.end()

        failure = _error(envelope)
        for spec in actions:
            if spec.name[-1] != CATCH_ALL and not set(OF_PATH) & set(spec.name):
                endpoint = self._endpoint(partial(call, action=spec.name), *_body_of(spec))
                self._add(
                    f"actions/{spec.name}",
                    endpoint,
                    ["POST"],
                    name=f"{self._name}.{spec.name}",
                    **_described(spec, envelope, failure, self._name),
                )
        action = inspect.Parameter("action", inspect.Parameter.KEYWORD_ONLY, annotation=str)
        self._add(
            "actions/{action:path}",
            self._endpoint(call, action),
            ["POST"],
            name=f"{self._name}.actions",
            include_in_schema=False,
        )

    def _endpoint(
        self, serve: Callable[..., Awaitable[None]], *more: inspect.Parameter
    ) -> Callable[..., Awaitable[Response]]:
        async def endpoint(request: Request, **wanted: Any) -> Response:
            wanted.pop("body", None)
            response = Served()
            response.serve = partial(serve, **wanted)
            return response

        request = inspect.Parameter("request", inspect.Parameter.KEYWORD_ONLY, annotation=Request)
        signature = inspect.Signature([request, *self._wanted, *more])
        endpoint.__signature__ = signature  # type: ignore[attr-defined]  # what FastAPI reads
        return endpoint

    def _add(self, path: str, endpoint: Callable[..., Any], methods: list[str], **described: Any) -> None:
        self._router.add_api_route(
            f"{self._path}/{path}",
            endpoint,
            methods=methods,
            dependencies=self._dependencies,
            route_class_override=Route,
            **described,
        )
        route = self._router.routes[-1]
        setattr(route, TOLD, True)  # what a dependency opens for one request closes with it
        check_taken(route, "websocket_param_name", "a WebSocket, and over HTTP there is none")


class Served(Response):
    """Answers a request as a session does."""

    media_type = MEDIA_TYPE
    serve: Callable[[Scope, Receive, Send], Awaitable[None]]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.serve(scope, receive, send)
        if self.background is not None:
            await self.background()


class Route(APIRoute):
    """Describes the body of a request, and does not read it: the session does, when it knows who asks."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        handle = super().get_route_handler()

        async def handle_unread(request: Request) -> Response:
            return await handle(_Unread(request.scope, request.receive))

        return handle_unread


class _Unread(Request):
    async def body(self) -> bytes:
        return b""


_typed_dict = cast("Callable[[str, dict[str, Any]], Any]", TypedDict)


def _body_of(spec: ActionSpec) -> list[inspect.Parameter]:
    """The parameter that stands for the action's fields, where it has any."""
    payload = spec.binding.payload_type if spec.binding is not None else None
    if payload is None:
        return []
    named = inspect.Parameter("body", inspect.Parameter.KEYWORD_ONLY, annotation=payload, default=Body(None))
    return [named]


def _described(spec: ActionSpec, envelope: Envelope, failure: Any, name: str) -> dict[str, Any]:
    """What FastAPI's document says of an action, whose errors are of the type `failure`."""
    needed = (
        spec.binding is not None and spec.binding.payload_type is not None and not spec.binding.may_be_empty
    )
    responses = _refusals(failure, streams=spec.is_stream)
    found: dict[str, Any] = {
        "summary": spec.summary or spec.name,
        "description": spec.description or "",
        "tags": list(spec.tags) or [name],
        "deprecated": spec.deprecated or spec.sunset is not None or None,
        "include_in_schema": spec.include_in_schema,
        "openapi_extra": {"requestBody": {"required": True}} if needed else None,
        "responses": responses,
    }
    if spec.is_stream:
        return {**found, "response_class": Served, "response_description": "A reply for each item"}
    responses[204] = {"description": "Done, and nothing to reply"}
    return {**found, "response_model": _reply(spec, envelope)}


def _refusals(failure: Any, *, streams: bool) -> dict[int | str, dict[str, Any]]:
    """What went wrong is said in JSON, also where the answer would be a stream: FastAPI is told so then."""
    said: dict[str, Any] = {"model": failure}
    if streams:
        said = {"content": {"application/json": {"schema": TypeAdapter(failure).json_schema()}}}
    return {"default": {"description": "What went wrong", **said}}


def _reply(spec: ActionSpec, envelope: Envelope) -> Any:
    fields = {
        envelope.type: Literal["response"],
        envelope.action: str,
        envelope.status: Literal["ok"],
        envelope.request_id: RequestId,
        envelope.data: Any if spec.response_model is None else spec.response_model,
    }
    return _typed_dict(f"{spec.name}_reply", fields)


def _error(envelope: Envelope) -> Any:
    fields = {
        envelope.type: Literal["response"],
        envelope.status: str | int,
        envelope.request_id: RequestId,
        envelope.data: Any,
        envelope.errors: Any,
        envelope.code: str,
        envelope.action: NotRequired[str],
    }
    return _typed_dict("error_frame", fields)
