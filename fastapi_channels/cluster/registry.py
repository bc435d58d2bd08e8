"""Which node serves an application or a router: several live in one process."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from typing import Any

from starlette.types import Scope

_nodes: dict[int, tuple[weakref.ref[Any], Any]] = {}
"""By the target's identity: routers cannot be hashed."""


def put(target: Any, node: Any) -> None:
    """Let `target`, an application or a router, be served by `node`, for as long as it lives."""
    key = id(target)
    _nodes[key] = (weakref.ref(target, lambda _: _nodes.pop(key, None)), node)


def get(target: Any) -> Any:
    """The node of `target`, or None."""
    reference, node = _nodes.get(id(target), (None, None))
    return node if reference is not None and reference() is target else None


def of_endpoint(scope: Scope | None) -> Any:
    """The node of the router that holds the endpoint of `scope`, for add_channel(router)."""
    endpoint = (scope or {}).get("endpoint")
    if endpoint is None:
        return None
    for reference, node in list(_nodes.values()):
        if endpoint in _endpoints(getattr(reference(), "routes", ())):
            return node
    return None


def _endpoints(routes: Iterable[Any]) -> Iterator[Any]:
    """Those of the routes, and of the routers that FastAPI included without copying their routes."""
    for route in routes:
        yield getattr(route, "endpoint", None)
        yield from _endpoints(getattr(getattr(route, "original_router", None), "routes", ()))
