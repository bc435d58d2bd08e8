"""Actions that are written apart from their channel: in another file, under a prefix."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, Unpack

from fastapi.params import Depends

from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.permission import Permission, combine

from .options import ActionOptions
from .spec import ActionSpec, Func, decorator_of

Handler = TypeVar("Handler", bound=Callable[..., Any])


class ActionRouter:
    """Collects functions as actions, for `channel.include_router(router)` or a channel's `routers`.

    The functions take what those of a channel take; their channel is `connection.channel`.

    Args:
        prefix: begins the names of the actions.
        dependencies: resolved before each action's own.
        permission: asked before each action's own.
        tags: added to each action's own.
    """

    def __init__(
        self,
        prefix: str = "",
        *,
        dependencies: Sequence[Depends] = (),
        permission: Permission = None,
        tags: Sequence[str] = (),
    ) -> None:
        self.prefix = prefix
        self.exception_handlers: dict[type[Exception], Callable[..., Any]] = {}
        """What `exception_handler` registered."""
        self._dependencies = tuple(dependencies)
        self._permission = permission
        self._tags = tuple(tags)
        self._specs: dict[str, ActionSpec] = {}

    def action(self, name: str | None = None, **options: Unpack[ActionOptions]) -> Callable[[Func], Func]:
        """Decorator: make a function an action. The arguments are those of `@action`."""
        return decorator_of(self._add, name, options)

    def exception_handler(self, exc_type: type[Exception]) -> Callable[[Handler], Handler]:
        """Decorator: let the function, called with the websocket and the exception, answer for
        `exc_type` and its subclasses where an action of the router raises them."""

        def decorate(func: Handler) -> Handler:
            self.exception_handlers[exc_type] = func
            return func

        return decorate

    def include_router(self, router: ActionRouter) -> None:
        """Add the actions of another router, under both prefixes.

        Raises:
            ConfigurationError: a name is there already.
        """
        for spec in router.specs():
            self._add(spec)

    def specs(self) -> Iterator[ActionSpec]:
        """The actions, with what the router adds to each."""
        for spec in self._specs.values():
            whole = copy.copy(spec)
            whole.name = self.prefix + spec.name
            whole.permission = combine(self._permission, spec.permission)
            whole.dependencies = (*self._dependencies, *spec.dependencies)
            whole.tags = (*self._tags, *spec.tags)
            whole.exception_handlers = {**self.exception_handlers, **spec.exception_handlers}
            yield whole

    def _add(self, spec: ActionSpec) -> None:
        if spec.name in self._specs:
            raise ConfigurationError(f"the router has an action named {spec.name!r} already")
        self._specs[spec.name] = spec
