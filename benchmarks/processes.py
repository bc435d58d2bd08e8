"""Servers, a Redis and the load generator: started here, measured from outside, ended by their ids."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from .environments import Environments, Unavailable
from .systems import System

HERE: Final = Path(__file__).parent
START_TIMEOUT: Final = 30
STOP_TIMEOUT: Final = 8
LOAD_TIMEOUT: Final = 150
TICKS: Final = os.sysconf("SC_CLK_TCK")


class LoadFailed(Exception):
    """The load generator gave up; says why."""


# Cores


CORES: Final = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
"""The cores that may be used, where the platform lets a process choose."""


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Processes that are started inside run on `core` alone; None leaves them free."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def load_core() -> int | None:
    """Where the load generator and Redis run: the last core, away from the servers."""
    return CORES[-1] if len(CORES) > 1 else None


def server_core(number: int) -> int | None:
    free = CORES[:-1]
    return free[number % len(free)] if free else None


# Processes


@contextlib.contextmanager
def running(
    command: Sequence[str], *, log: Path, core: int | None, **options: Any
) -> Iterator[subprocess.Popen[Any]]:
    """A process that is ended, with its children, when the block is left."""
    with log.open("ab") as output, pinned(core):
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, **options)
    try:
        yield process
    finally:
        family = tree(process.pid)
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for child in family[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, 9)


@contextlib.contextmanager
def server(
    system: System, environments: Environments, *, number: int = 0, redis: str | None = None
) -> Iterator[tuple[int, int]]:
    """A system's server, on a port of its own: its process id and the port.

    Raises:
        Unavailable: it does not start.
    """
    bin, port = environments.bin(system), free_port()
    if "." in system.app:
        program = "node" if system.npm else str(bin / "python")
        command = [program, str(HERE / "apps" / system.app), str(port)]
    else:
        command = [str(bin / "uvicorn"), "--host", "127.0.0.1", "--port", str(port), "--loop", "uvloop"]
        command += ["--http", "httptools", "--backlog", "4096", "--no-access-log", "--log-level", "warning"]
        command += ["--ws", system.protocol] if system.protocol else []
        command += [f"{system.app}:app"]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    # It would stand before the system's own packages.
    environment.pop("PYTHONPATH", None)
    if redis is not None:
        environment["BROKER"] = redis
    if system.counted:
        environment["METRICS"] = "yes"
    if system.npm:
        environment["NODE_PATH"] = str(bin / "node_modules")
    log = environments.cache / f"{system.environment}.log"
    core = server_core(number)
    with running(command, log=log, core=core, cwd=HERE / "apps", env=environment) as process:
        wait_for(port, process, log)
        yield process.pid, port


@contextlib.contextmanager
def redis_server(cache: Path) -> Iterator[tuple[int, str]]:
    """A Redis of our own, without a disk: its process id and its URL."""
    program = shutil.which("redis-server")
    if program is None:
        raise Unavailable("there is no redis-server on PATH")
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        log = cache / "redis.log"
        with running([*command, "--dir", folder], log=log, core=load_core()) as process:
            wait_for(port, process, log)
            yield process.pid, f"redis://127.0.0.1:{port}"


def wait_for(port: int, process: subprocess.Popen[Any], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    tail = log.read_text(errors="replace").strip().splitlines()[-1:]
    raise Unavailable(f"it did not start: {''.join(tail)}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def tree(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in listing.read_text().split():
                found += tree(int(child))
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time that the processes have used, in all of their threads."""
    total = 0.0
    for pid in pids:
        for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                total += int(thread.read_text().split()[0]) / 1e9
    return total


def machine_seconds() -> float:
    """CPU time that the whole machine has used, also for others (user, nice, system, interrupts, stolen)."""
    with contextlib.suppress(OSError):
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        return sum(int(fields[place]) for place in (0, 1, 2, 5, 6, 7)) / TICKS
    return 0.0


def resident(pids: Iterable[int]) -> int:
    """Bytes of memory that the processes occupy."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return total


# The load generator


def compile_load(cache: Path) -> Path:
    """The load generator, compiled when it is first needed or its source has changed.

    Raises:
        Unavailable: there is no C compiler.
    """
    source, program = HERE / "load.c", cache / "load"
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return program
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        raise Unavailable(
            "the load generator needs a C compiler: cc, gcc or clang (Debian: apt-get install gcc)"
        )
    if not sys.platform.startswith("linux"):
        raise Unavailable("the load generator uses epoll, which only Linux has")
    subprocess.run([compiler, "-O2", "-o", str(program), str(source)], check=True, timeout=120)
    return program


def drive(program: Path, options: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Run the load generator, and yield what it says when it says it, with its process id as `pid`.

    Raises:
        LoadFailed: it could not go on.
    """
    command = [str(program), *(f"{key}={value}" for key, value in options.items() if value not in ("", None))]
    with pinned(load_core()):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "failed":
                raise LoadFailed(event["reason"])
            yield {**event, "pid": process.pid}
        if process.wait(LOAD_TIMEOUT) != 0:
            raise LoadFailed(f"it ended with {process.returncode}")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
