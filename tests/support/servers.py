"""Real servers for tests: each on a free port of the loopback, which it keeps when it is restarted.

Only processes that were started here are ever signalled, by their pid. Everything blocks, with a
deadline: inside a running event loop, use `asyncio.to_thread`.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Self, TypeAlias, TypeVar
from urllib.parse import quote

import pytest

from . import forks

S = TypeVar("S", bound="Server")

DEADLINE = 60.0
"""Seconds in which a server must have come up, unless it has a deadline of its own, or gone."""
PORTS = range(20_000, 32_000)
WORKERS = 8
_given: set[int] = set()


class Server(ABC):
    """A server process; a context manager that starts and stops it."""

    binary: ClassVar[str]
    deadline: ClassVar[float] = DEADLINE
    """Seconds in which it must have come up."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process: forks.Program | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="fastapi-channels-")

    @property
    def folder(self) -> Path:
        """Where the server may write; kept until `stop`."""
        return Path(self._folder.name)

    @property
    def cwd(self) -> Path | None:
        """The folder that it runs in; None: the one that the tests run in."""
        return None

    @abstractmethod
    def command(self) -> Sequence[str]: ...

    @abstractmethod
    def answers(self) -> bool:
        """Whether the server serves now; raises OSError if it cannot be reached."""

    def environment(self) -> dict[str, str]:
        """What is added to the environment of the process."""
        return {}

    @classmethod
    def path(cls) -> str | None:
        """The program, where it is installed."""
        return shutil.which(cls.binary)

    @classmethod
    def installed(cls) -> bool:
        return cls.path() is not None

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server does not run"
        return self._process.pid

    def start(self) -> None:
        """Returns when the server serves."""
        with (self.folder / "output").open("ab") as output:
            environment = {**os.environ, **self.environment()}
            self._process = forks.start(
                self.command(),
                stdout=output.fileno(),
                stderr=output.fileno(),
                env=environment,
                cwd=self.cwd,
            )
        wait_until(self._serves, f"{self.binary} serves port {self.port}", self.deadline)

    def kill(self) -> None:
        """kill -9; returns when the process is gone, and those that it has started."""
        started = descendants(self.pid)
        self._end(signal.SIGKILL)
        for pid in started:
            _signal(pid, signal.SIGKILL)
        wait_until(lambda: not any(map(_lives, started)), f"all of {self.binary} has ended")

    def restart(self) -> None:
        """Start again after `kill`, on the same port."""
        self.start()

    def stop(self) -> None:
        """End the process, and remove what it wrote."""
        if self._process is not None:
            self.resume()
            self.end()
        self._folder.cleanup()

    def end(self) -> None:
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Make the server hang: its connections stay open, and nothing is answered."""
        pids = (self.pid, *descendants(self.pid))
        for pid in pids:
            _signal(pid, signal.SIGSTOP)
        wait_until(lambda: all(map(_stands_still, pids)), "it stands still")

    def resume(self) -> None:
        for pid in (self.pid, *descendants(self.pid)):
            _signal(pid, signal.SIGCONT)

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
        """What the server answers to a command, over a connection of its own.

        It is asked again when it cuts the connection, as one that is made a master does with all it has.
        """
        for _ in range(10):
            with suppress(ConnectionResetError, BrokenPipeError):
                return self._ask(words)
        return self._ask(words)

    def replicate(self) -> None:
        """Return when a replica has all that this server has taken."""
        # WAIT speaks of what its own connection has seen: of nothing, on one that has asked nothing before.
        assert int(self._ask(("PING",), ("WAIT", "1", "5000"))) >= 1, "no replica follows"

    def _ask(self, *commands: Sequence[str]) -> str:
        """What the server answers to the last of `commands`."""
        address = ("127.0.0.1", self.port)
        with socket.create_connection(address, DEADLINE) as connection, connection.makefile("rwb") as stream:
            if self._password:
                _exchange(stream, "AUTH", self._password)
            return [_exchange(stream, *words) for words in commands][-1]

    def clients(self, kind: str) -> int:
        """How many connections of a type there are: `normal` or `pubsub`; not counting this one."""
        lines = self.ask("CLIENT", "LIST", "TYPE", kind).splitlines()
        return sum("cmd=client" not in line for line in lines)

    def channels(self) -> set[str]:
        """What somebody is subscribed to; sentinels speak among themselves on one of their own."""
        return set(self.ask("PUBSUB", "CHANNELS").splitlines()) - {"__sentinel__:hello"}


class SentinelServer(RedisServer):
    """Knows where the server `main` is, and promotes its replica when that is gone."""

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


class PostgresServer(Server):
    """
    Args:
        options: settings of the server, `name=value`.
    """

    binary = "postgres"

    def __init__(self, *options: str) -> None:
        super().__init__()
        self._options = options

    @classmethod
    def path(cls) -> str | None:
        """On PATH, or where Debian has it: its servers are not on PATH."""
        newest = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{cls.binary}"), reverse=True)
        return shutil.which(cls.binary) or next(map(str, newest), None)

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def start(self) -> None:
        if not self._data.exists():
            if os.geteuid() == 0:  # whom PostgreSQL refuses
                shutil.chown(self.folder, "postgres")
            initdb = str(Path(self.path() or "").with_name("initdb"))
            how = ("--auth=trust", "--username=postgres", "--encoding=UTF8", "--no-sync")
            command = (*_as_postgres(), initdb, *how, "--locale=C.UTF-8", "--pgdata", str(self._data))
            subprocess.run(command, check=True, capture_output=True, timeout=300, cwd=self.folder)
        super().start()

    def command(self) -> Sequence[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "shared_buffers": "16MB",
            **dict(option.split("=", 1) for option in self._options),
        }
        flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return (*_as_postgres(), self.path() or "", "-D", str(self._data), "-p", str(self.port), *flags)

    def answers(self) -> bool:
        """Asked for TLS, it says no; while it starts up, it answers the same, so a session is begun too."""
        parameters = b"user\0postgres\0database\0postgres\0\0"
        start = struct.pack("!II", 8 + len(parameters), 196_608) + parameters
        with socket.create_connection(("127.0.0.1", self.port), DEADLINE) as connection:
            connection.sendall(start)
            return connection.recv(1) == b"R"

    def end(self) -> None:
        """At once: it would wait for its clients."""
        self._end(signal.SIGQUIT)


def _as_postgres() -> tuple[str, ...]:
    """Before a command; it takes the place of this one, so that signals reach it."""
    user = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups")
    return user if os.geteuid() == 0 else ()


class NatsServer(Server):
    """
    Args:
        configuration: lines of the configuration file.
    """

    binary = "nats-server"

    def __init__(self, *configuration: str) -> None:
        super().__init__()
        self._configuration = configuration

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        file = self.folder / "nats.conf"
        file.write_text("\n".join(self._configuration))
        return (self.binary, "-a", "127.0.0.1", "-p", str(self.port), "-c", str(file))

    def answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), DEADLINE) as connection:
            return connection.recv(4) == b"INFO"


ERLANG = "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none"
"""One scheduler, which does not spin while it waits: others need the cores."""


class RabbitServer(Server):
    """Starts in some seconds, for one node with an epmd of its own. Each worker has a virtual host in it."""

    binary = "rabbitmq-server"
    deadline = 400.0

    def __init__(self) -> None:
        super().__init__()
        self._epmd = free_port()
        self._distribution = free_port()

    @classmethod
    def path(cls) -> str | None:
        """Debian has a script on PATH that runs as one user, and has its files, only."""
        plain = Path("/usr/lib/rabbitmq/bin") / cls.binary
        return str(plain) if plain.exists() else shutil.which(cls.binary)

    @property
    def cwd(self) -> Path:
        """Its own: it leaves a dump where it is, when it is killed as it begins."""
        return self.folder

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{_worker()}"

    def start(self) -> None:
        hosts = [str(worker) for worker in range(WORKERS)]
        everything = {"user": "guest", "configure": ".*", "write": ".*", "read": ".*"}
        definitions = {
            "users": [{"name": "guest", "password": "guest", "tags": ""}],
            "vhosts": [{"name": host} for host in hosts],
            "permissions": [{**everything, "vhost": host} for host in hosts],
        }
        file = self.folder / "definitions.json"
        file.write_text(json.dumps(definitions))
        (self.folder / "rabbitmq.conf").write_text(f"load_definitions = {file}\n")
        super().start()

    def environment(self) -> dict[str, str]:
        folder = str(self.folder)
        return {
            "HOME": folder,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_LOG_BASE": folder,
            "RABBITMQ_MNESIA_BASE": folder,
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_PID_FILE": f"{folder}/pid",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG,
        }

    def command(self) -> Sequence[str]:
        return (self.path() or "",)

    def answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), DEADLINE) as connection:
            connection.sendall(b"AMQP\0\0\x09\x01")
            return connection.recv(1) == b"\x01"

    def control(self, *words: str) -> None:
        """Run rabbitmqctl."""
        program = str(Path(self.path() or "").with_name("rabbitmqctl"))
        environment = {**os.environ, **self.environment()}
        subprocess.run((program, *words), check=True, capture_output=True, timeout=300, env=environment)

    def end(self) -> None:
        self.kill()

    def stop(self) -> None:
        if self._process is not None:
            self.resume()
            self.end()
        if shutil.which("epmd") is not None:
            wait_until(self._epmd_ends, "the epmd that was started with the server has ended")
        super().stop()

    def _epmd_ends(self) -> bool:
        """It outlives the server, and refuses to go until it has noticed the server's end."""
        command = ("epmd", "-port", str(self._epmd), "-kill")
        subprocess.run(command, check=False, capture_output=True, timeout=300)
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._epmd)) != 0


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


