"""The files that a page loads: the same for every application."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

FOLDER: Final = Path(__file__).with_name("browser")
"""What a browser gets: the templates, and the files that the page loads. Other pages load some of them."""
TYPES: Final = {".js": "text/javascript", ".css": "text/css"}
HEADERS: Final = {
    "cache-control": "no-cache",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""Of a page, and of its files."""


def served(request: Request, name: str, *folders: Path) -> Response | None:
    """The answer to a request for a file of the page, from the first of the folders that has it. None for any
    other name."""
    found = next((files[name] for files in map(_files, folders) if name in files), None)
    if found is None:
        return None
    body, media_type, tag = found
    headers = {**HEADERS, "etag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media_type, headers=headers)


@cache
def _files(folder: Path) -> dict[str, tuple[bytes, str, str]]:
    """Each with its media type, and what changes when it does."""
    found: dict[str, tuple[bytes, str, str]] = {}
    for path in folder.iterdir():
        if path.suffix in TYPES:
            body = path.read_bytes()
            found[path.name] = (body, TYPES[path.suffix], f'"{hashlib.sha256(body).hexdigest()[:16]}"')
    return found
