"""The examples of the documents run.

The Python blocks under one second-level heading are one module, executed in their order. A block right
below `<!-- no-run: the reason -->` is only compiled, and may await. A JSON block is one value, or one
value on each line. What a relative link leads to exists.
"""

import ast
import json
import re
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*sorted(ROOT.glob("README*.md")), ROOT / "SECURITY.md", *sorted(ROOT.glob("docs/**/*.md"))]

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NO_RUN = re.compile(r"<!-- no-run: .+ -->\n\Z")
HEADING = re.compile(r"^## .+$", re.MULTILINE)
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")


class Block(NamedTuple):
    language: str
    source: str
    """Preceded by as many newlines as bring its lines to their numbers in the document."""
    section: str
    runs: bool


def blocks(text: str) -> Iterator[Block]:
    for found, section, before in fenced(text):
        source = "\n" * (text.count("\n", 0, found.start()) + 1) + found[2]
        yield Block(found[1], source, section, not NO_RUN.search(before))


def fenced(text: str) -> Iterator[tuple[re.Match[str], str, str]]:
    """Each block with its heading, and with what stands between it and the one before."""
    section, end = "", 0
    for found in FENCE.finditer(text):
        before = text[end : found.start()]
        section = (HEADING.findall(before) or [section])[-1]
        yield found, section, before
        end = found.end()


def run(section: list[Block], name: str, filename: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Execute blocks as the one module they are; registered, so that annotations can be resolved."""
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    for block in section:
        if block.runs:
            exec(compile(block.source, filename, "exec"), vars(module))  # noqa: S102
        else:
            compile(block.source, filename, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def parse(frames: str) -> None:
    try:
        json.loads(frames)
    except ValueError:
        for line in filter(None, map(str.strip, frames.splitlines())):
            json.loads(line)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_python_runs(document: Path, monkeypatch: pytest.MonkeyPatch):
    python = [block for block in blocks(document.read_text()) if block.language in {"python", "py"}]
    for number, (_, section) in enumerate(groupby(python, key=lambda block: block.section)):
        run(list(section), f"{document.stem}_{number}", str(document), monkeypatch)


def test_json_parses():
    for document in DOCUMENTS:
        for block in blocks(document.read_text()):
            if block.language == "json":
                try:
                    parse(block.source)
                except ValueError as error:
                    error.add_note(f"in {document.relative_to(ROOT)}: {block.source.strip()}")
                    raise


def test_links_lead_somewhere():
    astray = [
        f"{document.relative_to(ROOT)} leads to {link}"
        for document in DOCUMENTS
        for link in LINK.findall(FENCE.sub("", document.read_text()))
        if not (document.parent / link).exists()
    ]
    assert astray == []


def test_how_documents_are_read(monkeypatch: pytest.MonkeyPatch):
    text = """
## One
```python
a = 1
```
```python
b = a + 1
```
## Two
<!-- no-run: nobody listens -->
```python
await a
```
```json
{"a": 1}
{"a": 2}
```
"""
    read = list(blocks(text))
    assert [(block.language, block.section, block.runs) for block in read] == [
        ("python", "## One", True),
        ("python", "## One", True),
        ("python", "## Two", False),
        ("json", "## Two", True),
    ]
    run(read[:3], "an_example", "an example", monkeypatch)
    assert vars(sys.modules["an_example"])["b"] == 2
    parse(read[3].source)
    with pytest.raises(NameError) as failure:
        run(read[1:2], "an_example", "an example", monkeypatch)
    assert failure.traceback[-1].lineno + 1 == text.splitlines().index("b = a + 1") + 1
