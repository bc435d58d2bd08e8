"""The command line: `fastapi-channels`, or `python -m fastapi_channels`."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from functools import reduce
from pathlib import Path

from fastapi import FastAPI

from .cluster.node import Node
from .contract.document import document, encoded
from .contract.serving import as_yaml
from .exceptions import ConfigurationError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    parser = argparse.ArgumentParser("fastapi-channels", description="Channels for FastAPI WebSockets.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    asyncapi = commands.add_parser("asyncapi", help="write the AsyncAPI document of an application")
    asyncapi.add_argument("app", help="where it is: module:name")
    asyncapi.add_argument("-o", "--output", type=Path, help="a file, .json or .yaml; else it is printed")
    asyncapi.set_defaults(run=_asyncapi)
    given = parser.parse_args(arguments)
    try:
        given.run(given)
    except ConfigurationError as exc:
        print(f"fastapi-channels: {exc}", file=sys.stderr)
        return 1
    return 0


def _asyncapi(given: argparse.Namespace) -> None:
    app = load(given.app)
    node = Node.attached(app)
    body = encoded(document(app, node.settings if node is not None else None)) + b"\n"
    if given.output is None:
        sys.stdout.write(body.decode())
    elif given.output.suffix in (".yaml", ".yml"):
        given.output.write_text(as_yaml(body), encoding="utf-8")
    else:
        given.output.write_bytes(body)


def load(target: str) -> FastAPI:
    """The application that `target` names, as uvicorn would find it from the current directory.

    Raises:
        ConfigurationError: there is none; says what there is.
    """
    module, _, name = target.partition(":")
    sys.path.insert(0, "")
    try:
        found = reduce(getattr, (name or "app").split("."), importlib.import_module(module))
    except ModuleNotFoundError as exc:
        if exc.name is None or not f"{module}.".startswith(f"{exc.name}."):
            raise
        raise ConfigurationError(f"there is no module {exc.name!r} here: say module:name") from None
    except AttributeError as exc:
        raise ConfigurationError(f"{target!r} cannot be found: {exc}") from None
    finally:
        sys.path.remove("")
    if not isinstance(found, FastAPI):
        raise ConfigurationError(f"{target!r} is no FastAPI application, but {found!r}")
    return found


if __name__ == "__main__":
    sys.exit(main())
