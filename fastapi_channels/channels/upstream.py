"""Keywords that the upstream package accepted and never used: taken with a warning, and dropped."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, cast

from fastapi_channels.actions.options import ActionOptions
from fastapi_channels.exceptions import ConfigurationError

ACTION: Final = (
    "status_code",
    "response_description",
    "responses",
    "operation_id",
    "response_model_include",
    "response_model_exclude",
    "response_model_by_alias",
    "response_model_exclude_unset",
    "response_model_exclude_defaults",
    "response_model_exclude_none",
    "response_class",
    "callbacks",
    "openapi_extra",
    "generate_unique_id_function",
)
CHANNEL: Final = ("history_key", "max_history", "limiter_depends")
ADD_CHANNEL: Final = (
    "http_callback",
    "query_token_key",
    "cookie_token_key",
    # Decided who had the last word; here an application's own handler always has it.
    "add_exception_handlers",
)
OVERRIDDEN: Final = ("receiver", "encode", "decode", "handle_action", "get_permissions", "check_permissions")
"""Methods of upstream's channels that a subclass could override: nothing calls them here."""


_PACKAGE: Final = f"{__name__.partition('.')[0]}."


def drop(where: str, given: Mapping[str, Any], unused: Collection[str]) -> None:
    """Warn of the keywords in `given` that never did anything.

    Raises:
        ConfigurationError: a keyword that nobody knows.
    """
    for name, value in given.items():
        if name not in unused:
            raise ConfigurationError(f"{where} got an unexpected keyword argument {name!r}")
        if value is not None:
            warnings.warn(
                f"{name!r} of {where} has no effect and is ignored: remove it",
                FutureWarning,
                stacklevel=_level_of_user(),
            )


def drop_of_action(options: ActionOptions) -> None:
    """Take out of what `@action` got the keywords that never did anything, and warn of them."""
    given = cast("dict[str, Any]", options)
    drop("action()", {name: given.pop(name) for name in ACTION if name in given}, ACTION)


def warn_of_overrides(cls: type, is_action: Callable[[Any], bool]) -> None:
    """Warn of methods that upstream would have called, and of attributes that never did anything."""
    said = {
        **dict.fromkeys(
            OVERRIDDEN, "overrides what upstream called; nothing calls it here: see docs/upstream.md"
        ),
        **dict.fromkeys(CHANNEL, "has no effect and is ignored: remove it"),
    }
    for name, what in said.items():
        if name in vars(cls) and not is_action(vars(cls)[name]):
            warnings.warn(f"{cls.__name__}.{name} {what}", FutureWarning, stacklevel=_level_of_user())


def _level_of_user() -> int:
    """The `stacklevel` for our caller at which the code outside of this package stands. A FutureWarning,
    because Python hides a DeprecationWarning everywhere but in `__main__`."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals["__name__"].startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    return level
