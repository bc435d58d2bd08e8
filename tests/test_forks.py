"""A program that is forked for a test runs as its own interpreter would run it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support import forks

PROGRAM = """
import atexit, json, os, resource, signal, sys

@atexit.register
def end():
    import __main__
    print("the end of", __main__.__file__, sys.argv)

if sys.argv[1] == "stays":
    signal.pause()
json.dump({
    "name": [__name__, __spec__.name, __file__],
    "arguments": [sys.argv, sys.orig_argv[1:]],
    "buffers": [
        [each.encoding, each.errors, each.line_buffering, each.write_through, type(each.buffer).__name__]
        for each in (sys.stdout, sys.stderr)
    ],
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


def started(folder: Path, *words: str, **environment: str) -> forks.Program:
    (folder / "program.py").write_text(PROGRAM)
    kept = {name: value for name, value in os.environ.items() if name.startswith("PYTHON")}
    environment = kept | {"PYTHONPATH": "/nowhere:/else", "MINE": "me", "LC_ALL": "C.UTF-8"} | environment
    with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
        command, files = (sys.executable, "-m", "program", *words), (out.fileno(), err.fileno())
        return forks.start(command, cwd=folder, env=environment, stdout=files[0], stderr=files[1])


def ended(folder: Path, **environment: str) -> Any:
    process = started(folder, "a", "b c", **environment)
    status = process.wait(60)
    return type(process), status, (folder / "out").read_text(), (folder / "err").read_text()


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_it_is_given_and_leaves_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unbuffered: str):
    kind, *forked = ended(tmp_path, PYTHONUNBUFFERED=unbuffered)
    assert kind is forks.Forked
    monkeypatch.delenv(forks.PLACE)
    kind, *own = ended(tmp_path, PYTHONUNBUFFERED=unbuffered)
    assert kind is subprocess.Popen
    assert forked == own
    assert (own[0], own[2]) == (1, "an error\n")
    assert re.search(r"\}the end of \S+/program.py \[.*'b c'\]\n$", own[1])


def test_a_package_of_the_name_of_these_tests_is_its_own(tmp_path: Path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "__init__.py").touch()
    (tmp_path / "tests" / "program.py").write_text("print('here')")
    assert forks.run((sys.executable, "-m", "tests.program"), cwd=tmp_path).stdout == "here\n"


def test_what_only_an_interpreter_of_its_own_can_be_told_is_told_to_one(tmp_path: Path):
    kind, *_ = ended(tmp_path, PYTHONHASHSEED="1")
    assert kind is subprocess.Popen


def test_a_folder_that_is_not_there_is_told_to_who_starts_it(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        forks.run((sys.executable, "-m", "program"), cwd=tmp_path / "nowhere")


@pytest.mark.parametrize("is_forked", [True, False])
def test_it_may_end_while_threads_wait_for_it_and_one_sends_it_signals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_forked: bool
):
    if not is_forked:
        monkeypatch.delenv(forks.PLACE)
    with ThreadPoolExecutor(3) as threads:
        for _ in range(10 if is_forked else 1):
            process = started(tmp_path, "a")
            waiting = [threads.submit(process.wait, 60) for _ in range(3)]
            while process.returncode is None:
                process.send_signal(0)
            assert [each.result() for each in waiting] == [1, 1, 1]


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
