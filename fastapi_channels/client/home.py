"""Where a client lives: in one event loop. In another one nothing would ever wake up whoever waits for it."""

from __future__ import annotations

import asyncio
import threading

from .errors import ClientError


class Home:
    """The event loop that runs when it is made."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.current_thread().name

    @property
    def is_gone(self) -> bool:
        return self._loop.is_closed()

    def check(self) -> None:
        """
        Raises:
            ClientError: another loop runs here.
        """
        if asyncio.get_running_loop() is not self._loop:
            raise ClientError(
                f"this client belongs to the event loop of the thread {self._thread!r}, {self._loop!r}, and"
                f" is used in that of {threading.current_thread().name!r}: any thread may use a SyncClient"
            )
