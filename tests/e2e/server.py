"""The example in a process of its own, which can be killed and started again."""

import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.servers import DEADLINE, Server

ROOT = Path(__file__).parents[2]


class Example(Server):
    """uvicorn with an example, on the memory broker.

    Args:
        app: the chatroom, or another one.
    """

    binary = "uvicorn"
    deadline = 30.0

    def __init__(self, app: str = "example.main:app") -> None:
        super().__init__()
        self._app = app

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def command(self) -> Sequence[str]:
        return (
            *(sys.executable, "-m", "uvicorn", self._app, "--app-dir", str(ROOT)),
            *("--port", str(self.port), "--timeout-graceful-shutdown", "1"),
        )

    def answers(self) -> bool:
        socket.create_connection(("127.0.0.1", self.port), DEADLINE).close()
        return True
