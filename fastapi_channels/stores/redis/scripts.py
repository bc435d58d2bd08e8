"""Lua scripts: what they are to the server, and what all of them begin with."""

from __future__ import annotations

import hashlib
from typing import Final

from fastapi_channels.stores.records import microseconds

_CLOCK: Final = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local function whole(number) return string.format('%.0f', number) end
"""
"""The time is the server's, in microseconds; a number is written out, because Lua would round it."""


class Script:
    """A script that changes what one hash slot holds, in one step.

    Attributes:
        text: Lua; `now` and `whole` are there.
        sha: by which the server knows it, once it was loaded.
    """

    def __init__(self, text: str) -> None:
        self.text = (_CLOCK + text).encode()
        self.sha = hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode()


def milliseconds(seconds: float) -> int:
    """Whole milliseconds that are not less; bounded as `microseconds`."""
    return -(-microseconds(seconds) // 1000)
