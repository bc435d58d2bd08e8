"""What decorators leave on a function: one Marks object, whatever their order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from fastapi_channels.exceptions import ConfigurationError

ATTRIBUTE: Final = "__fastapi_channels__"


@dataclass(slots=True)
class Marks:
    """The rate limits of a function, and the action, or the job, that it is."""

    limits: list[Any] = field(default_factory=list)
    action: Any = None
    job: Any = None


def marks(func: Callable[..., Any]) -> Marks:
    """The marks of `func`, made on first use. A staticmethod or classmethod shares its function's.

    What `functools.wraps` copied from another function is copied in earnest: neither sees what is added
    to the other later.

    Raises:
        ConfigurationError: nothing can be left on `func`.
    """
    func = getattr(func, "__func__", func)
    found: Marks | None = _own(func)
    if found is not None and found is not _own(getattr(func, "__wrapped__", None)):
        return found
    found = Marks() if found is None else Marks(list(found.limits), found.action, found.job)
    try:
        setattr(func, ATTRIBUTE, found)
    except (AttributeError, TypeError):
        raise ConfigurationError(f"{func!r} cannot be an action: nothing can be noted on it") from None
    return found


def _own(func: Any) -> Marks | None:
    return getattr(func, "__dict__", {}).get(ATTRIBUTE)
