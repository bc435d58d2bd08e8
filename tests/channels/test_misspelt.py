"""A setting that is written almost right is an error that says which was meant."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI

from fastapi_channels import (
    Channel,
    ConfigurationError,
    Connection,
    IsAuthenticated,
    Socket,
    action,
    add_channel,
    limiter,
)
from fastapi_channels.used import GroupChannel, PersonChannel
from tests.support.live import ServerProcess, serving


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
        ("perms", "permission_classes", [IsAuthenticated]),
        ("PERMISSION_CLASSES", "permission_classes", [IsAuthenticated]),
        ("authorization", "authorize", hook),
        ("authorisation", "authorize", hook),
        ("autorise", "authorize", hook),
        ("Authorize", "authorize", hook),
        ("authentication_classes", "authenticator", []),
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
        ("scop", "scope", "mine"),
        ("chanel", "channel", "mine"),
        ("lifspan", "lifespan", hook),
        ("onjoin", "on_join", hook),
        ("on_leav", "on_leave", hook),
        ("histtory", "history", 10),
        ("finish_timout", "finish_timeout", 1.0),
    ],
)
def test_a_setting_that_is_nearly_right_is_told_at_once(name: str, meant: str, value: Any):
    with pytest.raises(ConfigurationError, match=f"Room.{name} .*did you mean '{meant}'"):
        make(name, value)


def closed(name: str) -> FastAPI:
    """A room for those who are logged in, by the setting that is named."""
    app = FastAPI()
    add_channel(app)
    room: Channel = make(name, [IsAuthenticated] if name.startswith("per") else hook)()
    room.mount(app, "/{channel}")
    return app


def create_app() -> FastAPI:
    return closed("permision_classes")


async def test_no_server_comes_up_that_would_let_everybody_in():
    server = ServerProcess("tests.channels.test_misspelt:create_app", "--factory")
    with pytest.raises(AssertionError, match="did you mean 'permission_classes'"):
        await server.start()
    assert await server.kill() != 0


@pytest.mark.parametrize("name", ["permission_classes", "authorize"])
async def test_the_one_that_is_spelt_right_lets_nobody_in(name: str):
    async with serving(closed(name)) as site:
        assert (await site.refusal("/lobby")).status == 403


@pytest.mark.parametrize("event", ["jion", "Join", "message", "", None])
def test_an_unknown_event_of_a_connection_is_told_at_once(event: Any):
    room = Channel()
    with pytest.raises(ConfigurationError, match=f'expected the event "join" or "leave", got {event!r}'):
        room.on_event(event)(hook)
    with pytest.raises(ConfigurationError, match=f'expected the event "join" or "leave", got {event!r}'):
        room.add_event_handler(event, hook)


def test_a_socket_is_looked_at_too():
    with pytest.raises(ConfigurationError, match="did you mean 'max_rooms'"):
        make("max_room", 3, Socket)


@pytest.mark.parametrize(
    "name", ["channels", "back", "pack", "scopes", "title", "max_players", "rooms", "lives"]
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


@pytest.mark.parametrize("own", [{}, {"permision_classes": [], "authorise": hook, "max_room": 4}])
@pytest.mark.parametrize(
    ("name", "meant", "base"),
    [
        ("permision_classes", "permission_classes", Channel),
        ("authorise", "authorize", GroupChannel),
        ("max_room", "max_rooms", Socket),
    ],
)
def test_what_is_mixed_in_is_looked_at_too(name: str, meant: str, base: type, own: dict[str, Any]):
    """Also where the class repeats it, and where a class between has it."""
    mixin = type("Mixin", (type("Closed", (), {name: [IsAuthenticated]}),), {})
    repeated = {name: own[name]} if own else {}
    with pytest.raises(ConfigurationError, match=f"{name} is no setting.* did you mean '{meant}'"):
        type("Room", (mixin, base), repeated)
    with pytest.raises(ConfigurationError, match=f"Closed.{name} is no setting"):
        type("Room", (base, mixin), {})


@pytest.mark.parametrize(
    ("name", "base"), [("permission_classes", Channel), ("authorize", PersonChannel), ("max_rooms", Socket)]
)
def test_what_is_mixed_in_too_late_to_be_read_is_told(name: str, base: type):
    mixin = type("Closed", (), {name: hook})
    with pytest.raises(ConfigurationError, match=f"Closed.{name} is not read, .* the bases of Room"):
        type("Room", (base, mixin), {})
    assert vars(type("Room", (base, mixin), {name: hook}))[name] is hook


def test_what_a_channel_has_may_be_overridden():
    """It was looked at when that channel was made: here an action, and what is in a mixin but spelt right."""

    class Mixin:
        max_connection = 3

    class Room(Mixin, Channel):
        @action()
        async def authorise(self) -> None: ...

    assert Room.max_connection == 3
    room: Any = make("authorise", hook, Room)
    assert room.max_connection == 3


@pytest.mark.parametrize("types", [["said"], [dict], "said"])
def test_an_unknown_event_type_is_told_at_once(types: Any):
    with pytest.raises(ConfigurationError, match="event_types are classes of events"):
        make("event_types", types)


async def takes_another(self: Any, connection: Connection, nummer: int) -> bool:
    return True


async def takes_none(self: Any, connection: Connection) -> bool:
    return True


def something() -> str:
    return "something"


async def takes_it_too_late(self: Any, number: int, connection: Connection) -> bool:
    return True


async def depends_too_early(
    self: Any, thing: Annotated[str, Depends(something)], connection: Connection, number: int
) -> bool:
    return True


@pytest.mark.parametrize(
    ("authorize", "given"),
    [
        (takes_another, "number"),
        (takes_none, "number"),
        (takes_it_too_late, "number"),
        (depends_too_early, "number, thing"),
    ],
)
def test_a_hook_that_does_not_fit_the_pattern_is_told_at_once(authorize: Any, given: str):
    told = rf"Room\.authorize cannot be called: .*; it is given first self, connection, then by name {given}$"
    with pytest.raises(ConfigurationError, match=told):
        make("authorize", authorize, room_pattern="room:{number:int}")


def test_a_hook_that_takes_another_type_than_the_pattern_gives_is_told_at_once():
    async def authorize(self: Any, connection: Connection, number: int) -> bool:
        return True

    told = r"the parameter 'number' of .*authorize is annotated as int, .* gives it as str: .*\{number:int\}$"
    with pytest.raises(ConfigurationError, match=told):
        make("authorize", authorize, room_pattern="room:{number}")


def test_a_hook_without_a_pattern_is_told_when_the_channel_is_made():
    class Base(Channel):
        async def authorize(self, connection: Connection, number: int) -> bool:
            return True

    class Room(Base):
        room_pattern = "room:{number:int}"

    Room()
    with pytest.raises(ConfigurationError, match=r"Base\.authorize cannot be called: missing"):
        Base()


@pytest.mark.parametrize("wrap", [staticmethod, classmethod])
def test_a_hook_may_be_static_or_of_the_class(wrap: Any):
    async def static(connection: Connection, number: int) -> bool:
        return True

    async def of_class(cls: type, connection: Connection, **numbers: int) -> bool:
        return True

    make("authorize", wrap(static if wrap is staticmethod else of_class), room_pattern="room:{number:int}")()


def test_a_limit_on_what_is_no_action_is_told():
    with pytest.raises(ConfigurationError, match=r"Room\.say has a rate limit, and is no action"):

        class Room(Channel):
            @limiter(times=1, seconds=1)
            async def say(self) -> None: ...
