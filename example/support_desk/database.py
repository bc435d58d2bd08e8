"""The tables, and a session for each request and each message."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, TypeAlias

from fastapi import Depends
from sqlalchemy import ForeignKey, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from starlette.requests import HTTPConnection

Sessions: TypeAlias = async_sessionmaker[AsyncSession]


class Base(DeclarativeBase):
    pass


class Room(Base):
    """Where one team works."""

    __tablename__ = "rooms"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class User(Base):
    """An agent, who works in a room, or a customer, who works in none."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    room_id: Mapped[int | None] = mapped_column(ForeignKey("rooms.id"))
    room: Mapped[Room | None] = relationship(lazy="joined")


def now() -> datetime:
    """In UTC, without saying so: as SQLite keeps it."""
    return datetime.now(UTC).replace(tzinfo=None)


class Ticket(Base):
    __tablename__ = "tickets"

    id: Mapped[int] = mapped_column(primary_key=True)
    subject: Mapped[str]
    is_open: Mapped[bool] = mapped_column(default=True)
    opened_at: Mapped[datetime] = mapped_column(default=now)
    customer_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    customer: Mapped[User] = relationship(lazy="joined")
    room_id: Mapped[int] = mapped_column(ForeignKey("rooms.id"))
    room: Mapped[Room] = relationship(lazy="joined")


class Message(Base):
    __tablename__ = "messages"

    id: Mapped[int] = mapped_column(primary_key=True)
    ticket_id: Mapped[int] = mapped_column(ForeignKey("tickets.id"), index=True)
    author: Mapped[str]
    text: Mapped[str]


async def create_tables(engine: AsyncEngine) -> None:
    """Make the tables, and people to log in as: ada and bob are customers, cleo and dan agents."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with AsyncSession(engine) as session:
        if await session.scalar(select(Room.id).limit(1)) is not None:
            return
        billing, technical = Room(name="billing"), Room(name="technical")
        session.add_all(
            [
                User(name="ada"),
                User(name="bob"),
                User(name="cleo", room=billing),
                User(name="dan", room=technical),
            ]
        )
        await session.commit()


async def get_sessions(connection: HTTPConnection) -> Sessions:
    sessions: Sessions = connection.app.state.sessions
    return sessions


async def get_session(sessions: Annotated[Sessions, Depends(get_sessions)]) -> AsyncIterator[AsyncSession]:
    async with sessions() as session:
        yield session


Session: TypeAlias = Annotated[AsyncSession, Depends(get_session)]
"""Opened for one request or one message, and closed right after it."""
