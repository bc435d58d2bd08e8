"""The files that the page loads: the same for every application."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).with_name("browser")
"""What a browser gets: the templates, and the files that the page loads."""
TYPES: Final = {".js": "text/javascript", ".css": "text/css"}


def asset(name: str) -> tuple[bytes, str, str] | None:
    """A file of the page: its bytes, its media type, and what changes when it does. None for any other."""
    return _assets().get(name)


@cache
def _assets() -> dict[str, tuple[bytes, str, str]]:
    found: dict[str, tuple[bytes, str, str]] = {}
    for path in FOLDER.iterdir():
        if path.suffix in TYPES:
            body = path.read_bytes()
            found[path.name] = (body, TYPES[path.suffix], f'"{hashlib.sha256(body).hexdigest()[:16]}"')
    return found
