"""Routes for channels: an endpoint that FastAPI calls, or none where it has nothing to resolve."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, FastAPI, WebSocket
from fastapi.dependencies.models import Dependant
from fastapi.params import Depends
from fastapi.routing import APIWebSocketRoute
from starlette.types import Receive, Scope, Send

from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.wire.rooms import names_in

SERVES: Final = "__fastapi_channels_serves__"
"""Where an endpoint has the channel, or the socket, that it was made for."""


def add_route(
    app: FastAPI | APIRouter,
    path: str,
    owner: Any,
    connect: Callable[..., Awaitable[None]],
    *,
    name: str,
    in_room: bool,
    user: Callable[..., Any] | None,
    options: Mapping[str, Any],
) -> None:
    """Let `connect` serve the WebSockets of `path`.

    Args:
        owner: the channel, or the socket, that serves.
        connect: called with the websocket, and with what the next two ask for.
        in_room: whether it takes the path parameter `channel`.
        user: a dependency whose value it takes as `user`.
        options: those of `app.websocket()`.
    """
    if path and not path.startswith("/"):
        raise ConfigurationError(f"a path begins with a slash: mount({'/' + path!r}), not {path!r}")
    endpoint = _endpoint(connect, user, in_room=in_room)
    setattr(endpoint, SERVES, owner)
    app.add_api_websocket_route(path, endpoint, name, **options)
    check_taken(app.routes[-1], "request_param_name", "a Request, and a WebSocket has none")

    def serve(websocket: WebSocket) -> Awaitable[None]:
        wanted = {"channel": websocket.path_params["channel"]} if in_room else {}
        return connect(websocket, **wanted)

    _shorten(app, serve)


def check_taken(route: Any, attribute: str, what: str) -> None:
    """
    Args:
        attribute: of a `Dependant`, the parameter that takes what its request cannot give: `what`, in words.

    Raises:
        ConfigurationError: a dependency of the route has one.
    """
    for dependant in _all_of(getattr(route, "dependant", None)):
        if getattr(dependant, attribute):
            name = getattr(dependant.call, "__name__", dependant.call)
            raise ConfigurationError(f"{name} takes {what}: let it take an HTTPConnection")


def _all_of(dependant: Dependant | None) -> Iterator[Dependant]:
    if dependant is not None:
        yield dependant
        for sub in dependant.dependencies:
            yield from _all_of(sub)


def names_room(path: str, pattern: str | None) -> bool:
    """Whether the path says which room of those of `pattern` is meant.

    Raises:
        ConfigurationError: the path has parameters, and none of them is `channel`.
    """
    names = names_in(path)
    if names and "channel" not in names:
        whole = "" if pattern is None else f", which is the whole name of one of room_pattern = {pattern!r}"
        raise ConfigurationError(
            f"mount({path!r}) would put everybody into one room: call the parameter that names it "
            f"{{channel}}{whole}; or write an endpoint, and call connect() with the name"
        )
    return bool(names)


def _endpoint(
    connect: Callable[..., Awaitable[None]], user: Callable[..., Any] | None, *, in_room: bool
) -> Callable[..., Awaitable[None]]:
    """A FastAPI endpoint that calls `connect`."""

    async def endpoint(websocket: WebSocket, **wanted: Any) -> None:
        await connect(websocket, **wanted)

    websocket = inspect.Parameter("websocket", inspect.Parameter.KEYWORD_ONLY, annotation=WebSocket)
    signature = inspect.Signature([websocket, *wanted_of(user, in_room=in_room)])
    endpoint.__signature__ = signature  # type: ignore[attr-defined]  # what FastAPI reads
    return endpoint


def wanted_of(user: Callable[..., Any] | None, *, in_room: bool) -> list[inspect.Parameter]:
    """What a route gives to its channel beside the request: `channel`, the room of the path, and `user`, the
    value of that dependency, where these are wanted."""
    wanted: dict[str, Any] = {"channel": str} if in_room else {}
    if user is not None:
        wanted["user"] = Annotated[Any, Depends(user)]
    kind = inspect.Parameter.KEYWORD_ONLY
    return [inspect.Parameter(name, kind, annotation=annotation) for name, annotation in wanted.items()]


def _shorten(app: FastAPI | APIRouter, serve: Callable[[WebSocket], Awaitable[None]]) -> None:
    """Let the route that was added last call `serve` itself, if FastAPI has nothing to resolve for it.

    What FastAPI holds for dependencies, three coroutines and two exit stacks, is a sixth of the memory of
    an idle connection. A router may still be included with dependencies: its routes stay as they are.
    """

    def direct(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return serve(WebSocket(scope, receive, send))

    route = app.routes[-1]
    if isinstance(app, FastAPI) and isinstance(route, APIWebSocketRoute) and not route.dependant.dependencies:
        route.app = direct
