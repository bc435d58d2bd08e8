"""Real servers for tests: each on a free port of the loopback, which it keeps when it is restarted.

Only processes that were started here are ever signalled, by their pid. Everything blocks, with a
deadline: inside a running event loop, use `asyncio.to_thread`.
"""

from __future__ import annotations

import io
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, TypeAlias, TypeVar
from urllib.parse import quote

import pytest

S = TypeVar("S", bound="Server")

DEADLINE = 10.0
"""Seconds in which a server must have come up, or gone."""
PORTS = range(20_000, 32_000)
WORKERS = 8
_given: set[int] = set()


class Server(ABC):
    """A server process; a context manager that starts and stops it."""

    binary: ClassVar[str]

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="fastapi-channels-")

    @property
    def folder(self) -> Path:
        """Where the server may write; kept until `stop`."""
        return Path(self._folder.name)

    @abstractmethod
    def command(self) -> Sequence[str]: ...

    @abstractmethod
    def answers(self) -> bool:
        """Whether the server serves now; raises OSError if it cannot be reached."""

    @classmethod
    def installed(cls) -> bool:
        return shutil.which(cls.binary) is not None

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server does not run"
        return self._process.pid

    def start(self) -> None:
        """Returns when the server serves."""
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(self.command(), stdout=output, stderr=output)
        wait_until(self._serves, f"{self.binary} serves port {self.port}")

    def kill(self) -> None:
        """kill -9; returns when the process is gone."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Start again after `kill`, on the same port."""
        self.start()

    def stop(self) -> None:
        """End the process, and remove what it wrote."""
        if self._process is not None:
            self.resume()
            self._end(signal.SIGTERM)
        self._folder.cleanup()

    def pause(self) -> None:
        """Make the server hang: its connections stay open, and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _serves(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            output = (self.folder / "output").read_text(errors="replace")
            raise RuntimeError(f"{self.binary} ended with {self._process.returncode}: {output[-2000:]}")
        try:
            return self.answers()
        except OSError:
            return False

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        assert process is not None, "the server does not run"
        process.send_signal(number)
        try:
            process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(DEADLINE)


class RedisServer(Server):
    """
    Args:
        options: of the command line, beside those for a server that writes nothing to the disk.
        password: that clients need.
    """

    binary = "redis-server"

    def __init__(self, *options: str, password: str = "") -> None:
        super().__init__()
        self._options = options
        self._password = password

    @property
    def url(self) -> str:
        user = f":{quote(self._password, safe='')}@" if self._password else ""
        return f"redis://{user}127.0.0.1:{self.port}/0"

    @property
    def socket_path(self) -> Path:
        return self.folder / "redis.sock"

    def command(self) -> Sequence[str]:
        return (
            *(self.binary, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
            *("--unixsocket", str(self.socket_path), "--save", "", "--appendonly", "no"),
            *(("--requirepass", self._password) if self._password else ()),
            *self._options,
        )

    def answers(self) -> bool:
        return self.ask("PING") == "PONG"

    def ask(self, *words: str) -> str:
        """What the server answers to a command, over a connection of its own."""
        address = ("127.0.0.1", self.port)
        with socket.create_connection(address, DEADLINE) as connection, connection.makefile("rwb") as stream:
            if self._password:
                _exchange(stream, "AUTH", self._password)
            return _exchange(stream, *words)

    def clients(self, kind: str) -> int:
        """How many connections of a type there are: `normal` or `pubsub`; not counting this one."""
        lines = self.ask("CLIENT", "LIST", "TYPE", kind).splitlines()
        return sum("cmd=client" not in line for line in lines)

    def channels(self) -> set[str]:
        """What somebody is subscribed to."""
        return set(self.ask("PUBSUB", "CHANNELS").splitlines())


class SentinelServer(RedisServer):
    """Knows where the server `main` is, and promotes its replica half a second after it is gone."""

    def __init__(self, main: RedisServer, quorum: int = 1) -> None:
        super().__init__()
        lines = (
            f"port {self.port}",
            "bind 127.0.0.1",
            f"sentinel monitor main 127.0.0.1 {main.port} {quorum}",
            "sentinel down-after-milliseconds main 500",
            "sentinel failover-timeout main 3000",
        )
        self._configuration = self.folder / "sentinel.conf"
        self._configuration.write_text("\n".join(lines))

    def command(self) -> Sequence[str]:
        return (self.binary, str(self._configuration), "--sentinel")


_Stream: TypeAlias = "io.BufferedRWPair[Any, Any]"


def _exchange(stream: _Stream, *words: str) -> str:
    packed = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
    stream.write(f"*{len(words)}\r\n{''.join(packed)}".encode())
    stream.flush()
    return _answer(stream)


def _answer(stream: _Stream) -> str:
    """A RESP2 answer as a text; a list as one line for each of its items."""
    line = stream.readline()
    kind, rest = line[:1], line[1:].strip()
    if kind == b"*":
        return "\n".join(_answer(stream) for _ in range(int(rest)))
    if kind == b"$":
        return stream.read(int(rest) + 2)[:-2].decode() if rest != b"-1" else ""
    return rest.decode()


def running(server: type[S], *options: Any) -> Iterator[S]:
    """For a fixture: a server while it is used; the test is skipped where it is not installed."""
    if not server.installed():
        pytest.skip(f"{server.binary} is not on PATH")
    with server(*options) as started:
        yield started


def required(server: type[Server]) -> pytest.MarkDecorator:
    """Skips a test where the server is not installed."""
    return pytest.mark.skipif(not server.installed(), reason=f"{server.binary} is not on PATH")


def free_port() -> int:
    """A port that nobody listens on, outside of the range that the kernel gives to clients.

    Inside of it, a client that tries to reconnect to a server that is down can be given the server's
    port as its own, connect to itself, and keep the server from coming back. Each worker of a test run that
    has several looks in a part of its own. No port is given twice: servers that belong together choose theirs
    before the first of them listens.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    first = PORTS.start + worker * (len(PORTS) // WORKERS)
    while True:
        port = random.randrange(first, first + len(PORTS) // WORKERS)  # noqa: S311 - not a secret
        if port in _given:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port


def wait_until(condition: Callable[[], bool], what: str, deadline: float = DEADLINE) -> None:
    ends = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > ends:
            raise TimeoutError(f"not within {deadline:g} s: {what}")
        time.sleep(0.01)
