"""Who may connect, and who may call an action: permissions that compose with `&`, `|` and `~`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, ClassVar, TypeAlias, Union, get_origin

from starlette.websockets import WebSocket

from .exceptions import ConfigurationError

Permission: TypeAlias = Union[
    "BasePermission", type["BasePermission"], Callable[..., Any], bool, Iterable["Permission"], None
]

_EXTRAS = ("channel", "connection", "data")


_ALL = tuple((name, name) for name in _EXTRAS)


def _extras_of(function: Callable[..., Any]) -> tuple[tuple[str, str], ...]:
    """Which parameters of `function` are given which of the extras."""
    parameters = inspect.signature(function).parameters.values()
    named = tuple((p.name, p.name) for p in parameters if p.name in _EXTRAS)
    typed = tuple((p.name, "connection") for p in parameters if p.name not in _EXTRAS and wants_connection(p))
    named = _ALL if any(p.kind is p.VAR_KEYWORD for p in parameters) else named
    return (*named, *typed) if typed else named


def wants_connection(parameter: inspect.Parameter) -> bool:
    """Whether the annotation is `Connection`, or one of its users: `Connection[Person]`. As a text it is
    looked at, and not evaluated: what it names may not be there yet."""
    annotation = parameter.annotation
    if isinstance(annotation, str):
        return _CONNECTION.fullmatch(annotation) is not None
    annotation = get_origin(annotation) or annotation
    module = getattr(annotation, "__module__", None)
    return module == "fastapi_channels.connection" and annotation.__name__ == "Connection"


_CONNECTION = re.compile(r"(\w+\.)*Connection(\[.*\])?")


def _is_extra(parameter: inspect.Parameter) -> bool:
    return parameter.name in _EXTRAS or wants_connection(parameter)


class _Composable(type):
    """Lets permission *classes* compose, not only their instances."""

    def __and__(cls, other: Any) -> BasePermission:
        return _All(as_permission(cls), as_permission(other))

    def __rand__(cls, other: Any) -> BasePermission:
        return _All(as_permission(other), as_permission(cls))

    def __or__(cls, other: Any) -> BasePermission:  # type: ignore[override]  # type's own | makes a Union
        return _Any(as_permission(cls), as_permission(other))

    def __ror__(cls, other: Any) -> BasePermission:  # type: ignore[override]  # type's own | makes a Union
        return _Any(as_permission(other), as_permission(cls))

    def __invert__(cls) -> BasePermission:
        return _Not(as_permission(cls))


class BasePermission(metaclass=_Composable):
    """One question about a client. Subclass it and answer in `has_permission`.

    Only the value `True` allows: None, 0, another object or an exception refuse.
    """

    _named: ClassVar[tuple[tuple[str, str], ...]]
    """Which of its parameters `has_permission` is given which of the extras by."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._named = _extras_of(cls.has_permission)

    def has_permission(
        self, websocket: WebSocket, action: str | None, **kwargs: Any
    ) -> bool | Awaitable[bool]:
        """Whether the client may connect (`action` is None) or call `action`.

        It may be declared `async`. Beside `websocket` and `action` it is given those of `channel` (the
        room), `connection` and `data` (the client's message) that its signature names. A parameter of the
        type Connection may have any name.
        """
        return False

    def __and__(self, other: Any) -> BasePermission:
        return _All(self, as_permission(other))

    def __rand__(self, other: Any) -> BasePermission:
        return _All(as_permission(other), self)

    def __or__(self, other: Any) -> BasePermission:
        return _Any(self, as_permission(other))

    def __ror__(self, other: Any) -> BasePermission:
        return _Any(as_permission(other), self)

    def __invert__(self) -> BasePermission:
        return _Not(self)


BasePermission._named = _ALL


class AllowAny(BasePermission):
    """Everybody."""

    def has_permission(self, websocket: WebSocket, action: str | None, **kwargs: Any) -> bool:
        return True


class IsAuthenticated(BasePermission):
    """Clients with a user that is true, unless that user says `is_authenticated` is false."""

    def has_permission(
        self, websocket: WebSocket, action: str | None, *, connection: Any = None, **kwargs: Any
    ) -> bool:
        user = connection.user if connection is not None else websocket.scope.get("user")
        return bool(user) and getattr(user, "is_authenticated", True) is True


