"""Servers of an ASGI application in processes of their own, each as its users start it."""

from __future__ import annotations

import importlib.util
import socket
import sys
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from .live import ROOT, Site, _nothing
from .servers import DEADLINE, Server

AT: Final[Mapping[str, Sequence[str]]] = {
    "uvicorn": ("--host", "127.0.0.1", "--port", "{port}"),
    "hypercorn": ("--bind", "127.0.0.1:{port}"),
    "daphne": ("-b", "127.0.0.1", "-p", "{port}"),
}
"""How each is told where to listen."""


class AsgiServer(Server):
    """
    Args:
        how: the server's module and further options, such as `uvicorn --ws websockets`; or the path of a file
            that serves itself, and is told its port by the environment.
        app: `module:name` of the application.
        environment: beside that of this process.
    """

    binary = "python"
    deadline: ClassVar[float] = 2 * DEADLINE

    def __init__(self, how: str, app: str = "", **environment: str) -> None:
        super().__init__()
        self._how = how.split()
        self._app = app
        self._environment = environment

    @property
    def name(self) -> str:
        return self._how[0]

    @classmethod
    def installed(cls) -> bool:
        return all(importlib.util.find_spec(name) for name in AT)

    def command(self) -> Sequence[str]:
        if self.name.endswith(".py"):
            return (sys.executable, *self._how)
        at = [word.format(port=self.port) for word in AT[self.name]]
        return (sys.executable, "-m", *self._how, self._app, *at)

    def environment(self) -> dict[str, str]:
        unbuffered = {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)}
        return {**unbuffered, "PORT": str(self.port), **self._environment}

    def answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), DEADLINE):
            return True

    @property
    def site(self) -> Site:
        return Site(_nothing, self.port)

    @property
    def said(self) -> str:
        """What it has written to its standard output and error."""
        return (self.folder / "output").read_text(errors="replace")
