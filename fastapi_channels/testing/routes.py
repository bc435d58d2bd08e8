"""Whether a path leads anywhere: who is not let in is answered as where there is no route."""

from __future__ import annotations

from typing import Any, Final

from starlette.routing import Match

UNFOUND: Final = frozenset({"HTTP 403", "HTTP 404"})
"""What is answered, without a word, where there is no route."""


def leads(app: Any, scope: dict[str, Any]) -> bool:
    """Whether a handshake has a route; True where that cannot be seen, as in what is mounted."""
    routes = getattr(app, "routes", None)
    if not routes:
        return True
    if root_path := getattr(app, "root_path", ""):
        scope = {**scope, "root_path": root_path}
    for route in routes:
        match, found = route.matches(scope)
        if match is not Match.NONE and leads(route, {**scope, **found}):
            return True
    return False
