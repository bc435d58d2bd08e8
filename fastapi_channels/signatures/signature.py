"""What is read from the signature of a function of the user's, whatever it is called for."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import BaseModel, RootModel
from typing_extensions import is_typeddict

from fastapi_channels.connection import Connection
from fastapi_channels.exceptions import ConfigurationError

_IN_PATTERNS: Final = ("str", "int", "float", "UUID")
"""What a pattern of rooms can give."""
_CONNECTION: Final = re.compile(
    r"(None *\| *)?((\w+\.)*(Annotated|Optional)\[ *)*(\w+\.)*Connection *([\[\],|].*)?", re.DOTALL
)


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


def members(annotation: Any) -> Sequence[Any]:
    """The types that a value may have besides None."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return members(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [member for member in get_args(annotation) if member is not NoneType]
    return (annotation,)


def check_room_parameter(func: Callable[..., Any], parameter: inspect.Parameter, kind: type | None) -> None:
    """Refuse a parameter that would be given another type than it says.

    Args:
        parameter: named like one of the room's pattern, its annotation evaluated.
        kind: what the pattern gives; None where that is not known.

    Raises:
        ConfigurationError: it is not what the annotation says.
    """
    annotation = parameter.annotation
    if kind is None or annotation in (parameter.empty, Any) or any(_is(kind, m) for m in members(annotation)):
        return
    name, wanted = parameter.name, annotation.__name__ if isinstance(annotation, type) else str(annotation)
    mended = (
        f"room_pattern may say {{{name}:{wanted.lower()}}}"
        if wanted in _IN_PATTERNS
        else "one of the two is wrong"
    )
    raise ConfigurationError(
        f"the parameter {name!r} of {where(func)} is annotated as {wanted}, and the room_pattern gives it as "
        f"{kind.__name__}: {mended}"
    )


def _is(kind: type, wanted: Any) -> bool:
    """Whether a value of a `kind` is a `wanted`, or may be: of a Literal, for example, its values say so."""
    plain = get_origin(wanted) or wanted
    if not isinstance(plain, type) or getattr(plain, "_is_protocol", False):
        return True
    return issubclass(kind, plain) or (kind is int and plain is float)


def check_call(what: str, func: Callable[..., Any], first: Collection[str], names: Iterable[str]) -> None:
    """
    Args:
        what: `func` in the error.
        first: what it is called with, by position.
        names: the parameters that it is given by name, behind these.

    Raises:
        ConfigurationError: it cannot be called so.
    """
    names = dict.fromkeys(names)
    try:
        inspect.signature(func).bind(*first, **names)
    except TypeError as exc:
        told = f"first {', '.join(first)}, then by name {', '.join(names) or 'nothing'}"
        raise ConfigurationError(f"{what} cannot be called: {exc}; it is given {told}") from None


def wants_connection(parameter: inspect.Parameter) -> bool:
    """Whether the annotation is `Connection`, or one of its users: `Connection[Person]`; also within
    `Annotated`, or beside None. As a text it is looked at, and not evaluated: what it names may not be there
    yet."""
    annotation = parameter.annotation
    if isinstance(annotation, str):
        return _CONNECTION.fullmatch(annotation) is not None
    return any((get_origin(member) or member) is Connection for member in members(annotation))


def is_model(annotation: Any) -> bool:
    """Whether a parameter of this type takes the whole payload rather than one field of it.

    A payload is an object: a `RootModel` of a list or a number is the type of a field.
    """
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
    if issubclass(plain, RootModel):
        root = plain.model_fields["root"].annotation
        return is_model(root) or _is_mapping(root)
    return issubclass(plain, BaseModel) or dataclasses.is_dataclass(plain) or is_typeddict(plain)


def names_of(annotation: Any) -> set[str]:
    """The names that the fields of a model have in a payload; of a union, those of all its models."""
    annotation = getattr(annotation, "__value__", annotation)
    origin = get_origin(annotation)
    if origin is Annotated:
        return names_of(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return set().union(*map(names_of, get_args(annotation)))
    plain = origin or annotation
    if not isinstance(plain, type):
        return set()
    if issubclass(plain, RootModel):
        return names_of(plain.model_fields["root"].annotation)
    if issubclass(plain, BaseModel):
        aliases = {name: field.validation_alias for name, field in plain.model_fields.items()}
        return {alias if isinstance(alias, str) else name for name, alias in aliases.items()}
    if dataclasses.is_dataclass(plain):
        return {field.name for field in dataclasses.fields(plain)}
    return set(plain.__annotations__) if is_typeddict(plain) else set()


def _is_mapping(annotation: Any) -> bool:
    plain = get_origin(annotation) or annotation
    return isinstance(plain, type) and issubclass(plain, Mapping)
