"""`fastapi-channels typescript`: writes the types of an application for its front end."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from fastapi_channels.contract.typescript.file import typescript

from .application import read


def add(commands: Any) -> None:
    """Tell the parser's `commands` of this one."""
    parser = commands.add_parser("typescript", help="write the types of an application for its front end")
    parser.add_argument("app", help="where it is: module:name; or its AsyncAPI document, .json or .yaml")
    parser.add_argument("-o", "--output", type=Path, help="a file; else they are printed")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    text = typescript(read(given.app))
    if given.output is None:
        sys.stdout.write(text)
    else:
        given.output.write_text(text, encoding="utf-8")
