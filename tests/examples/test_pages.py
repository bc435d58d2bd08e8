"""The keyset of the support desk, on the databases themselves: pages make up the list, both ways."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import chain
from typing import Any

import pytest
from sqlalchemy import DateTime, Select, select
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from example.support_desk.database import Message, Ticket, User
from example.support_desk.pages import Keyset, SelectPaginator
from fastapi_channels import Cursor
from tests.support.servers import PostgresServer, required

ROWS = 60


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"

    number: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    price: Mapped[Decimal]
    at: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    note: Mapped[str | None]


ORDERS = [
    Keyset(Order.number),
    Keyset(Order.number, descending=True),
    Keyset(Order.name, Order.number),
    Keyset(Order.price, Order.name, Order.number, descending=True),
    Keyset(Order.at, Order.number),
]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=required(PostgresServer))])
async def session(request: pytest.FixtureRequest) -> AsyncIterator[AsyncSession]:
    url = "sqlite+aiosqlite://"
    if request.param == "postgres":
        server: PostgresServer = request.getfixturevalue("shared_postgres")
        url = server.url.replace("postgresql:", "postgresql+asyncpg:")
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine) as session:
        begin = datetime(2026, 1, 1, tzinfo=UTC)
        session.add_all(
            Order(
                number=number,
                name="Ää日b"[number % 4] * (1 + number % 2),
                price=Decimal(number % 5) / 4,
                at=begin + timedelta(microseconds=number // 7),
            )
            for number in range(ROWS)
        )
        await session.flush()
        yield session
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)
    await engine.dispose()


async def walk(
    session: AsyncSession, keyset: Keyset, limit: int, towards: str, cursor: str | None = None
) -> list[list[int]]:
    pages: list[list[int]] = []
    while True:
        page = await page_of(session, keyset, limit, cursor)
        pages.append([order.number for order in page.items])
        cursor = getattr(page, towards)
        if cursor is None:
            return pages


async def page_of(
    session: AsyncSession,
    keyset: Keyset,
    limit: int,
    cursor: str | None = None,
    query: Select[Any] | None = None,
) -> Any:
    paginator = SelectPaginator(b"secret", "Orders", "room", "list")
    wanted = Cursor(limit=limit, cursor=cursor)
    return await paginator.page(session, select(Order) if query is None else query, keyset, wanted)


@pytest.mark.parametrize("keyset", ORDERS, ids=lambda keyset: "-".join(each.key for each in keyset.columns))
async def test_pages_make_up_the_list_both_ways(session: AsyncSession, keyset: Keyset):
    whole = [
        order.number for order in await session.scalars(select(Order).order_by(*keyset.order(reverse=False)))
    ]
    assert sorted(whole) == [*range(ROWS)]
    for limit in (1, 7, ROWS):
        there = await walk(session, keyset, limit, "next")
        assert [*chain(*there)] == whole
        assert all(len(page) == limit for page in there[:-1])
    last = await page_of(session, keyset, 7, None)
    while last.next:
        last = await page_of(session, keyset, 7, last.next)
    back = await walk(session, keyset, 7, "previous", last.previous)
    assert [*chain(*reversed(back))] == whole[: -len(last.items)]


async def test_an_empty_list_is_one_page(session: AsyncSession):
    empty = select(Order).where(Order.number < 0)
    page = await page_of(session, ORDERS[0], 5, None, empty)
    assert (page.items, page.next, page.previous) == ([], None, None)


async def test_what_was_taken_away_leaves_an_empty_page(session: AsyncSession):
    first = await page_of(session, ORDERS[0], ROWS - 1)
    page = await page_of(session, ORDERS[0], 5, first.next, select(Order).where(Order.number < ROWS - 1))
    assert (page.items, page.next, page.previous) == ([], None, None)


def test_an_order_that_would_lose_rows_is_refused():
    for columns in [(Order.note, Order.number), (User.room_id, User.id)]:
        with pytest.raises(ValueError, match=f"{columns[0]} may be NULL"):
            Keyset(*columns)
    for columns in [(Order.name,), (Ticket.id, Ticket.subject), (Message.ticket_id,)]:
        with pytest.raises(ValueError, match=f"{columns[-1]} is not unique"):
            Keyset(*columns)
    assert Keyset(User.name).place is not None, "unique, although not the primary key"
