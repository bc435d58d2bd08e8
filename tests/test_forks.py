"""A program that is forked for a test runs as its own interpreter would run it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import forks

PROGRAM = """
import atexit, json, os, resource, signal, sys
atexit.register(print, "the end")
if sys.argv[1] == "stays":
    signal.pause()
json.dump({
    "name": [__name__, __spec__.name, __file__],
    "arguments": sys.argv,
    "path": sys.path,
    "folder": os.getcwd(),
    "environment": dict(os.environ),
    "input": sys.stdin.read(),
    "files": os.path.exists("/proc/self/fd") and sorted(os.listdir("/proc/self/fd")),
    "limits": resource.getrlimit(resource.RLIMIT_NOFILE),
    "signals": [str(signal.getsignal(each)) for each in (signal.SIGCHLD, signal.SIGINT, signal.SIGPIPE)],
}, sys.stdout)
sys.exit("an error")
"""


def started(folder: Path, *words: str) -> forks.Program:
    (folder / "program.py").write_text(PROGRAM)
    environment = {"PYTHONPATH": "/nowhere:/else", "MINE": "me", "LC_ALL": "C.UTF-8"}
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        command, files = (sys.executable, "-m", "program", *words), (out.fileno(), err.fileno())
        return forks.start(command, cwd=folder, env=environment, stdout=files[0], stderr=files[1])


def ended(folder: Path) -> Any:
    process = started(folder, "a", "b c")
    status = process.wait(60)
    return type(process), status, (folder / "out").read_text(), (folder / "err").read_text()


def test_it_is_given_and_leaves_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    kind, *forked = ended(tmp_path)
    assert kind is forks.Forked
    monkeypatch.delenv(forks.PLACE)
    kind, *own = ended(tmp_path)
    assert kind is subprocess.Popen
    assert forked == own
    assert (own[0], own[2]) == (1, "an error\n")
    assert own[1].endswith("}the end\n")


def test_it_takes_signals(tmp_path: Path):
    process = started(tmp_path, "stays")
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == -signal.SIGTERM == process.poll()
    process.kill()
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
