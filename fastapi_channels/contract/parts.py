"""The parts of a document, each under a name of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from fastapi_channels.cluster.settings import Settings

from .schemas import Interned, Schemas


class Parts:
    """What the addresses of a document have in common.

    Args:
        schemas: where those of all types are looked up.
        settings: what `add_channel` was told.
    """

    def __init__(self, schemas: Schemas, settings: Settings) -> None:
        self.schemas = schemas
        self.settings = settings
        self.messages = Interned(lambda name: {"$ref": f"#/components/messages/{name}"})
        self.security = Interned(lambda name: {"$ref": f"#/components/securitySchemes/{name}"})
        self.channels: dict[str, Any] = {}
        self.operations: dict[str, Any] = {}


def identifier(name: str) -> str:
    """`name` as a key of the document."""
    return re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)


def unique(name: str, taken: Iterable[str]) -> str:
    """`name`, or that with a number where it is taken."""
    name = chosen = identifier(name)
    number = 1
    while chosen in taken:
        number += 1
        chosen = f"{name}_{number}"
    return chosen


def filled(values: dict[str, Any]) -> dict[str, Any]:
    """What of `values` says something."""
    return {key: value for key, value in values.items() if value}
