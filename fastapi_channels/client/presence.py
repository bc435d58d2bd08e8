"""Who is in a room: the server's list, and what is different since."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeAlias, overload

from typing_extensions import TypeVar

from .connection import Frame
from .names import answer_of

Data = TypeVar("Data", default=Any)
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Device(Generic[Data]):
    """A connection of somebody who is in the room.

    Attributes:
        id: of the connection.
        data: what `presence_data` or `set_presence` said of it.
    """

    id: str
    user: str | None
    data: Data


@dataclass(frozen=True, slots=True)
class Person(Generic[Data]):
    """A user in the room, or a connection without one."""

    user: str | None
    devices: list[Device[Data]]


@dataclass(frozen=True, slots=True)
class Presence(Generic[Data]):
    """Who is in a room. Each change makes a new one: this one stays as it is.

    Attributes:
        version: of the frame that it is from; None where it may be old.
        devices: by their ids.
    """

    version: int | None = None
    devices: Mapping[str, Device[Data]] = field(default_factory=dict)

    @property
    def people(self) -> list[Person[Data]]:
        return list(_people(self.devices.values()).values())

    @overload
    def of(self, presence_data: Callable[..., Coroutine[Any, Any, R]]) -> Presence[R]: ...

    @overload
    def of(self, presence_data: Callable[..., R]) -> Presence[R]: ...

    def of(self, presence_data: Callable[..., Any]) -> Presence[Any]:
        """The same, with the data as the type that the method of the channel's class returns.

        Raises:
            pydantic.ValidationError: the data of a device is none.
        """
        read = answer_of(presence_data).validate_python
        return replace(
            self, devices={id: replace(each, data=read(each.data)) for id, each in self.devices.items()}
        )


@dataclass(frozen=True, slots=True)
class PresenceChange:
    """Who came, and who has gone; nobody, where only devices or their data are other ones."""

    joined: list[Person]
    left: list[Person]


Key: TypeAlias = tuple[bool, str]


def after(before: Presence, frame: Frame) -> Presence | None:
    """Who is there after a frame; None where one before it is missing."""
    version = frame["version"]
    if "present" in frame:
        return Presence(version, _devices(frame["present"]))
    if before.version is None or version != before.version + 1:
        return None
    devices = {**before.devices, **_devices(frame["joined"]), **_devices(frame["changed"])}
    for id in frame["left"]:
        devices.pop(id, None)
    return Presence(version, devices)


def change(before: Presence, now: Presence) -> PresenceChange:
    then, here = _people(before.devices.values()), _people(now.devices.values())
    return PresenceChange(
        [here[key] for key in here if key not in then], [then[key] for key in then if key not in here]
    )


def _devices(said: Iterable[Frame]) -> dict[str, Device]:
    return {each["id"]: Device(each["id"], each["user"], each["data"]) for each in said}


def _people(devices: Iterable[Device[Data]]) -> dict[Key, Person[Data]]:
    found: dict[Key, Person[Data]] = {}
    for each in devices:
        key = (each.user is None, each.id if each.user is None else each.user)
        found.setdefault(key, Person(each.user, [])).devices.append(each)
    return found
