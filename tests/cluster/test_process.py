"""The server around a node: told to end, it lets its clients go; and it says when its workers are islands.

With real processes: uvicorn alone, with workers and with `--reload`, gunicorn, FastAPI's command line, and a
program in which uvicorn is a part.
"""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from fastapi_channels.cluster.process import SAME
from tests.support.events import listening
from tests.support.live import DEADLINE, Client, RawClient, ServerProcess, Site, process, wait_until

APP: Final = "tests.cluster.served:app"
WORKERS: Final = ("--workers", "2")
MORE: Final = pytest.mark.fault
"""Of what is one test of many servers, the first is a plain test."""
TROUBLE: Final = re.compile(r"\b(ERROR|CRITICAL)\b|Traceback|Exception")


@asynccontextmanager
async def serving(*command: str, **how: Any) -> AsyncIterator[ServerProcess]:
    """A server that serves, with a worker that has said so: the process above the workers speaks before they
    do. However the block ends, no worker is left."""
    async with process(*command, **how) as server:
        try:
            await served(server.site)
            yield server
        finally:
            with suppress(ProcessLookupError):
                server.signal_all(signal.SIGKILL)


async def served(site: Site) -> None:
    async with asyncio.timeout(DEADLINE):
        while True:
            with suppress(OSError):
                async with site.connect("/tea"):
                    return
            await asyncio.sleep(0.02)


async def farewell(client: Client) -> None:
    """The client was told before it was closed, with the same words."""
    frame = await client.receive()
    assert frame["type"] == "drain"
    assert await client.closed() == (1012, f"restart; retry_after={frame['retry_after']:g}")


def trouble(server: ServerProcess) -> list[str]:
    return [line for line in server.lines if TROUBLE.search(line)]


@pytest.mark.parametrize(
    ("program", "options"),
    [
        ("uvicorn", ()),
        pytest.param("uvicorn", WORKERS, marks=MORE),
        pytest.param("gunicorn", (), marks=MORE),
        pytest.param("gunicorn", WORKERS, marks=MORE),
        pytest.param("fastapi", (), marks=MORE),
        pytest.param("fastapi", WORKERS, marks=MORE),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
async def test_sigterm_lets_the_clients_go_and_then_the_server_ends(program: str, options: tuple[str, ...]):
    async with serving(APP, *options, program=program) as server, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(server.site.connect("/tea")) for _ in range(30)]
        ending = asyncio.create_task(server.terminate())
        for client in clients:
            await farewell(client)
        assert await ending == 0
        assert trouble(server) == []


@pytest.mark.fault
@pytest.mark.parametrize("program", ["uvicorn", "gunicorn"])
async def test_a_signal_for_the_whole_group_drains_too(program: str):
    """A worker gets two then: its own, and that which its parent passes on."""
    async with serving(APP, *WORKERS, program=program) as server, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(server.site.connect("/tea")) for _ in range(100)]
        server.signal_all(signal.SIGTERM)
        for client in clients:
            await farewell(client)
        assert await server.terminate() == 0
        assert trouble(server) == []


async def test_sigterm_ends_the_calls_of_requests_within_their_time():
    async with (
        serving(APP) as server,
        listening(server.site, "/brief/tea/actions/count", method="POST") as events,
        server.site.client(timeout=DEADLINE) as http,
    ):
        assert (await events.next()).frame["data"] == 1
        asking = asyncio.create_task(http.post("/brief/tea/actions/work", json={}))
        await wait_until(lambda: "works\n" in server.lines)
        ending = asyncio.create_task(server.terminate())
        answer = await asking
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert float(answer.headers["retry-after"]) >= 1
        (told,) = await events.rest()
        assert (told.name, told.frame["code"]) == ("close", 1012)
        assert await ending == 0
        assert trouble(server) == []


async def test_a_later_sigterm_does_not_wait():
    options = ("--timeout-graceful-shutdown", "1")
    async with serving(APP, *options) as server, server.site.connect("/tea") as ada:
        await ada.send({"action": "work", "request_id": 1})
        server.signal(signal.SIGTERM)
        assert (await ada.receive())["type"] == "drain"
        await asyncio.sleep(SAME + 0.1)  # what comes earlier is the same one
        assert await server.terminate() == 0


