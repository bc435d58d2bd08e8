"""What decorators leave on a function: one Marks object, whatever their order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

ATTRIBUTE: Final = "__fastapi_channels__"


@dataclass(slots=True)
class Marks:
    """The rate limits of a function, and the action that it is."""

    limits: list[Any] = field(default_factory=list)
    action: Any = None


def marks(func: Callable[..., Any]) -> Marks:
    """The marks of `func`, made on first use. A staticmethod or classmethod shares its function's."""
    func = getattr(func, "__func__", func)
    found: Marks | None = func.__dict__.get(ATTRIBUTE)
    if found is None:
        found = Marks()
        func.__dict__[ATTRIBUTE] = found
    return found
