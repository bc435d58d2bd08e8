"""The application that a command is about, and its document."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI

from fastapi_channels.cluster.node import Node
from fastapi_channels.contract.document import VERSION, document, encoded
from fastapi_channels.contract.serving import from_yaml
from fastapi_channels.exceptions import ConfigurationError


def find(target: str) -> Any:
    """What `target` names, `module:name`, as uvicorn would find it from the current directory; `app` where it
    names a module alone.

    Raises:
        ConfigurationError: there is nothing of that name.
        Exception: what the module itself fails with.
    """
    module, _, name = target.partition(":")
    sys.path.insert(0, "")
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as exc:
        if exc.name is None or not f"{module}.".startswith(f"{exc.name}."):
            raise
        raise ConfigurationError(f"there is no module {exc.name!r} here: say module:name") from None
    except SystemExit as exc:
        raise ConfigurationError(f"{module!r} ends the program when it is imported: {exc}") from exc
    finally:
        sys.path.remove("")
    try:
        return reduce(getattr, (name or "app").split("."), imported)
    except AttributeError as exc:
        raise ConfigurationError(f"{target!r} cannot be found: {exc}") from None


def load(target: str) -> FastAPI:
    """The application that `target` names.

    Raises:
        ConfigurationError: there is none; says what there is.
    """
    found = find(target)
    if not isinstance(found, FastAPI):
        raise ConfigurationError(f"{target!r} is no FastAPI application, but {found!r}")
    return found


def described(target: str) -> dict[str, Any]:
    """The AsyncAPI document of the application that `target` names.

    Raises:
        ConfigurationError: there is none.
    """
    app = load(target)
    node = Node.attached(app)
    return document(app, node.settings if node is not None else None)


def read(source: str) -> dict[str, Any]:
    """The AsyncAPI document in a file, or else of the application of that name.

    Raises:
        ConfigurationError: it is neither.
    """
    path = Path(source)
    if not path.is_file():
        if path.suffix in _FILES:
            raise ConfigurationError(f"there is no file {source!r}")
        # As the one in a file, which JSON has gone through.
        return _checked(json.loads(encoded(described(source))), source)
    try:
        text = path.read_text(encoding="utf-8")
        found = from_yaml(text) if path.suffix in _FILES[1:] else json.loads(text)
    except (OSError, ValueError) as exc:
        raise ConfigurationError(f"{source} cannot be read: {exc}") from None
    return _checked(found, source)


@contextmanager
def understood(*sources: str) -> Iterator[None]:
    """What is done with the documents of these.

    Raises:
        ConfigurationError: one is in a file, and something in it is not as the package writes it.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as exc:
        files = [each for each in sources if Path(each).is_file()]
        if not files:  # then it is no fault of a document
            raise
        about = f"{type(exc).__name__}: {exc}"
        raise ConfigurationError(
            f"{' or '.join(files)} is no document as fastapi-channels writes it ({about}): write it anew"
        ) from exc


_FILES: Final = (".json", ".yaml", ".yml")


def _checked(found: Any, source: str) -> dict[str, Any]:
    version = found.get("asyncapi") if isinstance(found, dict) else None
    if version != VERSION or not found.keys() >= _SECTIONS:
        raise ConfigurationError(f"{source} is no AsyncAPI {VERSION} document of fastapi-channels")
    return dict(found)


_SECTIONS: Final = frozenset({"channels", "operations"})
