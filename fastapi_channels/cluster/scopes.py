"""Whose rooms have which scope in one application; and what an ASGI scope tells of how it is served."""

from __future__ import annotations

from starlette.types import Scope

from fastapi_channels.exceptions import ConfigurationError


class Scopes:
    """The scopes that are the bare name of a class, and the class of each."""

    __slots__ = ("_classes",)

    def __init__(self) -> None:
        self._classes: dict[str, type] = {}

    def claim(self, scope: str, channel: type) -> None:
        """Let the rooms of `scope` be those of `channel`.

        Raises:
            ConfigurationError: the rooms of that scope are those of another class of the same name.
        """
        first = self._classes.setdefault(scope, channel)
        if first is not channel:
            raise ConfigurationError(
                f"{first.__module__}.{first.__qualname__} and {channel.__module__}.{channel.__qualname__} "
                f"would share the rooms of the scope {scope!r}: give one of them a scope= of its own as a "
                "class attribute, or both the same if they are to share"
            )


def why_no_lifespan(scope: Scope | None) -> str:
    """Why a connection found an application that nobody had started, as far as can be told."""
    # A Mount alone keeps the outer path apart from that of what is mounted.
    if scope and "app_root_path" in scope and scope["app_root_path"] != scope.get("root_path", ""):
        return (
            "this application is mounted in another, and the lifespan of a mounted one is not run: "
            "call add_channel() on the outer application, it serves the channels of both"
        )
    return "was add_channel(router) called after include_router, or is the lifespan off?"
