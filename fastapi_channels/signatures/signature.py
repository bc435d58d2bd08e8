"""What is read from the signature of a function of the user's, whatever it is called for."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Callable, Collection
from functools import partial
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel
from typing_extensions import is_typeddict

from fastapi_channels.connection import Connection
from fastapi_channels.exceptions import ConfigurationError

_CONNECTION: Final = re.compile(r"(\w+\.)*Connection(\[.*\])?")


def where(func: Callable[..., Any]) -> str:
    """The name of `func`, for errors."""
    name = getattr(func, "__qualname__", None)
    return repr(func) if name is None else f"{func.__module__}.{name}"


def evaluate(func: Callable[..., Any], parameter: inspect.Parameter, known: Collection[str] = ()) -> Any:
    """The annotation of `parameter`, evaluated if it is a text.

    Args:
        known: names of parameters that need none; an annotation that cannot be read says nothing of them.

    Raises:
        ConfigurationError: it cannot be evaluated.
    """
    annotation = parameter.annotation
    if not isinstance(annotation, str):
        return annotation
    target = inspect.unwrap(func.func if isinstance(func, partial) else func)
    names = getattr(target, "__globals__", None) or vars(sys.modules[target.__module__])
    try:
        return eval(annotation, names)  # noqa: S307  the user's own annotation, as typing.get_type_hints does
    except Exception as exc:
        if parameter.name in known or parameter.kind is parameter.VAR_KEYWORD:
            return parameter.empty
        raise ConfigurationError(
            f"the annotation {annotation!r} of the parameter {parameter.name!r} of {where(func)} "
            f"cannot be read: {exc}; define or import the name at module level"
        ) from exc


def wants_connection(parameter: inspect.Parameter) -> bool:
    """Whether the annotation is `Connection`, or one of its users: `Connection[Person]`. As a text it is
    looked at, and not evaluated: what it names may not be there yet."""
    annotation = parameter.annotation
    if isinstance(annotation, str):
        return _CONNECTION.fullmatch(annotation) is not None
    return (get_origin(annotation) or annotation) is Connection


def is_model(annotation: Any) -> bool:
    """Whether a parameter of this type takes the whole payload rather than one field of it."""
    annotation = getattr(annotation, "__value__", annotation)  # of `type X = …`
    origin = get_origin(annotation)
    if origin is Annotated:
        return is_model(get_args(annotation)[0])
    if origin in (Union, UnionType):
        models = [member for member in get_args(annotation) if member is not NoneType]
        return bool(models) and all(map(is_model, models))
    plain = origin or annotation
    if not isinstance(plain, type):
        return False
    return issubclass(plain, BaseModel) or dataclasses.is_dataclass(plain) or is_typeddict(plain)