@contextmanager
def shared(make: Callable[[], S], name: str, folder: Path) -> Iterator[S]:
    """One server for all processes that share a folder: the first starts it, and ends it when the others are
    done with it, or gone. It is only what its port says to all but the first.

    Each holds a lock while it uses the server, which the kernel takes back from a process that is killed.
    """
    with (folder / f"{name}-starts").open("a+") as starts, (folder / f"{name}-used").open("a") as used:
        fcntl.flock(starts, fcntl.LOCK_EX)
        starts.seek(0)
        one, port = make(), starts.read()
        try:
            if port:
                one.port = int(port)
            else:
                one.start()
                print(one.port, file=starts, flush=True)
            fcntl.flock(used, fcntl.LOCK_SH)
            fcntl.flock(starts, fcntl.LOCK_UN)
            yield one
        finally:
            if not port:
                fcntl.flock(starts, fcntl.LOCK_EX)  # whoever comes now starts another
                fcntl.flock(used, fcntl.LOCK_EX)
                starts.truncate(0)
            one.stop()


def required(server: type[Server]) -> pytest.MarkDecorator:
    """Skips a test where the server is not installed."""
    return pytest.mark.skipif(not server.installed(), reason=f"{server.binary} is not on PATH")


def descendants(pid: int) -> list[int]:
    """Those that a process has started, and those that these have; none where the kernel does not say."""
    try:
        tasks = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:
        return []
    children = [int(child) for text in tasks for child in text.split()]
    return [*children, *(each for child in children for each in descendants(child))]


def _lives(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]
    except OSError:
        return False


def _stands_still(pid: int) -> bool:
    """Whether all threads of a process are stopped, or it is gone; a signal that was sent takes its time."""
    try:
        threads = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    except OSError:
        return False
    return all(thread.rpartition(")")[2].split()[0] in "TtZX" for thread in threads)


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _worker() -> int:
    """The number of this worker of a test run that has several."""
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS


def free_port() -> int:
    """A port that nobody listens on, outside of the range that the kernel gives to clients.

    Inside of it, a client that tries to reconnect to a server that is down can be given the server's
    port as its own, connect to itself, and keep the server from coming back. Each worker of a test run that
    has several looks in a part of its own. No port is given twice: servers that belong together choose theirs
    before the first of them listens.
    """
    first = PORTS.start + _worker() * (len(PORTS) // WORKERS)
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
