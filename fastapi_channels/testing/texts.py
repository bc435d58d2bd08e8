"""What a failure says: never more than a screen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

SHOWN: Final = 20
"""Frames that are listed: the newest."""
LENGTH: Final = 500
"""Characters of each."""


def listed(frames: Sequence[Any]) -> str:
    """A line for each frame."""
    if not frames:
        return " nothing"
    lines = [f"\n  {_short(_dumped(frame))}" for frame in frames[-SHOWN:]]
    if len(frames) > SHOWN:
        lines.insert(0, f"\n  ({len(frames) - SHOWN} older ones)")
    return "".join(lines)


def shortened(value: Any) -> str:
    return _short(repr(value))


def _dumped(frame: Any) -> str:
    return repr(frame) if isinstance(frame, bytes) else json.dumps(frame, ensure_ascii=False, default=repr)


def _short(text: str) -> str:
    return text if len(text) <= LENGTH else f"{text[:LENGTH]}… ({len(text)} characters)"
