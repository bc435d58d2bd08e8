"""What may be said of an action beside its name."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any, TypedDict

from fastapi_channels.permission import Permission


class ActionOptions(TypedDict, total=False):
    """The options of `@action`, which describes them, of `Channel.action` and of `ActionRouter.action`."""

    permission: Permission
    deprecated: bool
    sunset: date | None
    detached: bool
    concurrent: int
    idempotent: bool
    dependencies: Sequence[Any]
    response_model: Any
    summary: str | None
    description: str | None
    tags: Sequence[str]
    include_in_schema: bool