class _All(BasePermission):
    # What is neither True nor False passes through unchanged, here and below: no `~`, and no second one,
    # must turn it into a yes.

    def __init__(self, *permissions: BasePermission) -> None:
        self.permissions = permissions

    async def has_permission(self, websocket: WebSocket, action: str | None, **kwargs: Any) -> Any:
        for permission in self.permissions:
            found = await answer(permission, websocket, action, kwargs)
            if found is not True:
                return found
        return True


class _Any(_All):
    async def has_permission(self, websocket: WebSocket, action: str | None, **kwargs: Any) -> Any:
        unclear: Any = False
        for permission in self.permissions:
            found = await answer(permission, websocket, action, kwargs)
            if found is True:
                return True
            unclear = unclear if found is False else found
        return unclear


class _Not(BasePermission):
    def __init__(self, permission: BasePermission) -> None:
        self.permission = permission

    async def has_permission(self, websocket: WebSocket, action: str | None, **kwargs: Any) -> Any:
        found = await answer(self.permission, websocket, action, kwargs)
        return not found if type(found) is bool else found


class _Fixed(BasePermission):
    def __init__(self, allowed: bool) -> None:
        self.allowed = allowed

    def has_permission(self, websocket: WebSocket, action: str | None, **kwargs: Any) -> bool:
        return self.allowed


class _Function(BasePermission):
    """A callable as a permission, given as many of websocket, action and itself as it takes."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        signature = inspect.signature(function)
        parameters = signature.parameters.values()
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        takes_all = any(p.kind is p.VAR_POSITIONAL for p in parameters)
        self._count = 3 if takes_all else min(sum(not _is_extra(p) for p in positional), 3)
        self._names = dict(_extras_of(function))
        try:
            signature.bind(*range(self._count), **dict.fromkeys(self._names))
        except TypeError as exc:
            raise ConfigurationError(
                f"the permission {function!r} cannot be called: {exc}; it is called with (websocket, action) "
                "and may name channel, connection or data behind them"
            ) from None

    async def has_permission(self, websocket: WebSocket, action: str | None, **kwargs: Any) -> Any:
        arguments = (websocket, action, self.function)[: self._count]
        named = {name: kwargs[extra] for name, extra in self._names.items() if extra in kwargs}
        result = self.function(*arguments, **named)
        return await result if inspect.isawaitable(result) else result


ALLOW: BasePermission = _Fixed(True)
DENY: BasePermission = _Fixed(False)


def as_permission(value: Permission) -> BasePermission:
    """The permission that `value` stands for.

    A class is instantiated, a callable is asked, a bool answers itself, a list or tuple requires all
    of its members, None requires nothing.

    Raises:
        ConfigurationError: `value` is none of these.
    """
    if value is None or value is True:
        return ALLOW
    if value is False:
        return DENY
    if isinstance(value, BasePermission):
        return value
    if isinstance(value, type):
        if issubclass(value, BasePermission):
            return value()
    elif isinstance(value, list | tuple | set | frozenset):
        return _All(*map(as_permission, value)) if len(value) != 1 else as_permission(next(iter(value)))
    elif callable(value):
        return _Function(value)
    raise ConfigurationError(
        f"expected a permission (a BasePermission class or instance, a callable, a bool or a list of these), "
        f"got {value!r}"
    )


def combine(*values: Permission) -> BasePermission:
    """One permission that requires all of `values`, without those that allow everybody."""
    permissions = [p for p in map(as_permission, values) if p is not ALLOW and type(p) is not AllowAny]
    if not permissions:
        return ALLOW
    return permissions[0] if len(permissions) == 1 else _All(*permissions)


def ask(permission: BasePermission, websocket: WebSocket, action: str | None, extras: dict[str, Any]) -> Any:
    """What `permission` says, called with those of `extras` that it declares; it may have to be awaited."""
    names = permission._named
    if names is _ALL:
        return permission.has_permission(websocket, action, **extras)
    given = {name: extras[extra] for name, extra in names if extra in extras}
    return permission.has_permission(websocket, action, **given)


async def answer(
    permission: BasePermission, websocket: WebSocket, action: str | None, extras: dict[str, Any]
) -> Any:
    """What `permission` says, awaited if need be."""
    result = ask(permission, websocket, action, extras)
    # Asking whether it can be awaited takes longer than most permissions.
    return await result if type(result) is not bool and inspect.isawaitable(result) else result


async def allows(
    permission: BasePermission, websocket: WebSocket, action: str | None, extras: dict[str, Any]
) -> bool:
    """Whether `permission` answers exactly True. What it raises is raised on: the caller refuses then."""
    return await answer(permission, websocket, action, extras) is True
