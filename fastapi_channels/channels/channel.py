"""Channels: subclass one, mark its methods with `@action`, and connect WebSockets to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Unpack

from fastapi_channels.actions.options import ActionOptions
from fastapi_channels.actions.router import ActionRouter
from fastapi_channels.actions.spec import ActionSpec, Func, collect, decorator_of
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.wire.messages import WINDOW
from fastapi_channels.wire.rooms import RoomPattern

from . import upstream
from .base import BaseChannel


class Channel(BaseChannel):
    """A room whose clients call actions: methods marked with `@action`, or functions registered with
    `channel.action(...)` on one instance."""

    routers: ClassVar[Sequence[ActionRouter]] = ()
    """Routers whose actions every instance has."""
    _class_actions: ClassVar[dict[str, ActionSpec]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._class_actions = collect(cls, cls.dependencies, cls._parameters())
        for router in cls.routers:
            cls._class_actions = _merged(cls._class_actions, cls._bound(router))

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._take(self._class_actions)

    @property
    def actions(self) -> list[str]:
        """The names of the actions."""
        return list(self._plan.actions or ())

    def action(self, name: str | None = None, **options: Unpack[ActionOptions]) -> Callable[[Func], Func]:
        """Decorator: make a function an action of this instance. The arguments are those of `@action`."""
        upstream.drop_of_action(options)
        return decorator_of(self._add, name, options)

    def include_router(self, router: ActionRouter) -> None:
        """Add the actions of `router` to this instance; `routers` does it for a class.

        Raises:
            ConfigurationError: an action has the name of one that is there.
        """
        self._take(self._bound(router))

    def _add(self, spec: ActionSpec) -> None:
        self._take({spec.name: spec.bind("", self.dependencies, self._parameters())})

    def _take(self, actions: dict[str, ActionSpec]) -> None:
        names = self.envelope
        for spec in actions.values():
            if names.payload is None:
                spec.refuse_fields((names.action, names.request_id, *((WINDOW,) if spec.is_stream else ())))
        self._plan.actions = _merged(self._plan.actions or {}, actions)

    @classmethod
    def _bound(cls, router: ActionRouter) -> dict[str, ActionSpec]:
        return {spec.name: spec.bind("", cls.dependencies, cls._parameters()) for spec in router.specs()}

    @classmethod
    def _parameters(cls) -> dict[str, type | None]:
        """What the name of a room says, for actions that want it. A filter may leave it open."""
        return {} if cls.room_pattern is None or cls.topics else RoomPattern(cls.room_pattern).types


def _merged(actions: dict[str, ActionSpec], more: dict[str, ActionSpec]) -> dict[str, ActionSpec]:
    twice = actions.keys() & more.keys()
    if twice:
        raise ConfigurationError(f"there is an action named {min(twice)!r} already")
    return {**actions, **more}
