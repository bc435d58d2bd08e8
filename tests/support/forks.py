"""Programs in Python that start in a tenth of the time, in processes of their own.

What an interpreter does before it serves is nearly all imports, and always the same ones. So one interpreter
has imported them, and forks for each program: that has its own arguments, folder, environment and files, its
signals and its end, and runs as `python -m` would run it. Its parent is a fork too, which waits for it.
"""

from __future__ import annotations

import gc
import io
import json
import os
import resource
import runpy
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import wait
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeAlias

PLACE: Final = "FASTAPI_CHANNELS_FORKS"
"""The variable that says where it listens; without, each program has an interpreter of its own."""
IMPORTED: Final = (
    *("uvicorn.main", "uvicorn.lifespan.on", "uvicorn.loops.auto", "uvicorn.protocols.http.auto"),
    *("uvicorn.protocols.websockets.auto", "fastapi_channels.brokers.redis", "fastapi_channels.stores.redis"),
    *("fastapi_channels.throttling.redis", "fastapi_channels.commands.connect", "pydantic.v1"),
    *("encodings.idna", "tests.support.events"),
)
"""What most of them import, sooner or later."""
GIVEN: Final = {"PYTHONPATH", "PYTHONUNBUFFERED"}
"""The interpreter's own variables that a fork can be given."""
ROOT: Final = Path(__file__).parents[2]
CHUNK: Final = 65536
"""Bytes that are read of a request at a time."""
Program: TypeAlias = "subprocess.Popen[bytes] | Forked"


class Forked:
    """What `subprocess.Popen` says of a process, and does with it.

    Args:
        command: what follows `python -m`.
        files: its standard input, output and error.
    """

    def __init__(self, command: Sequence[str], cwd: Path, env: dict[str, str], files: Sequence[int]) -> None:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        what = {"command": [*command], "folder": str(cwd), "env": env, "limits": limits}
        asked = json.dumps(what).encode()
        self.args = command
        self.returncode: int | None = None
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(os.environ[PLACE])
        sent = socket.send_fds(self._connection, [asked], files)
        self._connection.sendall(asked[sent:])
        self._connection.shutdown(socket.SHUT_WR)
        self.pid = self._told()

    def __del__(self) -> None:
        self._connection.close()

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not wait([self._connection], timeout):
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            self.returncode = self._told(socket.MSG_PEEK)  # it stays there for other threads that wait
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # it ends at this moment
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _told(self, flags: int = 0) -> int:
        number: int
        (number,) = struct.unpack("!i", self._connection.recv(4, socket.MSG_WAITALL | flags))
        return number


def start(
    command: Sequence[str],
    *,
    cwd: str | Path | None = None,
    env: dict[str, str] | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: int,
    stderr: int,
) -> Program:
    """Run a program, by a fork where that is possible. It blocks until there is the process, which can be
    interrupted also where a shell that runs the tests in the background has that ignored.

    Args:
        stdin, stdout, stderr: descriptors.
    """
    given = {**os.environ} if env is None else env
    is_module = (*command[:2],) == (sys.executable, "-m")
    if PLACE not in os.environ or not is_module or _own(given) != _own(os.environ):
        return subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    with open(os.devnull, "rb") as nothing:
        files = (nothing.fileno() if stdin == subprocess.DEVNULL else stdin, stdout, stderr)
        return Forked(command[2:], Path(cwd or ".").resolve(strict=True), given, files)


def _own(env: Mapping[str, str]) -> dict[str, str]:
    """The variables that an interpreter reads as it begins."""
    return {name: value for name, value in env.items() if name.startswith("PYTHON") and name not in GIVEN}


def run(
    command: Sequence[str], *, cwd: str | Path | None = None, timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` does, with what it writes."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = start(command, cwd=cwd, stdout=out.fileno(), stderr=err.fileno())
        try:
            status = process.wait(timeout)
        except BaseException:
            process.kill()
            raise
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess([*command], status, out.read(), err.read())


def begin() -> Callable[[], None]:
    """Let the processes that this one starts, and itself, have their programs from one that forks; what is
    returned ends it. It imports nothing before it is asked for the first program."""
    folder = tempfile.TemporaryDirectory(prefix="fastapi-channels-", dir="/tmp")
    place = f"{folder.name}/forks"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(place)
        listener.listen(64)
        number = listener.fileno()
        process = subprocess.Popen(
            (sys.executable, "-m", __name__, str(number)), cwd=ROOT, stdin=subprocess.PIPE, pass_fds=[number]
        )
    os.environ[PLACE] = place

    def end() -> None:
        del os.environ[PLACE]
        process.communicate()
        folder.cleanup()

    return end


def _main(listener: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # those that wait for a program are waited for by nobody
    try:
        connection = _asked(listener)
    except KeyboardInterrupt:
        return
    if connection is not None:
        _run(*_forked(connection))


def _asked(listener: socket.socket) -> socket.socket | None:
    """Returns for each who asks, in a process for that; and in this one when nobody can ask any more: whoever
    has started it, and ends, closes its standard input."""
    while 0 not in wait([listener, 0]):
        connection, _ = listener.accept()
        if not gc.get_freeze_count():
            for name in IMPORTED:
                import_module(name)
            gc.freeze()  # else a collection writes to all that the processes share
        if not os.fork():
            listener.close()
            return connection
        connection.close()
    return None


def _forked(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Returns in a process for the program, with what was asked and the files."""
    data, files, _, _ = socket.recv_fds(connection, CHUNK, 3)
    while more := connection.recv(CHUNK):
        data += more
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if not pid:
        connection.close()
        return json.loads(data), files
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.closerange(0, 3)  # whoever reads what the tests write does not wait for a program that is left
    for file in files:
        os.close(file)
    with suppress(BrokenPipeError):
        connection.sendall(struct.pack("!i", pid))
        connection.sendall(struct.pack("!i", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
    os._exit(0)


def _run(asked: dict[str, Any], files: Sequence[int]) -> None:
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    own = _paths()
    os.environ.clear()
    os.environ.update(asked["env"])
    os.chdir(asked["folder"])
    resource.setrlimit(resource.RLIMIT_NOFILE, asked["limits"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if asked["folder"] != str(ROOT):  # which may have a package of that name too
        for name in [each for each in sys.modules if each.partition(".")[0] == "tests"]:
            del sys.modules[name]
    sys.path[: 1 + len(own)] = [asked["folder"], *_paths()]
    sys.argv[1:] = asked["command"][1:]
    sys.orig_argv[1:] = ["-m", *asked["command"]]
    sys.modules["__main__"] = ModuleType("__main__")
    _reopen(is_buffered=not os.environ.get("PYTHONUNBUFFERED"))
    runpy._run_module_as_main(asked["command"][0])  # type: ignore[attr-defined]  # what `python -m` calls


def _reopen(*, is_buffered: bool) -> None:
    """Open standard output and error as an interpreter does when it begins."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        before, raw = getattr(sys, name), io.FileIO(number, "wb", closefd=False)
        opened = io.TextIOWrapper(
            io.BufferedWriter(raw) if is_buffered else raw,
            before.encoding,
            before.errors,
            line_buffering=is_buffered and (number == 2 or os.isatty(number)),
            write_through=not is_buffered,
        )
        setattr(sys, name, opened)
        setattr(sys, f"__{name}__", opened)


def _paths() -> list[str]:
    return [*filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]


if __name__ == "__main__":
    _main(socket.socket(fileno=int(sys.argv[1])))
