"""`fastapi-channels asyncapi`: writes the AsyncAPI document of an application."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from fastapi_channels.contract.document import encoded
from fastapi_channels.contract.serving import as_yaml

from .application import described


def add(commands: Any) -> None:
    """Tell the parser's `commands` of this one."""
    parser = commands.add_parser("asyncapi", help="write the AsyncAPI document of an application")
    parser.add_argument("app", help="where it is: module:name")
    parser.add_argument("-o", "--output", type=Path, help="a file, .json or .yaml; else it is printed")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    body = encoded(described(given.app)) + b"\n"
    if given.output is None:
        sys.stdout.write(body.decode())
    elif given.output.suffix in (".yaml", ".yml"):
        given.output.write_text(as_yaml(body), encoding="utf-8")
    else:
        given.output.write_bytes(body)
