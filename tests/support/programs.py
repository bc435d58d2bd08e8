"""Programs that a test speaks with over pipes."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from . import forks
from .live import DEADLINE, ROOT, stream


class Running(NamedTuple):
    process: forks.Program
    stdout: asyncio.StreamReader
    stderr: asyncio.StreamReader

    async def wait(self) -> int:
        return await asyncio.to_thread(self.process.wait, DEADLINE)


@asynccontextmanager
async def program(
    *command: str,
    cwd: Path = ROOT,
    env: dict[str, str] | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: int | None = None,
) -> AsyncIterator[Running]:
    """A program that is killed with the block.

    Args:
        env: beside this process's own environment.
        stdout: a descriptor, instead of a pipe.
    """
    (out, writes_out), (err, writes_err) = os.pipe(), os.pipe()
    process = await asyncio.to_thread(
        forks.start,
        command,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=stdin,
        stdout=writes_out if stdout is None else stdout,
        stderr=writes_err,
    )
    os.close(writes_out)
    os.close(writes_err)
    running = Running(process, await stream(out), await stream(err))
    try:
        yield running
    finally:
        process.kill()
        await running.wait()
        await asyncio.gather(running.stdout.read(), running.stderr.read())
