"""`Admin`: routes for operators, and a page, on an application."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.params import Depends as Dependency

from fastapi_channels.cluster.node import Node
from fastapi_channels.contract.serving import check_path, checked_dependencies
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.sessions.origin import origin_allowed
from fastapi_channels.throttling import client_address

from .acts import add_acts
from .audit import Guarded
from .channels import Channels
from .counts import Counts
from .page import add_page
from .reports import Refusal
from .views import Views

logger = logging.getLogger("fastapi_channels.admin")

REFUSALS: Final[dict[int | str, dict[str, Any]]] = {
    "default": {
        "model": Refusal,
        "description": "Not let in (401, 403), not there (404), what cannot be (400, 422), or a broker or a "
        "store is away (503)",
    }
}


class Admin:
    """Adds routes to an application that show what happens in all of its processes and, where that is asked
    for, act on it; and a page for operators, where Jinja2 is installed.

    Args:
        app: on which `add_channel()` was called.
        dependencies: of each route: they let nobody else in.
        prefix: begins the paths; the page is at `…/`.
        who: a dependency, whose value the log names as the one who acts; the address unless given.
        read_only: whether nothing can be done but look.
        allow_anybody: whether it is meant that there are no dependencies.

    Raises:
        ConfigurationError: everybody could use it, and nobody has said so; or an argument cannot work.
    """

    def __init__(
        self,
        app: FastAPI,
        *,
        dependencies: Sequence[Dependency] = (),
        prefix: str = "/admin",
        who: Callable[..., Any] | None = None,
        read_only: bool = True,
        allow_anybody: bool = False,
    ) -> None:
        node = Node.attached(app)
        if node is None:
            raise ConfigurationError("Admin() needs an application that add_channel() was called on")
        dependencies = checked_dependencies("dependencies", dependencies)
        check_path("prefix", prefix)
        if not dependencies and not allow_anybody:
            raise ConfigurationError(
                "Admin() is for whoever its dependencies let in: dependencies=[Depends(only_staff)]; "
                "allow_anybody=True says that everybody may use it"
            )

        def address(request: Request) -> str:
            return client_address(request, node.settings.trusted_proxies)

        class Route(Guarded):
            address_of = staticmethod(address)

        channels, own = Channels(app), Depends(_own_page)
        node.questions.answers["health"] = Counts(node, node.questions.answers["health"]).described
        page = APIRouter(prefix=prefix.rstrip("/"), dependencies=dependencies, route_class=Route)
        add_page(page, app, node, channels, [own], read_only=read_only)
        routes = APIRouter(
            prefix=prefix.rstrip("/"),
            tags=["admin"],
            dependencies=[own, *dependencies],
            route_class=Route,
            responses=REFUSALS,
        )
        actor = who or address
        Views(node, channels).add(routes, actor)
        if not read_only:
            add_acts(routes, node, channels, actor)
        app.include_router(page)
        app.include_router(routes)


def _own_page(request: Request, response: Response) -> None:
    """Let pages of this server alone ask, and what is no browser: a cookie is sent from any page. No cache
    keeps the answer."""
    response.headers["cache-control"] = "no-store"
    if not origin_allowed(request, None):
        logger.warning("a page of %r may not administer", request.headers.get("origin", "")[:200])
        raise HTTPException(403, "a page of another origin may not administer")
