"""`fastapi-channels asyncapi-diff`: says what clients of an older document meet with a newer one."""

from __future__ import annotations

import argparse
from typing import Any

from fastapi_channels.contract.diff import diff

from .application import read, understood

BROKEN = 1
"""The exit status where something breaks."""


def add(commands: Any) -> None:
    """Tell the parser's `commands` of this one."""
    parser = commands.add_parser("asyncapi-diff", help="compare two AsyncAPI documents; 1 if clients break")
    parser.add_argument("old", help="a document, .json or .yaml, or an application: module:name")
    parser.add_argument("new", help="likewise")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    old, new = read(given.old), read(given.new)
    with understood(given.old, given.new):
        changes = diff(old, new)
    for change in changes:
        print(f"{change.kind:10}  {change.where}: {change.what}")
    return BROKEN if any(change.kind == "breaking" for change in changes) else 0
