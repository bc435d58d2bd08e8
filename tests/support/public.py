"""The public surface as a text: every public name with its signature and its docstring.

Of a class also what it inherits from classes of ours that are not public themselves: that is nowhere else.

    python -m tests.support.public          writes it to docs/public.txt

A change of what users can see is so a change of one file, which whoever reviews it reads.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path
from textwrap import indent
from typing import cast

import griffe

ROOT = Path(__file__).parents[2]
WRITTEN = ROOT / "docs" / "public.txt"


def surface() -> str:
    package = griffe.load("fastapi_channels", search_paths=[ROOT], resolve_aliases=True)
    modules = list(_modules(cast(griffe.Module, package)))
    public = {_target(module[str(name)]).path for module in modules for name in module.exports or ()}
    return "\n".join(line for module in modules for line in _exported(module, public))


def _modules(module: griffe.Module) -> Iterator[griffe.Module]:
    """Those that export something by `__all__`."""
    if module.exports is not None:
        yield module
    for name, inner in sorted(module.modules.items()):
        if not name.startswith("_") and not inner.is_alias:
            yield from _modules(inner)


def _exported(module: griffe.Module, public: Container[str]) -> Iterator[str]:
    yield f"# {module.path}\n"
    for name in sorted(map(str, module.exports or ())):
        yield _shown(module[name], name, public) + "\n"


def _target(found: griffe.Object | griffe.Alias) -> griffe.Object:
    return found.final_target if isinstance(found, griffe.Alias) else found


def _shown(found: griffe.Object | griffe.Alias, name: str, public: Container[str]) -> str:
    thing = _target(found)
    lines = [_head(thing, name)]
    if thing.docstring is not None:
        lines.append(indent(thing.docstring.value.strip(), "    | ", lambda line: True))
    if isinstance(thing, griffe.Class):
        members = _members(thing, public)
        lines += [indent(_shown(member, own, public), "    ") for own, member in members.items()]
    return "\n".join(lines)


def _members(cls: griffe.Class, public: Container[str]) -> dict[str, griffe.Object | griffe.Alias]:
    """Its own, then what it inherits from classes that nothing exports."""
    members: dict[str, griffe.Object | griffe.Alias] = {}
    for written in (cls, *_hidden(cls, public)):
        shown = {own: member for own, member in written.members.items() if _is_public(own, member)}
        members |= {own: member for own, member in shown.items() if own not in members}
    return members


def _hidden(cls: griffe.Class, public: Container[str]) -> Iterator[griffe.Class]:
    """The classes between it and those that are shown themselves."""
    for base in map(_target, cls.resolved_bases):
        if isinstance(base, griffe.Class) and base.path not in public:
            yield base
            yield from _hidden(base, public)


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
