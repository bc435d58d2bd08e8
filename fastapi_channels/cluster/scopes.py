"""Whose rooms have which scope in one application; and what an ASGI scope tells of how it is served."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterator

from starlette.types import Scope

from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.wire.log import Once
from fastapi_channels.wire.vocabulary import Vocabulary

logger = logging.getLogger("fastapi_channels")


class Scopes:
    """The channels of one application, by their classes: whose rooms are whose."""

    __slots__ = ("_by_class", "_owners", "_told")

    def __init__(self) -> None:
        self._owners: dict[str, tuple[type, bool]] = {}
        # Weakly: words know their channel, which may know the application, which is to be let go.
        self._by_class: dict[type, tuple[weakref.ref[Vocabulary], bool]] = {}
        self._told = Once("channels that publishers miss")

    def claim(self, channel: type, words: Vocabulary, *, keeps: bool) -> None:
        """Take note of a channel. Classes share the rooms of a scope where each says so.

        Args:
            keeps: whether its rooms have a history.

        Raises:
            ConfigurationError: the rooms of that scope are those of another class, whose bare name it is.
        """
        mine = channel, words.is_own
        first, is_own = self._owners.setdefault(words.scope, mine) if words.scope else mine
        if first is not channel and (is_own or words.is_own):
            raise ConfigurationError(
                f"{first.__module__}.{first.__qualname__} and {channel.__module__}.{channel.__qualname__} "
                f"would share the rooms of the scope {words.scope!r}: give one of them a scope= of its "
                "own as a class attribute, or both the same if they are to share"
            )
        self._by_class[channel] = weakref.ref(words), keeps

    def warn_of(self, room: str, *, kept: bool) -> None:
        """Warn, once for each class, where it alone has rooms of such a name, and nobody said that it is
        meant.

        Args:
            kept: whether what is done in the room would be kept, if it has a history.
        """
        missed = dict(self._missing(room, kept=kept))
        if not missed or None in missed.values():
            return
        for channel, what in missed.items():
            if self._told.is_new(f"{channel.__module__}.{channel.__qualname__}"):
                logger.warning(
                    "without channel=%s, a publisher speaks to the room %r of the whole application: %s",
                    channel.__name__,
                    room,
                    what,
                )

    def _missing(self, room: str, *, kept: bool) -> Iterator[tuple[type, str | None]]:
        """What each class that may have a room of that name does not get; None where that is nothing."""
        for channel, (reference, keeps) in self._by_class.items():
            words = reference()
            if words is None:
                continue
            if words.room_of(room) is not None:
                yield channel, "it is not in the history of that room" if keeps and kept else None
            elif words.has(room):
                yield channel, "nobody in a room of that channel hears it"


def why_no_lifespan(scope: Scope | None) -> str:
    """Why an application is used that nobody has started, as far as can be told.

    Args:
        scope: of the first connection; None before any.
    """
    if scope is None:
        return "it was used before its server began: broadcast from a lifespan, or later"
    # A Mount alone keeps the outer path apart from that of what is mounted.
    if "app_root_path" in scope and scope["app_root_path"] != scope.get("root_path", ""):
        return (
            "this application is mounted in another, and the lifespan of a mounted one is not run: "
            "call add_channel() on the outer application, and on that alone: it serves the channels of both"
        )
    return (
        "was add_channel(router) called after include_router? Or does the server run no lifespan, as daphne "
        "and uvicorn --lifespan off?"
    )
