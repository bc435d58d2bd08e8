"""An nginx in front of an application."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Sequence

from .servers import Server


class Nginx(Server):
    """
    Args:
        more: of its other servers, the ports that are to answer when it has started.
    """

    binary = "nginx"

    def __init__(self, *more: int) -> None:
        super().__init__()
        self._ports = (self.port, *more)

    def configure(self, http: str) -> None:
        """Say what it does, as in the block `http` of its settings. One that runs goes on with what it has
        begun, and does the rest anew."""
        settings = f"daemon off; pid {self.folder}/pid; events {{}} http {{ access_log off; {http} }}"
        (self.folder / "nginx.conf").write_text(settings)
        if self._process is not None:
            os.kill(self.pid, signal.SIGHUP)

    def command(self) -> Sequence[str]:
        return ("nginx", "-c", f"{self.folder}/nginx.conf", "-e", f"{self.folder}/errors")

    def answers(self) -> bool:
        for port in self._ports:
            socket.create_connection(("127.0.0.1", port), 1).close()
        return True
