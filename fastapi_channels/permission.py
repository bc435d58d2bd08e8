"""Who may connect, and who may call an action: permissions that compose with `&`, `|` and `~`."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any, TypeAlias, Union

from starlette.websockets import WebSocket

from .exceptions import ConfigurationError
from .signatures.callables import awaited
from .signatures.dependencies import Dependencies, dependencies_of, resolve
from .signatures.graph import Resolution
from .signatures.signature import check_call, wants_connection, where

Permission: TypeAlias = Union[
    "BasePermission", type["BasePermission"], Callable[..., Any], bool, Iterable["Permission"], None
]

_EXTRAS = ("channel", "connection", "data")


_Named: TypeAlias = tuple[tuple[str, str], ...]
_ALL: _Named = tuple((name, name) for name in _EXTRAS)


def _extras_of(function: Callable[..., Any], resolved: Collection[str]) -> _Named:
    """Which parameters of `function` are given which of the extras; not those that are `resolved`."""
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name not in resolved]
    named = tuple((p.name, p.name) for p in parameters if p.name in _EXTRAS)
    typed = tuple((p.name, "connection") for p in parameters if p.name not in _EXTRAS and wants_connection(p))
    named = _ALL if any(p.kind is p.VAR_KEYWORD for p in parameters) else named
    return (*named, *typed) if typed else named


def _names_of(dependencies: Dependencies | None) -> Collection[str]:
    return () if dependencies is None else dependencies.names


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

    _named: _Named = _ALL
    """Which of its parameters `has_permission` is given which of the extras by."""
    _dependencies: Dependencies | None = None
    """What FastAPI resolves for it."""
    _depends: bool = False
    """Whether there is anything to resolve, here or in a part."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls._dependencies = dependencies_of(cls.has_permission)
        cls._depends = cls._dependencies is not None
        cls._named = _extras_of(cls.has_permission, _names_of(cls._dependencies))

    def has_permission(
        self, websocket: WebSocket, action: str | None, *args: Any, **kwargs: Any
    ) -> bool | Awaitable[bool]:
        """Whether the client may connect (`action` is None) or call `action`.

        It may be declared `async`. Beside `websocket` and `action` it is given those of `channel` (the
        room), `connection` and `data` (the client's message) that its signature names. A parameter of the
        type Connection may have any name. What FastAPI resolves, such as `Depends`, is resolved once for
        all that is asked in one handshake, or for one call.
        """
        # `*args` is never passed: with both, type checkers let an override name the parameters it takes.
        return False

    def _ask(
        self, websocket: WebSocket, action: str | None, extras: dict[str, Any], resolution: Resolution | None
    ) -> Any:
        """What it says, called with those of `extras` that it declares; it may have to be awaited.

        Args:
            resolution: None where nothing depends on anything.
        """
        names = self._named
        given = extras if names is _ALL else {name: extras[extra] for name, extra in names if extra in extras}
        if self._dependencies is not None and resolution is not None:
            return self._ask_resolved(websocket, action, given, self._dependencies, resolution)
        return self.has_permission(websocket, action, **given)

    async def _ask_resolved(
        self,
        websocket: WebSocket,
        action: str | None,
        given: dict[str, Any],
        dependencies: Dependencies,
        resolution: Resolution,
    ) -> Any:
        found = await resolve(dependencies, resolution)
        return await awaited(self.has_permission(websocket, action, **{**given, **found}))

    def _check(self) -> None:
        """
        Raises:
            ConfigurationError: `has_permission` cannot be called, so that it would refuse everybody.
        """
        what = f"{type(self).__qualname__}.has_permission"
        names = [name for name, _ in self._named]
        check_call(
            what, self.has_permission, ("websocket", "action"), [*names, *_names_of(self._dependencies)]
        )

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


class _Composed(BasePermission):
    # What is neither True nor False passes through unchanged, in all of them: no `~`, and no second one,
    # must turn it into a yes.

    def __init__(self, *permissions: BasePermission) -> None:
        self.permissions = permissions
        self._depends = any(permission._depends for permission in permissions)

    async def has_permission(self, websocket: WebSocket, action: str | None, **kwargs: Any) -> Any:
        return await answer(self, websocket, action, kwargs)


class _All(_Composed):
    async def _ask(
        self, websocket: WebSocket, action: str | None, extras: dict[str, Any], resolution: Resolution | None
    ) -> Any:
        for permission in self.permissions:
            found = await _settled(permission._ask(websocket, action, extras, resolution))
            if found is not True:
                return found
        return True


class _Any(_Composed):
    async def _ask(
        self, websocket: WebSocket, action: str | None, extras: dict[str, Any], resolution: Resolution | None
    ) -> Any:
        unclear: Any = False
        for permission in self.permissions:
            found = await _settled(permission._ask(websocket, action, extras, resolution))
            if found is True:
                return True
            unclear = unclear if found is False else found
        return unclear


class _Not(_Composed):
    async def _ask(
        self, websocket: WebSocket, action: str | None, extras: dict[str, Any], resolution: Resolution | None
    ) -> Any:
        found = await _settled(self.permissions[0]._ask(websocket, action, extras, resolution))
        return not found if type(found) is bool else found


async def _settled(said: Any) -> Any:
    # Asking whether it can be awaited takes longer than most permissions.
    return said if type(said) is bool else await awaited(said)


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
        self._dependencies = dependencies_of(function)
        self._depends = self._dependencies is not None
        resolved = _names_of(self._dependencies)
        counted = [
            p for p in positional if not (p.name in resolved or p.name in _EXTRAS or wants_connection(p))
        ]
        self._count = 3 if takes_all else min(len(counted), 3)
        self._names = {**dict(_extras_of(function, resolved)), **{name: name for name in resolved}}
        first = ("websocket", "action", "itself")[: self._count]
        check_call(f"the permission {where(function)}", function, first, self._names)

    async def has_permission(self, websocket: WebSocket, action: str | None, **kwargs: Any) -> Any:
        arguments = (websocket, action, self.function)[: self._count]
        named = {name: kwargs[extra] for name, extra in self._names.items() if extra in kwargs}
        return await awaited(self.function(*arguments, **named))


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
        value._check()
        return value
    if isinstance(value, type):
        if issubclass(value, BasePermission):
            return as_permission(value())
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


async def answer(
    permission: BasePermission, websocket: WebSocket, action: str | None, extras: dict[str, Any]
) -> Any:
    """What `permission` says, with a resolution of its own where it depends on anything. What it raises, or
    what it depends on, is raised on: the caller refuses then."""
    if not permission._depends:
        return await _settled(permission._ask(websocket, action, extras, None))
    async with Resolution(websocket, extras.get("connection")) as resolution:
        return await _settled(permission._ask(websocket, action, extras, resolution))


async def allows(
    permission: BasePermission, websocket: WebSocket, action: str | None, extras: dict[str, Any]
) -> bool:
    """Whether `permission` answers exactly True. What it raises is raised on: the caller refuses then."""
    return await answer(permission, websocket, action, extras) is True
