"""What the application's code raises and no client is told: for whoever asked to hear of it."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Final

RAISED: Final = "fastapi_channels.raised"
"""Where the scope of a WebSocket has the function that is told, if anybody asked for that."""


def raised(scope: MutableMapping[str, Any], exc: BaseException) -> None:
    """`exc` was raised while the WebSocket of `scope` was served. It goes to the log, and no further."""
    tell = scope.get(RAISED)
    if tell is not None:
        tell(exc)
