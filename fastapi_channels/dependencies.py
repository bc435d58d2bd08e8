"""FastAPI's dependencies, resolved for each message. The only module that touches its resolver.

The dependants are FastAPI's own, so signatures mean what they mean in a route. A graph that asks for
nothing of the request but the WebSocket itself is compiled once into a list of calls; one that reads
headers, cookies, query, path or the body, or uses security scopes, and any graph while the application
has `dependency_overrides`, goes through `solve_dependencies`, which costs ten times as much.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Final, get_args, get_origin

from fastapi import params
from fastapi.concurrency import contextmanager_in_threadpool
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_dependant, get_parameterless_sub_dependant, solve_dependencies
from fastapi.exceptions import FastAPIError
from starlette.concurrency import run_in_threadpool
from starlette.types import Scope
from starlette.websockets import WebSocket

from .exceptions import ConfigurationError

REQUEST_PARAMETERS: Final = ("path_params", "query_params", "header_params", "cookie_params", "body_params")
SPECIAL_PARAMETERS: Final = (
    "request_param_name",
    "response_param_name",
    "background_tasks_param_name",
    "security_scopes_param_name",
)


def is_dependency(parameter: inspect.Parameter) -> bool:
    """Whether FastAPI resolves `parameter`: Depends, Security, Header, Cookie, Query or Path."""
    markers = [parameter.default]
    if get_origin(parameter.annotation) is Annotated:
        markers.extend(get_args(parameter.annotation)[1:])
    return any(isinstance(marker, params.Depends | params.Param) for marker in markers)


class DependencyErrors(Exception):
    """What a client sent does not fit the parameters of a dependency; `errors` as FastAPI lists them."""

    def __init__(self, errors: Sequence[Any]) -> None:
        super().__init__(f"{len(errors)} errors")
        self.errors = errors


class Dependencies:
    """What one action depends on.

    Args:
        parameters: those of the handler for which `is_dependency` holds, annotations evaluated.
        extra: dependencies without a parameter.
        where: names the handler in errors.

    Raises:
        ConfigurationError: FastAPI cannot make sense of a parameter.
    """

    __slots__ = ("_dependant", "_embed", "_names", "_plan")

    def __init__(
        self, parameters: Sequence[inspect.Parameter], extra: Sequence[params.Depends], where: str
    ) -> None:
        self._dependant = _dependant(parameters, extra, where)
        self._embed = _count_body_fields(self._dependant) > 1
        self._plan = _compile(self._dependant)
        self._names = tuple(parameter.name for parameter in parameters)

    async def solve(self, websocket: WebSocket, payload: Any, stack: AsyncExitStack) -> dict[str, Any]:
        """The values of the parameters; what was opened for them closes with `stack`.

        Raises:
            DependencyErrors: the request does not validate. What a dependency raises passes through.
        """
        app = websocket.scope.get("app")
        if self._plan is not None and not getattr(app, "dependency_overrides", None):
            return await self._plan.run(websocket, stack)
        return await self._solve(websocket, payload, stack, app)

    async def _solve(
        self, websocket: WebSocket, payload: Any, stack: AsyncExitStack, app: Any
    ) -> dict[str, Any]:
        # A scope of its own: concurrent actions must not meet in the connection's.
        scope: Scope = {
            **websocket.scope,
            "fastapi_inner_astack": stack,
            "fastapi_function_astack": stack,
        }
        view = WebSocket(scope, websocket.receive, websocket.send)
        solved = await solve_dependencies(
            request=view,
            dependant=self._dependant,
            body=payload,
            dependency_overrides_provider=app,
            async_exit_stack=stack,
            embed_body_fields=self._embed,
        )
        if solved.errors:
            raise DependencyErrors(solved.errors)
        return solved.values


def generators_of_route(scope: Scope) -> list[str]:
    """Names of the `yield` dependencies of the route being served: they stay open with the connection."""
    dependant = getattr(scope.get("route"), "dependant", None)
    found: list[str] = []
    if isinstance(dependant, Dependant):
        _collect_generators(dependant, found)
    return found


def _collect_generators(dependant: Dependant, found: list[str]) -> None:
    for sub in dependant.dependencies:
        if inspect.isgeneratorfunction(sub.call) or inspect.isasyncgenfunction(sub.call):
            found.append(getattr(sub.call, "__name__", repr(sub.call)))
        _collect_generators(sub, found)


def _dependant(
    parameters: Sequence[inspect.Parameter], extra: Sequence[params.Depends], where: str
) -> Dependant:
    def handler() -> None:
        """Stands for the action: only those of its parameters that FastAPI resolves."""

    keyword_only = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    handler.__signature__ = inspect.Signature(keyword_only)  # type: ignore[attr-defined]  # what inspect reads
    try:
        dependant = get_dependant(path="", call=handler)
        dependant.dependencies[:0] = [get_parameterless_sub_dependant(depends=d, path="") for d in extra]
    except (FastAPIError, AssertionError, TypeError) as exc:
        raise ConfigurationError(f"the dependencies of {where} cannot be resolved: {exc}") from exc
    return dependant


def _count_body_fields(dependant: Dependant) -> int:
    return len(dependant.body_params) + sum(map(_count_body_fields, dependant.dependencies))


@dataclass(slots=True)
class _Step:
    """One call of a compiled graph; `arguments` are (parameter, place of its value)."""

    call: Callable[..., Any]
    kind: str
    arguments: tuple[tuple[str, int], ...]


_WEBSOCKET: Final = 0
"""The place of the WebSocket among the values."""


class _Plan:
    """A graph of dependencies as a list of calls, each after those it needs."""

    __slots__ = ("_results", "_steps")

    def __init__(self, steps: Sequence[_Step], results: Sequence[tuple[str, int]]) -> None:
        self._steps = tuple(steps)
        self._results = tuple(results)

    async def run(self, websocket: WebSocket, stack: AsyncExitStack) -> dict[str, Any]:
        values: list[Any] = [websocket]
        for step in self._steps:
            arguments = {name: values[place] for name, place in step.arguments}
            if step.kind == "async":
                value = await step.call(**arguments)
            elif step.kind == "async yield":
                value = await stack.enter_async_context(step.call(**arguments))
            elif step.kind == "yield":
                context = contextmanager_in_threadpool(step.call(**arguments))
                value = await stack.enter_async_context(context)
            else:
                value = await run_in_threadpool(step.call, **arguments)
            values.append(value)
        return {name: values[place] for name, place in self._results}


def _compile(root: Dependant) -> _Plan | None:
    """The plan for `root`, or None where it needs FastAPI's own resolver."""
    steps: list[_Step] = []
    places: dict[Any, int] = {}
    if not _is_plain(root):
        return None
    results = [(sub.name or "", _place(sub, steps, places)) for sub in root.dependencies]
    if root.websocket_param_name:
        results.append((root.websocket_param_name, _WEBSOCKET))
    return _Plan(steps, [(name, place) for name, place in results if name])


