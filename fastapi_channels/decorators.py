"""`@action`, which makes a method an action, and `@limiter`, which limits its rate, in either order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

from fastapi_channels.channels import upstream

from .actions.marks import marks
from .actions.signature import where
from .actions.spec import Func, check_parentheses, make_spec
from .exceptions import ConfigurationError
from .permission import Permission
from .throttling import limiter

__all__ = ["action", "limiter"]


def action(
    name: str | None = None,
    *,
    permission: Permission = None,
    deprecated: bool = False,
    sunset: date | None = None,
    detached: bool = False,
    concurrent: int = 1,
    dependencies: Sequence[Any] = (),
    response_model: Any = None,
    summary: str | None = None,
    description: str | None = None,
    tags: Sequence[str] = (),
    include_in_schema: bool = True,
    **unused: Any,
) -> Callable[[Func], Func]:
    """Make a method an action of its channel: clients call it by name. The function is returned as it is.

    Args:
        name: what clients call it; the method's name unless given.
        permission: asked beside the application's and the channel's.
        deprecated: every call is refused with ActionIsDeprecated.
        sunset: the day (UTC) from which it is refused; until then replies say so.
        detached: calls run beside whatever else the client asks for, at most 32 at a time.
        concurrent: how many calls of one connection may run at a time; 1 runs all actions in order.
        response_model: the reply is validated against it and filtered; the return annotation unless given.
        summary, description, tags, include_in_schema: for the documentation.

    Raises:
        ConfigurationError: an option, or a parameter of the method, that cannot work.
    """
    check_parentheses(name)
    upstream.drop("action()", unused, upstream.ACTION)

    def decorate(func: Func) -> Func:
        marked = marks(func)
        plain = getattr(func, "__func__", func)
        if marked.action is not None:
            raise ConfigurationError(f"{where(plain)} is the action {marked.action.name!r} already")
        marked.action = make_spec(
            plain,
            name,
            permission=permission,
            deprecated=deprecated,
            sunset=sunset,
            detached=detached,
            concurrent=concurrent,
            dependencies=dependencies,
            response_model=response_model,
            summary=summary,
            description=description,
            tags=tags,
            include_in_schema=include_in_schema,
        )
        return func

    return decorate
