"""Who is in a room: people, each with their devices."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel
from pydantic_core import from_json

from fastapi_channels.stores import Occupant


class Device(BaseModel):
    """A connection of somebody who is in a room.

    Attributes:
        id: of the connection.
        data: what `presence_data` or `set_presence` said of it.
        since: when it joined, seconds since 1970.
    """

    id: str
    data: Any = None
    since: float


class Person(BaseModel):
    """A user in a room, or a connection without one.

    Attributes:
        user: the key of the user; None where there is none.
        devices: the connections, the oldest first.
    """

    user: str | None
    devices: list[Device]


def people_of(occupants: Iterable[Occupant]) -> list[Person]:
    """Those of the occupants who are shown, by the time at which the first device of each came."""
    people: list[Person] = []
    users: dict[str, Person] = {}
    for one in occupants:
        if not one.data:
            continue
        person = users.get(one.user) if one.user is not None else None
        if person is None:
            person = Person(user=one.user, devices=[])
            people.append(person)
            if one.user is not None:
                users[one.user] = person
        person.devices.append(Device(id=one.id, data=from_json(one.data), since=one.since))
    return people
