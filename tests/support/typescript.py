"""The compiler of TypeScript, and Prettier, which npm installs."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from .npm import Program, installed

VERSIONS: Final = {"typescript": "5.9.3", "prettier": "3.10.1"}
IMPORTS: Final = """
import ts from "typescript";
import prettier from "prettier";
const options = {
  strict: true, noEmit: true, target: ts.ScriptTarget.ES2022, lib: ["lib.es2022.d.ts", "lib.dom.d.ts"],
  skipDefaultLibCheck: true,  // what TypeScript brings itself is right
};
const host = ts.createCompilerHost(options);
const read = host.getSourceFile;
// What TypeScript brings itself is parsed once.
const own = new Map();
host.getSourceFile = (name, ...more) => {
  if (!name.includes("/typescript/lib/")) return read(name, ...more);
  if (!own.has(name)) own.set(name, read(name, ...more));
  return own.get(name);
};
function faults(names) {
  return ts.getPreEmitDiagnostics(ts.createProgram(names, options, host)).map((found) => [
    found.file?.fileName ?? "",
    found.file ? found.file.getLineAndCharacterOfPosition(found.start).line + 1 : 0,
    ts.flattenDiagnosticMessageText(found.messageText, "\\n"),
  ]);
}
"""
ANSWER: Final = """
  const { names, text } = asked;
  const answer = names ? faults(names) : await prettier.format(text, { parser: "typescript" });
"""
WRONG: Final = re.compile(r"^.*// wrong\b", re.MULTILINE)


class Compiler:
    def __init__(self, folder: Path) -> None:
        self._program = Program(folder, IMPORTS, ANSWER)

    def faults(self, **files: str) -> dict[tuple[str, int], str]:
        """What the compiler finds wrong in files when it is strict, by file and line."""
        with tempfile.TemporaryDirectory() as folder:
            paths = {str(Path(folder) / f"{name}.ts"): text for name, text in files.items()}
            for path, text in paths.items():
                Path(path).write_text(text)
            found = self._program.ask({"names": list(paths)})
        return {(Path(path).stem, line): said for path, line, said in reversed(found)}

    def formatted(self, text: str) -> str:
        """The text as Prettier writes it."""
        formatted: str = self._program.ask({"text": text})
        return formatted

    def close(self) -> None:
        self._program.close()


def wrong_lines(name: str, text: str) -> set[tuple[str, int]]:
    """The lines that say of themselves that they are wrong."""
    return {(name, number) for number, line in enumerate(text.splitlines(), 1) if WRONG.match(line)}


@pytest.fixture(scope="session")
def compiler() -> Iterator[Compiler]:
    try:
        folder = installed("typescript", VERSIONS)
    except (OSError, subprocess.SubprocessError) as exc:
        pytest.skip(f"npm cannot install the compiler of TypeScript: {exc}")
    found = Compiler(folder)
    yield found
    found.close()
