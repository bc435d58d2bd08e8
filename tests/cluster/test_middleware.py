"""What stands around an application: a route that its broker lets down is answered 503."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.responses import JSONResponse, Response, StreamingResponse

from fastapi_channels import BrokerUnavailable, Channel, add_channel
from fastapi_channels.exceptions import NotFound, RateLimitExceeded, Unauthenticated, WebSocketException
from fastapi_channels.stores import StoreUnavailable


@pytest.mark.parametrize("mounted", [False, True])
@pytest.mark.parametrize("handled", [False, True])
async def test_a_route_without_its_broker_answers_503(handled: bool, mounted: bool):
    app = outer = FastAPI()
    if mounted:
        # Of the outer one's own middleware too: what this one passes on comes in other pieces.
        outer = FastAPI(middleware=[Middleware(BaseHTTPMiddleware, dispatch=passed_on)])
        outer.mount("/inner", app)
    add_channel(outer)

    @app.post("/bid")
    async def bid() -> None:
        raise BrokerUnavailable("away")

    if handled:

        @app.exception_handler(ConnectionError)
        async def own(request: Any, exc: Exception) -> JSONResponse:
            return JSONResponse({}, 418)

    transport = httpx.ASGITransport(outer)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        answer = await client.post("/inner/bid" if mounted else "/bid")
    assert answer.status_code == (418 if handled else 503)
    assert handled or answer.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (
            ExceptionGroup("two", [BrokerUnavailable("away"), ExceptionGroup("", [StoreUnavailable("too")])]),
            503,
        ),
        (ExceptionGroup("two", [BrokerUnavailable("away"), ValueError("something else")]), 500),
    ],
)
async def test_a_task_group_that_fails_for_that_alone_is_answered_alike(raised: Exception, status: int):
    app = FastAPI()
    add_channel(app)

    @app.post("/bid")
    async def bid() -> None:
        raise raised

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        assert (await client.post("/bid")).status_code == status


@pytest.mark.parametrize(
    ("raised", "status"),
    [(NotFound(), 404), (RateLimitExceeded(retry_after=1.5), 429), (Unauthenticated(), 401)],
)
@pytest.mark.parametrize("mounted", [False, True])
async def test_what_is_meant_for_a_client_is_so_in_a_route_too(
    raised: WebSocketException, status: int, mounted: bool
):
    app = outer = FastAPI()
    if mounted:
        outer = FastAPI()
        outer.mount("/inner", app)
    add_channel(outer)

    @app.post("/bid")
    async def bid() -> None:
        raise raised

    transport = httpx.ASGITransport(outer)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        answer = await client.post("/inner/bid" if mounted else "/bid")
    assert (answer.status_code, answer.json()) == (status, {"detail": raised.message()})
    assert answer.headers.get("retry-after") == ("2" if status == 429 else None)
    assert answer.headers.get("www-authenticate") == ("Bearer" if status == 401 else None)


async def test_a_room_that_cannot_be_is_a_bad_request():
    app = FastAPI()
    add_channel(app)
    room = Channel()

    @app.post("/{name}")
    async def announce(name: str) -> None:
        await room.broadcast(name, "announced")

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        assert (await client.post("/" + "x" * 256)).status_code == 400


async def test_what_the_application_makes_of_an_outage_is_its_own():
    app = FastAPI()
    add_channel(app)

    @app.post("/bid")
    async def bid() -> None:
        try:
            raise BrokerUnavailable("away")
        except BrokerUnavailable as exc:
            raise RuntimeError("mine") from exc

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        with pytest.raises(RuntimeError, match="mine"):
            await client.post("/bid")


async def test_a_handler_around_a_mounted_application_comes_too_late():
    """That one has begun its 500 before it raises."""
    outer, inner = FastAPI(), FastAPI()
    outer.mount("/inner", inner)
    add_channel(outer)

    @inner.post("/bid")
    async def bid() -> None:
        raise BrokerUnavailable("away")

    @outer.exception_handler(BrokerUnavailable)
    async def own(request: Any, exc: Exception) -> JSONResponse:
        return JSONResponse({}, 418)

    transport = httpx.ASGITransport(outer)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        assert (await client.post("/inner/bid")).status_code == 503


async def passed_on(request: Request, next: RequestResponseEndpoint) -> Response:
    return await next(request)


async def test_any_other_failure_of_a_route_is_answered_as_it_was():
    outer, inner = FastAPI(), FastAPI()
    outer.mount("/inner", inner)
    add_channel(outer)

    @inner.get("/fails")
    async def fails() -> None:
        raise LookupError

    @outer.get("/long")
    async def long() -> StreamingResponse:
        return StreamingResponse(iter("abc"), 500)

    transport = httpx.ASGITransport(outer, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        failed, streamed = await client.get("/inner/fails"), await client.get("/long")
    assert (failed.status_code, failed.text) == (500, "Internal Server Error")
    assert (streamed.status_code, streamed.text) == (500, "abc")
