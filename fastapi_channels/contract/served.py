"""Which channels an application serves, and where: its WebSocket routes, read without running them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import CodeType, MappingProxyType, ModuleType
from typing import Any, NamedTuple, TypeAlias

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIWebSocketRoute
from starlette.convertors import Convertor
from starlette.routing import Mount

from fastapi_channels.channels import BaseChannel
from fastapi_channels.channels.mounting import SERVES
from fastapi_channels.channels.socket import Socket
from fastapi_channels.cluster.node import Node

Owner: TypeAlias = BaseChannel | Socket


class Endpoint(NamedTuple):
    """A WebSocket route that leads to channels.

    Attributes:
        convertors: of the parameters in the address, by their names.
        mounted: whether it was made for the owner; else it was written by hand, and may lead to any room.
    """

    address: str
    convertors: Mapping[str, Convertor[Any]]
    owner: Owner
    dependant: Dependant
    summary: str
    mounted: bool


def endpoints(app: Any, only: Any = None) -> Iterator[Endpoint]:
    """Those of `app` and of what is mounted in it, in the order of the routes.

    An endpoint that is written by hand serves the channels that its code names.

    Args:
        only: a router, where the others are none of ours.
    """
    ours = None if only is None else {id(route.endpoint) for route in _flat(only.routes)}
    for route in _flat(app.routes):
        if ours is None or id(route.endpoint) in ours:
            summary, mounted = _summary(route.endpoint), hasattr(route.endpoint, SERVES)
            for owner in _owners(route.endpoint):
                yield Endpoint(route.address, route.convertors, owner, route.dependant, summary, mounted)


class _Route(NamedTuple):
    address: str
    convertors: Mapping[str, Convertor[Any]]
    endpoint: Callable[..., Any]
    dependant: Dependant


def _flat(
    routes: Iterable[Any], prefix: str = "", outer: Mapping[str, Convertor[Any]] = MappingProxyType({})
) -> Iterator[_Route]:
    for route in routes:
        if isinstance(route, Mount):
            # What has a node of its own has a document of its own.
            if Node.attached(route.app) is None:
                address = prefix + route.path_format.removesuffix("/{path}")
                yield from _flat(route.routes, address, {**outer, **route.param_convertors})
            continue
        included = getattr(route, "effective_route_contexts", None)
        for each in included() if included is not None else (route,):
            found = getattr(each, "starlette_route", None) or each
            if isinstance(found, APIWebSocketRoute):
                convertors = {**outer, **found.param_convertors}
                yield _Route(prefix + found.path_format, convertors, found.endpoint, found.dependant)


def _owners(endpoint: Callable[..., Any]) -> list[Owner]:
    mounted = getattr(endpoint, SERVES, None)
    if mounted is not None:
        return [mounted]
    function = inspect.unwrap(endpoint)
    code = getattr(function, "__code__", None)
    if code is None:
        return []
    known = {**getattr(function, "__globals__", {}), **_closure(function, code)}
    named = dict.fromkeys([*code.co_names, *code.co_freevars])
    values = [known[name] for name in named if name in known]
    modules = [value for value in values if isinstance(value, ModuleType)]
    values += [vars(module)[name] for module in modules for name in named if name in vars(module)]
    found: dict[int, Owner] = {id(value): value for value in values if isinstance(value, Owner)}
    return list(found.values())


def _closure(function: Any, code: CodeType) -> dict[str, Any]:
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    found: dict[str, Any] = {}
    for name, cell in cells:
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not bound yet
            continue
    return found


def _summary(endpoint: Callable[..., Any]) -> str:
    return "" if hasattr(endpoint, SERVES) else inspect.getdoc(endpoint) or ""
