"""A setting that is written almost right is an error that says which was meant."""

from __future__ import annotations

from typing import Any

import pytest

from fastapi_channels import Channel, ConfigurationError, Connection, IsAuthenticated, Socket, action
from fastapi_channels.used import GroupChannel, PersonChannel


def make(name: str, value: Any, base: type = Channel, **more: Any) -> type:
    return type("Room", (base,), {name: value, **more})


async def hook(self: Any, connection: Connection) -> bool:
    return False


@pytest.mark.parametrize(
    ("name", "meant", "value"),
    [
        ("permision_classes", "permission_classes", [IsAuthenticated]),
        ("permissions_classes", "permission_classes", [IsAuthenticated]),
        ("permissions", "permission_classes", [IsAuthenticated]),
        ("permission", "permission_classes", IsAuthenticated),
        ("room_patern", "room_pattern", "room:{number}"),
        ("max_conection", "max_connection", 2),
        ("max_connections", "max_connection", 2),
        ("event_type", "event_types", ()),
        ("authorise", "authorize", hook),
        ("decode_jsn", "decode_json", hook),
        ("scpoe", "scope", "mine"),
        ("on_jion", "on_join", hook),
        ("lifepsan", "lifespan", hook),
        ("annuonce", "announce", True),
        ("finish_timout", "finish_timeout", 1.0),
    ],
)
def test_a_setting_that_is_nearly_right_is_told_at_once(name: str, meant: str, value: Any):
    with pytest.raises(ConfigurationError, match=f"Room.{name} .*did you mean '{meant}'"):
        make(name, value)


def test_a_socket_is_looked_at_too():
    with pytest.raises(ConfigurationError, match="did you mean 'max_rooms'"):
        make("max_room", 3, Socket)


@pytest.mark.parametrize(
    "name", ["channels", "back", "pack", "scopes", "title", "max_players", "history_key", "rooms", "lives"]
)
def test_names_of_ones_own_are_left_alone(name: str):
    assert getattr(make(name, "mine"), name) == "mine"


@pytest.mark.parametrize("base", [Channel, GroupChannel, PersonChannel])
def test_an_action_may_have_any_name(base: type):
    async def authorise(self: Any) -> None: ...

    room: Any = make("authorise", action()(authorise), base)
    assert "authorise" in room().actions


@pytest.mark.parametrize("name", ["permission", "permissions"])
def test_so_may_one_that_is_called_like_a_permission(name: str):
    async def ask(self: Any) -> None: ...

    assert name in make(name, action(name)(ask))().actions


def test_what_a_parent_has_may_be_overridden():
    class Mixin:
        max_connections = 3

    class Room(Mixin, Channel):
        max_connections = 4

    assert Room.max_connections == 4


@pytest.mark.parametrize("types", [["said"], [dict], "said"])
def test_an_unknown_event_type_is_told_at_once(types: Any):
    with pytest.raises(ConfigurationError, match="event_types are classes of events"):
        make("event_types", types)


async def takes_another(self: Any, connection: Connection, nummer: int) -> bool:
    return True


async def takes_none(self: Any, connection: Connection) -> bool:
    return True


@pytest.mark.parametrize("authorize", [takes_another, takes_none])
def test_a_hook_that_does_not_fit_the_pattern_is_told_at_once(authorize: Any):
    with pytest.raises(ConfigurationError, match=r"Room\.authorize cannot be called with connection, number"):
        make("authorize", authorize, room_pattern="room:{number:int}")


def test_a_hook_without_a_pattern_is_told_when_the_channel_is_made():
    class Base(Channel):
        async def authorize(self, connection: Connection, number: int) -> bool:
            return True

    class Room(Base):
        room_pattern = "room:{number:int}"

    Room()
    with pytest.raises(ConfigurationError, match=r"Base\.authorize cannot be called with connection"):
        Base()


@pytest.mark.parametrize("wrap", [staticmethod, classmethod])
def test_a_hook_may_be_static_or_of_the_class(wrap: Any):
    async def static(connection: Connection, number: int) -> bool:
        return True

    async def of_class(cls: type, connection: Connection, **numbers: int) -> bool:
        return True

    make("authorize", wrap(static if wrap is staticmethod else of_class), room_pattern="room:{number:int}")()
