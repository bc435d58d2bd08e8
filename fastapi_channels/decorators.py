"""`@action`, which makes a method an action, and `@limiter`, which limits its rate, in either order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Unpack

from fastapi_channels.channels import upstream

from .actions.marks import marks
from .actions.options import ActionOptions
from .actions.spec import ActionSpec, Func, decorator_of
from .exceptions import ConfigurationError
from .signatures.signature import where
from .throttling import limiter

__all__ = ["ActionOptions", "action", "limiter"]


def action(name: str | None = None, **options: Unpack[ActionOptions]) -> Callable[[Func], Func]:
    """Make a method an action of its channel: clients call it by name. The function is returned as it is.

    Args:
        name: what clients call it; the method's name unless given.
        permission: asked beside the application's and the channel's.
        deprecated: every call is refused with ActionIsDeprecated.
        sunset: the day (UTC) from which it is refused; until then replies say so.
        detached: calls run beside whatever else the client asks for, at most 32 at a time.
        concurrent: how many calls of one connection may run at a time; 1 runs all actions in order.
        idempotent: a call that a client makes again, with the same request id, is not handled again within
            five minutes: it gets the reply of the first.
        dependencies: resolved for each call, beside the channel's and the router's.
        response_model: the reply is validated against it and filtered; the return annotation unless given.
        summary, description, tags, include_in_schema: for the documentation.

    Raises:
        ConfigurationError: an option, or a parameter of the method, that cannot work.
    """
    upstream.drop_of_action(options)
    return decorator_of(_mark, name, options)


def _mark(spec: ActionSpec) -> None:
    marked = marks(spec.func)
    if marked.action is not None:
        raise ConfigurationError(f"{where(spec.func)} is the action {marked.action.name!r} already")
    marked.action = spec
