"""`fastapi-channels typescript`: writes the types of an application for its front end."""

from __future__ import annotations

import argparse
from typing import Any

from fastapi_channels.contract.typescript.file import typescript

from .application import read, understood
from .output import add_output, write


def add(commands: Any) -> None:
    """Tell the parser's `commands` of this one."""
    parser = commands.add_parser("typescript", help="write the types of an application for its front end")
    parser.add_argument("app", help="where it is: module:name; or its AsyncAPI document, .json or .yaml")
    add_output(parser, "")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    found = read(given.app)
    with understood(given.app):
        text = typescript(found)
    write(text, given.output)
