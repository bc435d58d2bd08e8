"""Read by mypy and pyright, never run: what speaks to an application from outside of it."""

from typing import Annotated, Any, assert_type

from fastapi import Depends, FastAPI

from fastapi_channels import (
    Channel,
    Connection,
    Event,
    Person,
    Published,
    Publisher,
    SyncPublisher,
    current_publisher,
)

app = FastAPI()


class Bid(Event):
    amount: int


def seen_by(connection: Connection[str], frame: dict[str, Any]) -> dict[str, Any] | None:
    return frame if connection.user == "auctioneer" else None


class Auction(Channel):
    event_types = [Bid]
    for_each = [seen_by]


@app.post("/bids")
async def bid(publisher: Annotated[Publisher, Depends(current_publisher)]) -> None:
    assert_type(publisher, Publisher)
    assert_type(await publisher.broadcast("auction:7", Bid(amount=1), channel=Auction), Published)


async def outside(connection: Connection) -> None:
    async with Publisher("redis://localhost", namespace="shop", user_key="email") as publisher:
        assert_type(publisher, Publisher)
        await publisher.broadcast(["a", "b"], "said", {"text": "hi"}, exclude=connection)
        await publisher.broadcast("a", Bid(amount=1), for_each=seen_by, channel=Auction)
        await publisher.broadcast("a", "said", for_each="seen_by")  # type: ignore[arg-type]  # a function
        await publisher.send_to_user("ada", Bid(amount=1), channel=Auction())
        await publisher.send_to_connection(connection.id, "said")
        await publisher.disconnect_user({"id": 7}, 4503, "banned")
        await publisher.disconnect_connection(connection.id)
        await publisher.join_room("ada", "staff")
        await publisher.leave_room("ada", "staff", channel=Auction)
        assert_type(await publisher.people("hall:1", channel=Auction), list[Person])
        assert_type(await publisher.count_people("hall:1"), int)
        await publisher.broadcast("a", "said", channel=Bid)  # type: ignore[arg-type]  # no channel


def without_a_loop() -> None:
    with SyncPublisher("redis://localhost", publish_timeout=0.5) as publisher:
        assert_type(publisher, SyncPublisher)
        assert_type(publisher.broadcast("a", Bid(amount=1), channel=Auction), Published)
        publisher.broadcast(7, "said")  # type: ignore[arg-type]  # no name
        assert_type(publisher.people("hall:1", channel=Auction), list[Person])
        assert_type(publisher.count_people("hall:1"), int)
        publisher.broadcast("a", "said", timeout=1)  # type: ignore[call-arg]  # there is none
        publisher.disconnect_user("ada", 4503)
        publisher.join_room("ada", "staff")
