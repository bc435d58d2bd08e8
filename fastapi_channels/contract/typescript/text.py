"""How types are written: two spaces, 80 columns, as Prettier has it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

WIDTH: Final = 80
STEP: Final = 2
NULL: Final = "null"

_BELOW: Final = "\n"
"""Begins a type that goes on below the line where it stands."""
_IDENTIFIER: Final = re.compile(r"[^\W\d]\w*")


class Member(NamedTuple):
    """A property of an object type; `type` is written for the column where it stands."""

    name: str
    type: str
    optional: bool = False
    about: str = ""


def quoted(text: str) -> str:
    """A literal type."""
    return json.dumps(text, ensure_ascii=False)


def key(name: str) -> str:
    return name if _IDENTIFIER.fullmatch(name) else quoted(name)


def comment(about: str, indent: int) -> str:
    """A comment for readers and editors, with its line's end; nothing for nothing."""
    lines = [line.strip() for line in about.replace("*/", "*\\/").strip().splitlines()]
    if not lines:
        return ""
    pad = " " * indent
    if len(lines) == 1:
        return f"{pad}/** {lines[0]} */\n"
    body = "".join(f"{pad} * {line}".rstrip() + "\n" for line in lines)
    return f"{pad}/**\n{body}{pad} */\n"


def members(found: Iterable[Member], indent: int) -> str:
    """An object type with a line for each of its properties."""
    lines = "".join(_line(member, indent + STEP) for member in found)
    return "{\n" + lines + " " * indent + "}"


def _line(member: Member, indent: int) -> str:
    mark = "?" if member.optional else ""
    head = " " * indent + f"{member.name}{mark}:"
    # A type that goes on below begins below.
    joint = "" if member.type.startswith(_BELOW) else " "
    return f"{comment(member.about, indent)}{head}{joint}{member.type};\n"


def declared(name: str, found: str) -> str:
    """An exported name for a type."""
    return f"export type {name} ={'' if found.startswith(_BELOW) else ' '}{found};\n"


def union(types: Sequence[str], indent: int, used: int = 0) -> str:
    """One of several types.

    Args:
        indent: of the line where it stands.
        used: columns of that line that are taken, its end included.
    """
    types = list(dict.fromkeys(types))
    line = " | ".join(types)
    if len(types) == 1 or _is_hugged(types):
        return line
    if "\n" not in line and used + len(line) <= WIDTH:
        return line
    pad = " " * (indent + STEP)
    # What goes on in further lines stands two columns further, behind the bar.
    return "".join(f"\n{pad}| {_deeper(each, 2 * STEP)}" for each in types)


def tuple_of(types: Sequence[str], indent: int, used: int) -> str:
    """Types by their places. The arguments are those of `union`."""
    line = f"[{', '.join(types)}]"
    if used + len(line) <= WIDTH:
        return line
    pad = " " * (indent + STEP)
    return "[\n" + "".join(f"{pad}{each},\n" for each in types) + " " * indent + "]"


def array(items: str, indent: int) -> str:
    if items.startswith(_BELOW):
        return f"({items}\n{' ' * indent})[]"
    return f"({items})[]" if _is_compound(items) else f"{items}[]"


def _is_hugged(types: Sequence[str]) -> bool:
    others = [each for each in types if each != NULL]
    return len(others) == 1 and others[0].startswith("{") and len(types) == 2


def _is_compound(text: str) -> bool:
    """Whether there is a union or an intersection outside of all brackets."""
    depth, inside = 0, ""
    for character in text:
        if inside:
            inside = "" if character == inside else inside
        elif character in '"`':
            inside = character
        elif character in "{[(<":
            depth += 1
        elif character in "}])>":
            depth -= 1
        elif character in "|&" and depth == 0:
            return True
    return False


def _deeper(text: str, by: int) -> str:
    first, *rest = text.split("\n")
    return "\n".join([first, *(" " * by + line for line in rest)])
