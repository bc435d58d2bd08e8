"""The public surface as a text: every public name with its signature and its docstring.

    python -m tests.support.public          writes it to docs/public.txt

A change of what users can see is so a change of one file, which whoever reviews it reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from textwrap import indent
from typing import cast

import griffe

ROOT = Path(__file__).parents[2]
WRITTEN = ROOT / "docs" / "public.txt"


def surface() -> str:
    package = griffe.load("fastapi_channels", search_paths=[ROOT], resolve_aliases=True)
    return "\n".join(_modules(cast(griffe.Module, package)))


def _modules(module: griffe.Module) -> Iterator[str]:
    """What a module exports by `__all__`, then the modules in it that export something."""
    if module.exports is not None:
        yield f"# {module.path}\n"
        for name in sorted(map(str, module.exports)):
            yield _shown(module[name], name) + "\n"
    for name, inner in sorted(module.modules.items()):
        if not name.startswith("_") and not inner.is_alias:
            yield from _modules(inner)


def _shown(found: griffe.Object | griffe.Alias, name: str) -> str:
    thing = found.final_target if isinstance(found, griffe.Alias) else found
    lines = [_head(thing, name)]
    if thing.docstring is not None:
        lines.append(indent(thing.docstring.value.strip(), "    | ", lambda line: True))
    if isinstance(thing, griffe.Class):
        inner = [_shown(member, own) for own, member in thing.members.items() if _is_public(own, member)]
        lines += [indent(text, "    ") for text in inner]
    return "\n".join(lines)


def _is_public(name: str, member: griffe.Object | griffe.Alias) -> bool:
    """Whether users see it: not what is ours, nor what was only imported into the class."""
    return (not name.startswith("_") or name == "__init__") and not member.is_alias


def _head(thing: griffe.Object, name: str) -> str:
    if isinstance(thing, griffe.Class):
        bases = ", ".join(map(str, thing.bases))
        return f"class {name}({bases})" if bases else f"class {name}"
    if isinstance(thing, griffe.Function):
        asynchronous = "async " if "async" in thing.labels else ""
        return asynchronous + thing.signature(name=name)
    if isinstance(thing, griffe.Attribute):
        annotation = f": {thing.annotation}" if thing.annotation is not None else ""
        value = f" = {thing.value}" if thing.value is not None else ""
        return f"{name}{annotation}{value}"
    return name


if __name__ == "__main__":
    WRITTEN.write_text(surface())
