"""The compiler of TypeScript, and Prettier, which npm installs."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from .npm import NodeServer, installed
from .servers import shared

VERSIONS: Final = {"typescript": "5.9.3", "prettier": "3.10.1"}
IMPORTS: Final = """
import ts from "typescript";
import prettier from "prettier";
// What TypeScript brings itself is parsed once for all programs.
const own = new Map();
function hostOf(options) {
  const host = ts.createCompilerHost(options);
  const read = host.getSourceFile;
  host.getSourceFile = (name, ...more) => {
    if (!name.includes("/typescript/lib/")) return read(name, ...more);
    if (!own.has(name)) own.set(name, read(name, ...more));
    return own.get(name);
  };
  return host;
}
function faults(project) {
  const { options, fileNames, errors } = ts.getParsedCommandLineOfConfigFile(project, {}, ts.sys);
  const program = ts.createProgram(fileNames, options, hostOf(options));
  return [...errors, ...ts.getPreEmitDiagnostics(program)].map((found) => [
    found.file?.fileName ?? "",
    found.file ? found.file.getLineAndCharacterOfPosition(found.start).line + 1 : 0,
    ts.flattenDiagnosticMessageText(found.messageText, "\\n"),
  ]);
}
"""
ANSWER: Final = """
  const { project, text } = asked;
  const answer = project ? faults(project) : await prettier.format(text, { parser: "typescript" });
"""
SETTINGS: Final = {
    "strict": True,
    "noEmit": True,
    "target": "es2022",
    "lib": ["es2022", "dom"],
    "skipDefaultLibCheck": True,  # what TypeScript brings itself is right
}
WRONG: Final = re.compile(r"^.*// wrong\b", re.MULTILINE)


class Compiler(NodeServer):
    """
    Args:
        folder: has TypeScript and Prettier.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, IMPORTS, ANSWER)

    def faults(self, **files: str) -> dict[tuple[str, int], str]:
        """What the compiler finds wrong in files when it is strict, by file and line."""
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            for name, text in files.items():
                (folder / f"{name}.ts").write_text(text)
            (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": SETTINGS}))
            return self.faults_in(folder)

    def faults_in(self, folder: Path) -> dict[tuple[str, int], str]:
        """What the compiler finds wrong in the project of a folder that has a `tsconfig.json`, by file and
        line. A file is named by its path in the folder, without what it ends with."""
        found = self.ask({"project": str(folder / "tsconfig.json")})
        return {(_named(path, folder), line): said for path, line, said in reversed(found)}

    def formatted(self, text: str) -> str:
        """The text as Prettier writes it."""
        formatted: str = self.ask({"text": text})
        return formatted


def _named(path: str, folder: Path) -> str:
    return path.removeprefix(f"{folder}/").removesuffix(".ts")


def wrong_lines(name: str, text: str) -> set[tuple[str, int]]:
    """The lines that say of themselves that they are wrong."""
    return {(name, number) for number, line in enumerate(text.splitlines(), 1) if WRONG.match(line)}


@pytest.fixture(scope="session")
def compiler(run_folder: Path) -> Iterator[Compiler]:
    try:
        folder = installed("typescript", VERSIONS)
    except (OSError, subprocess.SubprocessError) as exc:
        pytest.skip(f"npm cannot install the compiler of TypeScript: {exc}")
    with shared(lambda: Compiler(folder), Compiler.__name__, run_folder) as program:
        yield program
