"""Pages of a select, by keyset: what comes after a row, and not after a number of rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

from fastapi import Depends
from sqlalchemy import ColumnElement, Select, literal, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from fastapi_channels import Cursor, Paginated, Paginator, current_paginator


class Keyset:
    """An order in which every row has a place of its own.

    Args:
        columns: compared one after the other; the last of them is unique.
        descending: whether the greatest comes first.

    Raises:
        ValueError: a column may be NULL, which no comparison finds; or the last is not unique, so that of
            rows that are alike a page would leave some out.
    """

    def __init__(self, *columns: InstrumentedAttribute[Any], descending: bool = False) -> None:
        for column in columns:
            if column.expression.nullable:
                raise ValueError(
                    f"{column} may be NULL, and then has no place in an order: use another column"
                )
        last = columns[-1].expression
        if not (last.unique or list(last.table.primary_key) == [last]):
            raise ValueError(
                f"{columns[-1]} is not unique: end with a column that is, such as the primary key"
            )
        self.columns = columns
        self.descending = descending
        types = tuple(column.type.python_type for column in columns)
        self.place: Any = tuple[Literal["after", "before"], tuple[types]]
        """The type of what a cursor holds: a direction, and the values of the columns in a row."""

    def key_of(self, row: Any) -> tuple[Any, ...]:
        return tuple(getattr(row, column.key) for column in self.columns)

    def order(self, *, reverse: bool) -> list[ColumnElement[Any]]:
        return [each.desc() if self.descending != reverse else each.asc() for each in self.columns]

    def beyond(self, key: Sequence[Any], *, reverse: bool) -> ColumnElement[bool]:
        """What holds for the rows after that with `key`; in `reverse`, for those before it."""
        here = tuple_(*self.columns)
        there = tuple_(*(literal(value, each.type) for value, each in zip(key, self.columns, strict=True)))
        return here < there if self.descending != reverse else here > there


class SelectPaginator(Paginator):
    """Pages of a select; what the application's actions get."""

    async def page(
        self, session: AsyncSession, query: Select[Any], keyset: Keyset, wanted: Cursor
    ) -> Paginated[Any]:
        """One page of what `query` selects, which has no order yet, in the order of `keyset`."""
        direction, key = self.place_of(wanted, keyset.place) or ("after", None)
        back = direction == "before"
        query = query.order_by(*keyset.order(reverse=back)).limit(wanted.limit + 1)
        if key is not None:
            query = query.where(keyset.beyond(key, reverse=back))
        found = (await session.scalars(query)).all()
        rows, more = list(found[: wanted.limit]), len(found) > wanted.limit
        if back:
            rows.reverse()
        # Where one comes from, there is something.
        more_after, more_before = (True, more) if back else (more, key is not None)
        return Paginated(
            items=rows,
            next=self.cursor_of(("after", keyset.key_of(rows[-1]))) if rows and more_after else None,
            previous=self.cursor_of(("before", keyset.key_of(rows[0]))) if rows and more_before else None,
        )


Pages: TypeAlias = Annotated[SelectPaginator, Depends(current_paginator)]
