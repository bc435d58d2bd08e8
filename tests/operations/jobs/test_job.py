"""What makes a function a job, which jobs an application has, and what they may take."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Body, Depends, FastAPI, Header, Request, WebSocket
from starlette.requests import HTTPConnection

from fastapi_channels import (
    BaseChannel,
    Channel,
    ConfigurationError,
    Connection,
    Socket,
    action,
    add_channel,
    cron,
    current_connection,
    current_message,
    every,
)
from fastapi_channels.operations.jobs.job import TIMEOUT, job_of, jobs_of
from fastapi_channels.testing.asgi import living


class Room(Channel):
    @every(seconds=60)
    async def tick(self) -> None: ...

    @cron("0 3 * * *", name="nightly")
    def clean(self) -> None: ...

    @staticmethod
    @every(seconds=60)
    async def alone() -> None: ...

    @classmethod
    @every(seconds=60)
    async def shared(cls) -> None: ...

    @action()
    async def say(self) -> None: ...


class Small(Room):
    def clean(self) -> None:
        """An override that is not marked takes the job away."""


@every(seconds=60)
async def sweep() -> None: ...


def names(app: Any, *functions: Callable[..., Any]) -> list[str]:
    return [job.name for job in jobs_of(app, map(job_of, functions))]


def test_a_decorated_function_is_the_function():
    assert Room.tick.__name__ == "tick"
    assert sweep.__module__ == __name__


def test_an_application_has_the_jobs_of_what_it_serves():
    app, router, room = FastAPI(), APIRouter(prefix="/more"), Room()
    room.mount(app, "/rooms/{channel}")
    room.mount(app, "/again/{channel}")
    Socket(Small()).mount(router, "/socket")
    app.include_router(router)
    assert names(app, sweep, room.tick) == [
        *("sweep", "Room.tick", "nightly", "alone", "Room.shared", "Small.tick", "Small.shared")
    ]


def test_an_endpoint_that_is_written_by_hand_serves_a_channel_too():
    app, room = FastAPI(), Room()

    @app.websocket("/{name}")
    async def endpoint(websocket: WebSocket, name: str) -> None:
        await room.connect(websocket, channel=name)

    assert names(app)[0] == "Room.tick"


def test_two_of_one_name_are_refused():
    app = FastAPI()
    Room().mount(app, "/a/{channel}")
    Room().mount(app, "/b/{channel}")
    with pytest.raises(ConfigurationError, match=r"two jobs are named 'Room\.tick'"):
        names(app)


async def test_they_are_found_when_the_application_starts():
    app = FastAPI()
    add_channel(app)
    Room().mount(app, "/a/{channel}")
    Room().mount(app, "/b/{channel}")
    with pytest.raises(ConfigurationError, match="two jobs are named"):
        async with living(app):
            pass


@pytest.mark.parametrize("broker", ["nats://127.0.0.1:1"])
async def test_a_broker_without_a_store_is_refused(broker: str):
    app = FastAPI()
    add_channel(app, url=broker, jobs=[sweep])
    with pytest.raises(ConfigurationError, match="the job 'sweep' needs a store that all processes share"):
        async with living(app):
            pass


async def plain() -> None: ...


@pytest.mark.parametrize("given", [plain, "sweep", None])
def test_what_is_no_job_is_refused_at_once(given: Any):
    with pytest.raises(ConfigurationError, match=r"jobs= takes functions that are marked"):
        add_channel(FastAPI(), jobs=[given])


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"name": ""}, "name of every"),
        ({"name": "x" * 129}, "name of every"),
        ({"jitter": -1}, "jitter of every"),
        ({"jitter": 60}, "less than the 60 seconds between two ticks"),
        ({"timeout": 0}, "timeout of every"),
        ({"timeout": None}, "timeout of every"),
    ],
)
def test_an_option_that_cannot_work_is_refused(options: dict[str, Any], problem: str):
    with pytest.raises(ConfigurationError, match=problem):
        every(seconds=60, **options)


def test_one_function_is_one_job():
    with pytest.raises(ConfigurationError, match="is a job already"):
        every(seconds=5)(sweep)


def test_what_has_no_name_needs_one():
    class Called:
        async def __call__(self) -> None: ...

    with pytest.raises(ConfigurationError, match="has no name of its own"):
        job_of(every(seconds=1)(Called()))
    assert job_of(every(seconds=1, name="called")(Called())).name == "called"


# What it takes


async def of_a_request(token: Annotated[str, Header()]) -> str:
    return token


async def of_the_application(connection: HTTPConnection) -> Any:
    return connection.app


async def takes_all(
    due: datetime, app: Annotated[Any, Depends(of_the_application)], *rest: Any, more: int = 1, **others: Any
) -> None: ...


async def of_a_client(connection: Annotated[Connection, Depends(current_connection)]) -> None: ...
async def of_a_message(message: Annotated[Any, Depends(current_message)]) -> None: ...
async def of_a_websocket(websocket: WebSocket) -> None: ...
async def of_a_body(text: Annotated[str, Body()]) -> None: ...
async def of_http(request: Request) -> None: ...


def test_what_needs_no_client_can_be_taken():
    assert job_of(every(seconds=1)(takes_all)).mark.timeout == TIMEOUT


@pytest.mark.parametrize(
    ("dependency", "problem"),
    [
        (of_a_request, "the parameter 'token' of .* is of a request, and there is none"),
        (of_a_body, "the parameter 'text' of .* is of a request"),
        (of_a_websocket, "the parameter 'websocket' of .* is of a request"),
        (of_a_client, "current_connection is for what is done for a client, and there is none"),
        (of_a_message, "current_message is for what actions depend on"),
        (
            of_http,
            "the parameter 'request' of .* is of a request, and there is none; .* HTTPConnection",
        ),
    ],
)
def test_what_needs_a_client_is_refused_by_name(dependency: Callable[..., Any], problem: str):
    async def job(found: Annotated[Any, Depends(dependency)]) -> None: ...

    job.__annotations__["found"] = Annotated[Any, Depends(dependency)]
    with pytest.raises(ConfigurationError, match=problem):
        job_of(every(seconds=1)(job))


def test_a_parameter_that_nothing_is_known_for_is_refused_by_name():
    async def job(text: str) -> None: ...

    with pytest.raises(ConfigurationError, match=r"the parameter 'text' of the job .* cannot be bound"):
        job_of(every(seconds=1)(job))


def test_a_relay_may_have_jobs():
    class Relay(BaseChannel):
        @every(seconds=1)
        async def beat(self) -> None: ...

    app = FastAPI()
    Relay().mount(app, "/{channel}")
    assert names(app) == ["Relay.beat"]
