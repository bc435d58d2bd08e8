"""Telling who observes of what the broker brings, while it is handed on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi_channels.topics.spaces import TOPIC
from fastapi_channels.wire.messages import Publication

from .observer import Observers
from .rooms import Rooms
from .sender import PERSONAL
from .users import Users


def receive(
    publication: Publication,
    hand_on: Callable[[Publication], None],
    namespace: str,
    rooms: Rooms,
    users: Users[Any],
    observers: Observers,
) -> None:
    """Hand on a publication that has a trace."""
    room = "" if publication.kind in PERSONAL else publication.topic.removeprefix(namespace)
    recipients = _recipients(publication, room, rooms, users)
    if not recipients:
        hand_on(publication)
        return
    for begins in observers.delivering:
        begins(publication, room, recipients)
    try:
        hand_on(publication)
    finally:
        for ends in observers.delivered:
            ends()


def _recipients(publication: Publication, room: str, rooms: Rooms, users: Users[Any]) -> int:
    """How many connections of this process it is for, at most."""
    if publication.kind == "connection":
        return sum(id in rooms.connections for id in publication.to)
    if publication.kind == "user":
        return sum(1 for key in publication.to for _ in users.recipients(key))
    if publication.kind == TOPIC:
        return rooms.spaces.count(room, publication)
    return 0 if publication.kind else rooms.hub.count(room)
