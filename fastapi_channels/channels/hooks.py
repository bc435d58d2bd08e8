"""The methods that a channel's class may override, and that are told from actions of the same name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

from fastapi_channels.actions.spec import is_action
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.signatures.dependencies import dependencies_of
from fastapi_channels.signatures.signature import check_call, check_room_parameter, evaluate
from fastapi_channels.wire.rooms import RoomPattern

HOOKS: Final = (
    "routers",
    "announce",
    "authorize",
    "encode_json",
    "decode_json",
    "load_history",
    "may_receive",
    "presence_data",
)


def hook(channel: Any, base: type, name: str) -> Callable[..., Any] | None:
    """The method of that name of a channel, or of its class, where it overrides that of `base` and is no
    action."""
    cls = channel if isinstance(channel, type) else type(channel)
    found = getattr(cls, name)
    if found is getattr(base, name) or is_action(found):
        return None
    own: Callable[..., Any] = getattr(channel, name)
    return own


def check_reception(cls: Any, base: type) -> None:
    """Refuse a `may_receive` that cannot be called, or that is not asked.

    Raises:
        ConfigurationError: it does not take the parameters of the pattern; it is awaited, which a delivery
            does not wait for; or the channel has no topics.
    """
    found = inspect.getattr_static(cls, "may_receive")
    if found is vars(base)["may_receive"] or is_action(found):
        return
    name = f"{cls.__name__}.may_receive"
    if not cls.topics:
        raise ConfigurationError(f"{name} is asked about topics, and the channel has none: say topics = True")
    if inspect.iscoroutinefunction(cls.may_receive):
        raise ConfigurationError(
            f"{name} is asked for each message and each client, and cannot be awaited: def, not async def"
        )
    types = {} if cls.room_pattern is None else RoomPattern(cls.room_pattern).types
    first = ["connection"] if isinstance(found, staticmethod | classmethod) else ["self", "connection"]
    check_call(name, cls.may_receive, first, types)
    _check_types(cls.may_receive, types)


def check_authorize(cls: Any, base: type) -> None:
    """Refuse an `authorize` that cannot be called.

    Raises:
        ConfigurationError: `authorize` does not take the parameters of the pattern, or depends on what cannot
            be resolved, so that every call would fail and refuse everybody.
    """
    found = inspect.getattr_static(cls, "authorize")
    if found is vars(base)["authorize"] or is_action(found):
        return
    types = {} if cls.room_pattern is None else RoomPattern(cls.room_pattern).types
    dependencies = dependencies_of(cls.authorize)
    resolved = dependencies.names if dependencies is not None else ()
    first = ["connection"] if isinstance(found, staticmethod | classmethod) else ["self", "connection"]
    check_call(f"{cls.__name__}.authorize", cls.authorize, first, [*types, *resolved])
    _check_types(cls.authorize, types)


def _check_types(hook: Callable[..., Any], types: dict[str, type | None]) -> None:
    """
    Raises:
        ConfigurationError: the hook says another type of a parameter than the pattern gives.
    """
    for name, parameter in inspect.signature(hook).parameters.items():
        if name in types:
            known = parameter.replace(annotation=evaluate(hook, parameter, types))
            check_room_parameter(hook, known, types[name])
