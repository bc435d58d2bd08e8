"""Orders: what somebody who holds no connection has the processes do with theirs.

They travel as texts over the broker, which others may write to: `decode` takes nothing that is not one, and
nothing that is large.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from fastapi_channels.exceptions import CloseCode, ParseError
from fastapi_channels.wire.closing import clip, valid_close_code
from fastapi_channels.wire.messages import Body, size_of
from fastapi_channels.wire.rooms import check_room, name_of

MAX_ORDER: Final = 16 * 1024
"""Bytes of an order."""
MAX_NAME: Final = 1024
"""Characters of the key of a user, of the id of a connection, and of the key of a room."""


def _sendable(code: int) -> int:
    if valid_close_code(code) != code:
        raise PydanticCustomError(
            "close_code", "a close code is one of 1000 to 1003, 1007 to 1014 and 3000 to 4999"
        )
    return code


def _room(key: str) -> str:
    try:
        check_room(name_of(key))
    except ParseError as exc:
        raise PydanticCustomError("room", "{problem}", {"problem": str(exc)}) from None
    return key


Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
NodeId: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{1,64}$")]
RoomKey: TypeAlias = Annotated[Name, AfterValidator(_room)]
Code: TypeAlias = Annotated[int, AfterValidator(_sendable)]
Reason: TypeAlias = Annotated[str, AfterValidator(clip)]


class _Order(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class DisconnectUser(_Order):
    """Close every WebSocket of a user."""

    order: Literal["disconnect_user"] = "disconnect_user"
    user: Name
    code: Code = int(CloseCode.NORMAL)
    reason: Reason = ""


class DisconnectConnection(_Order):
    """Close one connection; where it is one of many rooms on a `Socket`, that room."""

    order: Literal["disconnect_connection"] = "disconnect_connection"
    connection: Name
    code: Code = int(CloseCode.NORMAL)
    reason: Reason = ""


class Join(_Order):
    """Let the connections of a user join a room, which is named as processes know it: with its scope."""

    order: Literal["join"] = "join"
    user: Name
    room: RoomKey


class Leave(_Order):
    """Let the connections of a user leave a room."""

    order: Literal["leave"] = "leave"
    user: Name
    room: RoomKey


class Revoke(_Order):
    """Close the WebSockets of a user, or of one log-in, that were signed in up to some time."""

    order: Literal["revoke"] = "revoke"
    user: Name | None = None
    session: Name | None = None
    at: Annotated[float, Field(allow_inf_nan=False)]


class Banish(_Order):
    """Close the WebSockets of a user, or from an address, who is banned."""

    order: Literal["banish"] = "banish"
    user: Name | None = None
    address: Name | None = None


class Drain(_Order):
    """Let the connections of the process of that id go, and take no new ones."""

    order: Literal["drain"] = "drain"
    node: NodeId


class Probe(_Order):
    """Answer a question of the process of that id, which has numbered it."""

    order: Literal["probe"] = "probe"
    asker: NodeId
    question: Annotated[str, Field(max_length=64)] = "health"
    about: Annotated[str, Field(max_length=MAX_NAME)] = ""
    number: int = 0


Order: TypeAlias = DisconnectUser | DisconnectConnection | Join | Leave | Revoke | Banish | Drain | Probe
_ORDER: Final[TypeAdapter[Any]] = TypeAdapter(Annotated[Order, Field(discriminator="order")])


def encode(order: Order) -> str:
    return order.model_dump_json()


def decode(body: Body) -> Order:
    """The order in `body`.

    Raises:
        ValueError: it is none that is known here, or not a valid one; says why, and nothing that is in it.
    """
    if size_of(body) > MAX_ORDER:
        raise ValueError(f"it has more than {MAX_ORDER} bytes")
    try:
        order: Order = _ORDER.validate_json(body)
    except ValidationError as exc:
        raise ValueError(_problem(exc)) from None
    return order


def _problem(exc: ValidationError) -> str:
    first = exc.errors(include_input=False, include_url=False, include_context=False)[0]
    return " at ".join([first["type"], ".".join(map(str, first["loc"]))]).removesuffix(" at ")
