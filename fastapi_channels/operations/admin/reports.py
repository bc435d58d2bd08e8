"""What the routes answer, and what they are asked."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError

from fastapi_channels.cluster.bans import MAX_SECONDS, Ban
from fastapi_channels.cluster.orders import MAX_NAME
from fastapi_channels.exceptions import CloseCode
from fastapi_channels.wire.closing import MAX_REASON

DAY: Final = 86_400.0


class ChannelReport(BaseModel):
    """A channel. `scope`: what its rooms begin with. `events`: those that it declares; None where it may send
    any. `history`: whether its rooms keep what was published. `topics`: whether they are filters."""

    name: str
    address: str
    actions: list[str]
    events: list[str] | None
    scope: str
    history: bool
    topics: bool


class RoomReport(BaseModel):
    """A room with members. `scope` is that of its channel, empty where it is the whole application's;
    `topics`, whether it is a filter of topics."""

    name: str
    scope: str
    topics: bool
    members: int


class RoomPage(BaseModel):
    """`total`: how many there are at least; `complete` says that there are no more, and that none is left out
    of the order."""

    items: list[RoomReport]
    total: int
    complete: bool


class MemberReport(BaseModel):
    """A connection in a room, its user's key, and what it says of itself. `since`: seconds since 1970, where
    several processes share a broker."""

    id: str
    user: str | None
    since: float | None = None
    data: Any = None


class MemberPage(BaseModel):
    """`total`: how many are in the room."""

    items: list[MemberReport]
    total: int


class ConnectionReport(BaseModel):
    """A connection that is in a room, or in several. `waiting`: bytes that it has not taken."""

    id: str
    process: str
    user: str | None
    address: str
    rooms: list[str]
    waiting: int = 0


class Refusal(BaseModel):
    """Why it was not done: a text, or what is wrong with each thing that was said."""

    detail: str | list[dict[str, Any]]


class Said(BaseModel):
    event: str
    data: Any = None
    key: str | None = None


class Closing(BaseModel):
    code: int = int(CloseCode.NORMAL)
    reason: str = ""


class Whom(BaseModel):
    user: str


class Revocation(BaseModel):
    seconds: Annotated[float, Field(gt=0, le=MAX_SECONDS)] = DAY


class NewBan(BaseModel):
    """One user, by its key, or one address."""

    user: Annotated[str, Field(min_length=1, max_length=MAX_NAME)] | None = None
    address: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    seconds: Annotated[float, Field(gt=0, le=MAX_SECONDS)] = DAY
    reason: Annotated[str, Field(max_length=MAX_REASON)] = ""

    @model_validator(mode="after")
    def _one(self) -> NewBan:
        if (self.user is None) == (self.address is None):
            raise PydanticCustomError("ban", "a ban is of a user, or of an address")
        return self


class BanReport(BaseModel):
    """`until`: seconds since 1970."""

    user: str | None
    address: str | None
    until: float
    reason: str
    by: str

    @classmethod
    def of(cls, ban: Ban) -> BanReport:
        return cls(user=ban.user, address=ban.address, until=ban.until, reason=ban.reason, by=ban.by)
