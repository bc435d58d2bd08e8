"""The loggers of this package. A filter of a logger does not see what those below it are told."""

from __future__ import annotations

import logging
from typing import Final

LOGGERS: Final = (
    "fastapi_channels",
    "fastapi_channels.admin",
    "fastapi_channels.client",
    "fastapi_channels.connections",
)


def add_to_all(found: logging.Filter) -> None:
    """Have `found` see each record of this package."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(found)
