"""The application that a command is about."""

from __future__ import annotations

import importlib
import sys
from functools import reduce

from fastapi import FastAPI

from fastapi_channels.exceptions import ConfigurationError


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
