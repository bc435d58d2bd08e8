"""The public surface is what docs/public.txt says."""

import ast
import importlib
import re
from collections.abc import Iterator
from difflib import unified_diff
from pathlib import Path

from tests.support.public import ROOT, WRITTEN, surface

EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_public_surface_is_the_one_that_is_written_down():
    """`make public` writes it anew; whoever reviews the change reads the difference."""
    written, found = WRITTEN.read_text().splitlines(), surface().splitlines()
    difference = "\n".join(unified_diff(written, found, "written", "found", lineterm=""))
    assert not difference, f"the public surface has changed; `make public` writes it down:\n{difference}"


def test_it_holds_what_users_import():
    """Also what the class that exports it inherits from one that is ours alone."""
    text = WRITTEN.read_text()
    lines = ("class BaseChannel", "    async connect(", "add_channel(parent", "class RateLimiter")
    inherited = ("    async broadcast(", "    room_pattern:", "    async send_to_user(", "    async listen(")
    for line in (*lines, *inherited, "class Protocol", "class DeflateProtocol"):
        assert f"\n{line}" in text, line


def test_what_the_documents_import_is_public():
    """But for the page on the architecture, which speaks of the inside, and upstream's program."""
    pages = [*ROOT.glob("README*.md"), *(ROOT / "docs").rglob("*.md")]
    hidden = {
        (page.name, module, name)
        for page in pages
        if page.name not in {"architecture.md", "upstream.md"}
        for module, name in imported(page)
        if name not in getattr(importlib.import_module(module), "__all__", ())
    }
    assert hidden == set()


def imported(page: Path) -> Iterator[tuple[str, str]]:
    """What the examples of a page import from the package."""
    for example in EXAMPLE.findall(page.read_text()):
        for node in ast.walk(ast.parse(example)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fastapi_channels"):
                yield from ((str(node.module), alias.name) for alias in node.names)
