"""Permissions and rates, named for readers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi_channels.permission import ALLOW, DENY, BasePermission, _Any, _Composed, _Function, _Not
from fastapi_channels.throttling import Rate


def permission_names(permissions: Iterable[BasePermission]) -> list[str]:
    """The names of those that ask something, in an order of their own: a set of them has none."""
    return sorted({_name(each) for each in permissions if each is not ALLOW})


def rates(limits: Iterable[Any]) -> list[dict[str, Any]]:
    """`times` in `seconds` for each; a limiter of another package by the name of its class."""
    return [
        {
            "times": limit.times,
            "seconds": limit.window,
            **({"cost": limit.cost} if limit.cost > 1 else {}),
            **({"budget": limit.budget} if limit.budget else {}),
        }
        if isinstance(limit, Rate)
        else {"limiter": type(limit).__name__}
        for limit in limits
    ]


def _name(permission: BasePermission) -> str:
    if permission is ALLOW or permission is DENY:
        return "nobody" if permission is DENY else "everybody"
    if isinstance(permission, _Not):
        return "~" + _name(permission.permissions[0])
    if isinstance(permission, _Composed):
        joint = " | " if isinstance(permission, _Any) else " & "
        return "(" + joint.join(sorted(map(_name, permission.permissions))) + ")"
    if isinstance(permission, _Function):
        return getattr(permission.function, "__name__", type(permission.function).__name__)
    return type(permission).__name__
