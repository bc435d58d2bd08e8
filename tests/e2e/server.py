"""The example in a process of its own, which can be killed and started again."""

import asyncio
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]
STARTS_WITHIN = 20.0
STOPS_WITHIN = 5.0


class Server:
    """uvicorn with the example on a free port of the loopback interface.

    The port stays the same from one start to the next, so that browsers find the way back.
    """

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._process: asyncio.subprocess.Process | None = None
        self._log: asyncio.Task[None] | None = None
        self.lines: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    async def start(self) -> None:
        """Returns when the port is open.

        Raises:
            AssertionError: it ended before, or took too long; carries what it wrote.
        """
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "uvicorn", "example.main:app"),
            *("--port", str(self.port), "--timeout-graceful-shutdown", "1"),
            cwd=ROOT,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        ready = asyncio.Event()
        self._log = asyncio.create_task(self._read(ready))
        with suppress(TimeoutError):
            await asyncio.wait_for(ready.wait(), STARTS_WITHIN)
        assert any("Uvicorn running" in line for line in self.lines), "".join(self.lines)

    async def _read(self, ready: asyncio.Event) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self.lines.append(line.decode(errors="replace"))
            if b"Uvicorn running" in line:
                ready.set()
        ready.set()

    async def kill(self) -> None:
        """Ends it without a word to its clients, as a crash does."""
        await self._end("kill")

    async def stop(self) -> None:
        await self._end("terminate")

    async def _end(self, how: str) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            getattr(process, how)()
        try:
            await asyncio.wait_for(process.wait(), STOPS_WITHIN)
        except TimeoutError:
            process.kill()
            await process.wait()
        assert self._log is not None
        await self._log
