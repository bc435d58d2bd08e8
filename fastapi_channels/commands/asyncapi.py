"""`fastapi-channels asyncapi`: writes the AsyncAPI document of an application."""

from __future__ import annotations

import argparse
from typing import Any

from fastapi_channels.contract.document import encoded
from fastapi_channels.contract.serving import as_yaml

from .application import described
from .output import add_output, write


def add(commands: Any) -> None:
    """Tell the parser's `commands` of this one."""
    parser = commands.add_parser("asyncapi", help="write the AsyncAPI document of an application")
    parser.add_argument("app", help="where it is: module:name")
    add_output(parser, ", .json or .yaml")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    body = encoded(described(given.app)) + b"\n"
    is_yaml = given.output is not None and given.output.suffix in (".yaml", ".yml")
    write(as_yaml(body) if is_yaml else body.decode(), given.output)