def _is_plain(dependant: Dependant) -> bool:
    """Whether nothing in the graph needs more of the request than the WebSocket."""
    own = (*REQUEST_PARAMETERS, *SPECIAL_PARAMETERS, "own_oauth_scopes", "concurrency")
    return not any(getattr(dependant, name, None) for name in own) and all(
        map(_is_plain, dependant.dependencies)
    )


def _place(dependant: Dependant, steps: list[_Step], places: dict[Any, int]) -> int:
    """Where the value of `dependant` will stand; adds the steps that make it."""
    call = dependant.call
    assert call is not None, "a sub-dependant has a call"
    if dependant.use_cache and call in places:
        return places[call]
    arguments = [(sub.name or "", _place(sub, steps, places)) for sub in dependant.dependencies]
    own = (dependant.websocket_param_name, dependant.http_connection_param_name)
    arguments.extend((name, _WEBSOCKET) for name in own if name)
    steps.append(_step(call, tuple((name, place) for name, place in arguments if name)))
    places[call] = len(steps)
    return len(steps)


def _step(call: Callable[..., Any], arguments: tuple[tuple[str, int], ...]) -> _Step:
    target = inspect.unwrap(call.func if isinstance(call, partial) else call)
    if not inspect.isroutine(target) and not inspect.isclass(target):
        target = target.__call__
    if inspect.isasyncgenfunction(target):
        return _Step(asynccontextmanager(call), "async yield", arguments)
    if inspect.isgeneratorfunction(target):
        return _Step(contextmanager(call), "yield", arguments)
    return _Step(call, "async" if inspect.iscoroutinefunction(target) else "sync", arguments)
