"""What a function depends on, read as FastAPI reads it: an action, and what is asked or called around a
connection. This module and `graph` are the only ones that touch FastAPI's code for dependencies.

FastAPI reads the signatures, so that they mean what they mean in a route, and reads parameters from the
request. What it found is compiled once into a list of calls. Its own `solve_dependencies` works it out anew
for each request, at ten times the price, and leaves open what it was opening in a thread when the task is
cancelled.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, get_args, get_origin

from fastapi import params
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_dependant, get_parameterless_sub_dependant
from fastapi.exceptions import FastAPIError
from starlette.types import Scope

from fastapi_channels.exceptions import ConfigurationError, PermissionDenied

from .callables import opener_of
from .graph import DependencyErrors, Plan, Resolution
from .signature import evaluate, where

logger = logging.getLogger("fastapi_channels")

MAX_ERRORS: Final = 100
"""How many faults a client is told of."""
TOLD: Final = "fastapi_channels_told"


def is_dependency(parameter: inspect.Parameter) -> bool:
    """Whether FastAPI resolves `parameter`: Depends, Security, Header, Cookie, Query or Path."""
    markers = [parameter.default]
    if get_origin(parameter.annotation) is Annotated:
        markers.extend(get_args(parameter.annotation)[1:])
    return any(isinstance(marker, params.Depends | params.Param) for marker in markers)


def told(errors: Sequence[Any]) -> list[dict[str, Any]]:
    """What a client is told of faults that pydantic lists: not what it sent itself."""
    return [{"loc": list(e["loc"]), "msg": e["msg"], "type": e["type"]} for e in errors[:MAX_ERRORS]]


class Dependencies:
    """What one function depends on: an action, or what is asked or called around a connection.

    Args:
        parameters: those of the function for which `is_dependency` holds, annotations evaluated.
        extra: dependencies without a parameter.
        where: names the function in errors.
        has_message: whether there is a message to read from.
        has_request: whether there is a request to read from, and a connection.

    Raises:
        ConfigurationError: a parameter that FastAPI, or a message, has nothing for.
    """

    __slots__ = ("_dependant", "_has_message", "_has_request", "_overridden", "_plan", "_where", "names")

    def __init__(
        self,
        parameters: Sequence[inspect.Parameter],
        extra: Sequence[params.Depends],
        where: str,
        *,
        has_message: bool = True,
        has_request: bool = True,
    ) -> None:
        self.names = frozenset(parameter.name for parameter in parameters)
        self._where = where
        self._has_message = has_message
        self._has_request = has_request
        self._dependant = _dependant(parameters, extra, where)
        self._plan = self._compiled({})
        self._overridden: tuple[Mapping[Any, Any], Plan] = ({}, self._plan)

    async def solve(self, resolution: Resolution) -> dict[str, Any]:
        """The values of the parameters. What the resolution has already is not called again.

        Nothing is called unless the whole request fits.

        Raises:
            DependencyErrors: it does not. What a dependency raises passes through.
        """
        plan = self._plan
        overrides = getattr(resolution.websocket.scope.get("app"), "dependency_overrides", None)
        if overrides:
            plan = self._plan_with(overrides)
        return await plan.run(resolution)

    def _plan_with(self, overrides: Mapping[Any, Any]) -> Plan:
        known, plan = self._overridden
        if known != overrides:
            plan = self._compiled(overrides)
            self._overridden = (dict(overrides), plan)
        return plan

    def _compiled(self, overrides: Mapping[Any, Any]) -> Plan:
        try:
            return Plan(
                self._dependant, overrides, has_message=self._has_message, has_request=self._has_request
            )
        except (FastAPIError, AssertionError, TypeError) as exc:
            raise ConfigurationError(f"the dependencies of {self._where} cannot be resolved: {exc}") from exc


def dependencies_of(func: Callable[..., Any], *, has_request: bool = True) -> Dependencies | None:
    """What FastAPI resolves for a function that no message is sent to; None if it is nothing.

    Args:
        has_request: whether it is called for a client, or by the clock.

    Raises:
        ConfigurationError: it cannot be resolved, or is in a message.
    """
    named = inspect.signature(func).parameters
    parameters = [p.replace(annotation=evaluate(func, p, named)) for p in named.values()]
    resolved = [parameter for parameter in parameters if is_dependency(parameter)]
    if not resolved:
        return None
    return Dependencies(resolved, (), where(func), has_message=False, has_request=has_request)


async def resolve(dependencies: Dependencies, resolution: Resolution) -> dict[str, Any]:
    """The values of the parameters, for a function that no message is sent to.

    Raises:
        PermissionDenied: the request does not fit them; says how. What a dependency raises passes through.
    """
    try:
        return await dependencies.solve(resolution)
    except DependencyErrors as exc:
        raise PermissionDenied(close=False, data=told(exc.errors)) from None


def _dependant(
    parameters: Sequence[inspect.Parameter], extra: Sequence[params.Depends], where: str
) -> Dependant:
    def handler() -> None:
        """Stands for the function: only those of its parameters that FastAPI resolves."""

    keyword_only = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    handler.__signature__ = inspect.Signature(keyword_only)  # type: ignore[attr-defined]  # what inspect reads
    try:
        dependant = get_dependant(path="", call=handler)
        dependant.dependencies[:0] = [get_parameterless_sub_dependant(depends=d, path="") for d in extra]
    except (FastAPIError, AssertionError, AttributeError, TypeError) as exc:
        raise ConfigurationError(f"the dependencies of {where} cannot be resolved: {exc}") from exc
    return dependant


def warn_of_generators(scope: Scope) -> None:
    """Log the `yield` dependencies of the route that serves `scope`: they live as long as the connection.

    Once for each route, on which it is noted.
    """
    route = scope.get("route")
    dependant = getattr(route, "dependant", None)
    if not isinstance(dependant, Dependant) or hasattr(route, TOLD):
        return
    setattr(route, TOLD, True)
    names = [getattr(call, "__name__", repr(call)) for call in _generators(dependant)]
    if names:
        logger.warning(
            "%s of %s stay open as long as each connection does: let the actions depend on them, for each "
            "message",
            ", ".join(dict.fromkeys(names)),
            getattr(route, "path", ""),
        )


def _generators(dependant: Dependant) -> Iterator[Any]:
    for sub in dependant.dependencies:
        if sub.call is not None and opener_of(sub.call) is not None:
            yield sub.call
        yield from _generators(sub)
