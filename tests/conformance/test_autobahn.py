"""A room that relays, before the fuzzing client of the Autobahn test suite.

It runs on Python 2.7 only, so it is not a dependency: CONTRIBUTING says how to install it.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from fastapi import FastAPI, WebSocket

from fastapi_channels import BaseChannel, add_channel
from tests.support import live
from tests.support.live import serving, unique

WSTEST: Final = shutil.which("wstest")

pytestmark = [
    pytest.mark.fault,  # for it is long
    pytest.mark.skipif(WSTEST is None, reason="wstest of the Autobahn test suite is not on PATH"),
    pytest.mark.usefixtures("both_ways"),
]

PROTOCOL: Final = [f"{category}.*" for category in (1, 2, 3, 4, 5, 6, 7, 9, 10)]
COMPRESSION: Final = [
    f"{category}.{size}" for category in ("12.1", "12.5", "13.2", "13.7") for size in (1, 5, 9, 11)
]
"""Small and large messages, whole and in fragments; the other categories have other kinds of content, and
windows that uvicorn does not negotiate."""
PASSED: Final = {"OK", "NON-STRICT", "INFORMATIONAL"}
NOT_OURS: Final = {"7.1.5"}
"""A close amid a message: `websockets`, of which uvicorn's protocol is made, answers it with 1002."""


class Relay(BaseChannel):
    max_message_size = 16 * 1024 * 1024
    outbox_limit = 4 * max_message_size


def make_app() -> FastAPI:
    app = FastAPI()
    add_channel(app)
    relay = Relay()

    @app.websocket("/")
    async def echo(websocket: WebSocket) -> None:
        await relay.connect(websocket, unique())

    return app


async def verdicts(port: int, cases: Sequence[str], folder: Path) -> dict[str, dict[str, Any]]:
    """What the fuzzing client says of each case."""
    spec = {
        "servers": [{"agent": "relay", "url": f"ws://127.0.0.1:{port}/"}],
        "options": {"failByDrop": False},
        "outdir": str(folder / "report"),
        "cases": cases,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    assert WSTEST is not None
    process = await asyncio.create_subprocess_exec(
        *(WSTEST, "--mode", "fuzzingclient", "--spec", str(folder / "spec.json")),
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(500):
            log, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, log.decode()
    found: dict[str, dict[str, Any]] = json.loads((folder / "report" / "index.json").read_text())["relay"]
    return found


@pytest.mark.parametrize(
    ("ws", "cases", "count"),
    [("auto", PROTOCOL, 301), (live.PROTOCOL, PROTOCOL, 301), ("auto", COMPRESSION, 16)],
    ids=["protocol", "own protocol", "compression"],
)
async def test_the_fuzzing_client_finds_nothing(
    ws: str, cases: list[str], count: int, tmp_path: Path
) -> None:
    async with serving(make_app(), ws=ws) as site:
        found = await verdicts(site.port, cases, tmp_path)
    failed = {
        case: verdict
        for case, verdict in found.items()
        if not {verdict["behavior"], verdict["behaviorClose"]} <= PASSED
    }
    assert failed.keys() <= NOT_OURS, failed
    assert len(found) == count
