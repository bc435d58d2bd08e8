"""The compiler of TypeScript, and Prettier, which npm installs."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Final

import pytest

from .npm import NODE, installed

VERSIONS: Final = {"typescript": "5.9.3", "prettier": "3.10.1"}
FAULT: Final = re.compile(r"^([\w.]+)\((\d+),\d+\): error (.*)$", re.MULTILINE)
WRONG: Final = re.compile(r"^.*// wrong\b", re.MULTILINE)


class Compiler:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def faults(self, **files: str) -> dict[tuple[str, int], str]:
        """What `tsc --strict` finds wrong in files, by file and line."""
        with tempfile.TemporaryDirectory() as folder:
            for name, text in files.items():
                (Path(folder) / f"{name}.ts").write_text(text)
            words = ["--strict", "--noEmit", "--target", "es2022", "--lib", "es2022,dom", "--pretty", "false"]
            words += [f"{name}.ts" for name in files]
            tsc = str(self._folder / "node_modules/typescript/bin/tsc")
            done = subprocess.run([NODE, tsc, *words], cwd=folder, capture_output=True, text=True, timeout=50)
        found = {
            (name.removesuffix(".ts"), int(line)): said for name, line, said in FAULT.findall(done.stdout)
        }
        assert bool(found) == bool(done.returncode), done.stdout + done.stderr
        return found

    def formatted(self, text: str) -> str:
        """The text as Prettier writes it."""
        words = [NODE, str(self._folder / "node_modules/prettier/bin/prettier.cjs"), "--parser", "typescript"]
        return subprocess.run(
            words, input=text, check=True, capture_output=True, text=True, timeout=50
        ).stdout


def wrong_lines(name: str, text: str) -> set[tuple[str, int]]:
    """The lines that say of themselves that they are wrong."""
    return {(name, number) for number, line in enumerate(text.splitlines(), 1) if WRONG.match(line)}


@pytest.fixture(scope="session")
def compiler() -> Compiler:
    try:
        return Compiler(installed("typescript", VERSIONS))
    except (OSError, subprocess.SubprocessError) as exc:
        pytest.skip(f"npm cannot install the compiler of TypeScript: {exc}")