async def test_two_nodes_in_a_process_are_drained_both():
    async with (
        serving("tests.cluster.served:create_two", "--factory") as server,
        server.site.clients("/tea", "/other/tea") as (ada, bob),
    ):
        ending = asyncio.create_task(server.terminate())
        await farewell(bob)
        await farewell(ada)
        assert await ending == 0
        assert trouble(server) == []


async def test_a_program_that_goes_on_is_told_of_the_signal():
    async with (
        serving("tests/cluster/served.py", program="script", environment={"PYTHONPATH": "."}) as server,
        server.site.connect("/tea") as ada,
    ):
        ending = asyncio.create_task(server.terminate())
        await farewell(ada)
        assert await ending == -signal.SIGTERM


RELOADED: Final = """
import asyncio
from fastapi import FastAPI
from fastapi_channels import Channel, action, add_channel

app = FastAPI()
add_channel(app)

class Room(Channel):
    @action()
    async def work(self) -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.sleep(1)
                raise

Room().mount(app, "/{channel}")

@app.get("/version")
async def version() -> int:
    return VERSION
"""


@pytest.mark.fault
async def test_reload_never_hangs(tmp_path: Path):
    """One client waits for an action that will not end, one does not read, and one answers no close."""
    module = tmp_path / "reloaded.py"

    def write(version: int) -> None:
        module.write_text(RELOADED.replace("VERSION", str(version)))

    async def version(site: Site) -> int | None:
        async with site.client(timeout=DEADLINE) as http:
            with suppress(httpx.TransportError):
                return int((await http.get("/version")).text)
        return None

    write(1)
    async with serving("reloaded:app", "--reload", folder=tmp_path) as server:
        # Of another length each time: what Python has compiled is told apart by seconds and size alone.
        for number in (22, 333):
            async with (
                server.site.connect("/tea") as ada,
                RawClient.open(server.site, "/tea", receive_buffer=4096),
                RawClient.open(server.site, "/tea"),
            ):
                await ada.send({"action": "work"})
                write(number)
                await farewell(ada)
                async with asyncio.timeout(2 * DEADLINE):
                    while await version(server.site) != number:
                        await asyncio.sleep(0.05)
        assert await server.terminate() == 0
        assert trouble(server) == []


@pytest.mark.parametrize(
    ("program", "options", "environment"),
    [
        ("uvicorn", WORKERS, {}),
        pytest.param("uvicorn", (), {"WEB_CONCURRENCY": "2"}, marks=MORE),
        pytest.param("gunicorn", WORKERS, {}, marks=MORE),
        pytest.param("fastapi", WORKERS, {}, marks=MORE),
    ],
    ids=["uvicorn", "environment", "gunicorn", "fastapi"],
)
async def test_memory_with_several_workers_is_said_once(
    program: str, options: tuple[str, ...], environment: dict[str, str]
):
    async with serving(APP, *options, program=program, environment=environment) as server:
        await wait_until(lambda: sum("startup complete" in line for line in server.lines) == 2)
        await server.terminate()
        told = [
            line for line in server.lines if "memory:// with 2 workers: each of them is an island" in line
        ]
        assert len(told) == 1
        assert sum(set(line.strip()) == {"!"} for line in server.lines) == 2, "nobody overlooks it"


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("uvicorn", (APP,)),
        pytest.param("gunicorn", (APP,), marks=MORE),
        pytest.param("uvicorn", (APP, "--reload"), marks=MORE),
        pytest.param("uvicorn", ("tests.cluster.served:create_shared", "--factory", *WORKERS), marks=MORE),
    ],
    ids=["uvicorn", "gunicorn", "reload", "a broker"],
)
async def test_whoever_has_one_worker_or_a_broker_is_not_warned(program: str, command: tuple[str, ...]):
    async with process(*command, program=program) as server:
        await wait_until(lambda: any("startup complete" in line for line in server.lines))
        await server.terminate()
        assert not any("island" in line for line in server.lines)
