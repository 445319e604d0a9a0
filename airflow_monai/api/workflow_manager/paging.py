"""Pages of a list, as the Workflow Manager's clients know them: ``?pageNumber=2&pageSize=10``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Generic, TypeVar
from urllib.parse import parse_qsl, quote, urlencode

from fastapi import Depends, Query, Request
from pydantic import BaseModel, Field

DEFAULT_SIZE = 10
MAX_SIZE = 1_000
MAX_NUMBER = 1_000_000_000
"""Keeps what a database is asked to skip within its numbers."""
_NAMES = frozenset({"pagenumber", "pagesize"})

T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    """One page. Links are the path and the query to ask for; none where there is no such page."""

    PageNumber: int = Field(examples=[1])
    PageSize: int = Field(examples=[10])
    FirstPage: str | None = Field(default=None, examples=["/monai/workflow-manager/workflows?pageNumber=1&pageSize=10"])
    LastPage: str | None = None
    TotalPages: int = Field(examples=[3])
    TotalRecords: int = Field(examples=[27])
    NextPage: str | None = None
    PreviousPage: str | None = None
    Data: list[T]
    Succeeded: bool = True
    Errors: list[str] | None = None
    Message: str | None = None


@dataclass(frozen=True, slots=True)
class Paging:
    """What page was asked for.

    :param number: from 1.
    :param size: entries of a page, 1 to :data:`MAX_SIZE`.
    :param is_asked: False where the request says nothing of pages, which means a bare list to the routes of the seed.
    :param path: of the request, and ``query``: what else it asks, for the links.
    """

    number: int = 1
    size: int = DEFAULT_SIZE
    is_asked: bool = False
    path: str = ""
    query: tuple[tuple[str, str], ...] = ()

    @property
    def offset(self) -> int:
        """How many entries come before the page."""
        return (self.number - 1) * self.size

    def at_most(self, size: int) -> Paging:
        """The same with no larger pages, where an entry costs more than a row of a table."""
        return replace(self, size=min(self.size, size))

    def cut(self, entries: Sequence[T]) -> list[T]:
        """The page's entries of the whole list."""
        return list(entries[self.offset : self.offset + self.size])

    def page(self, data: Sequence[T], total: int) -> Page[T]:
        """The page object.

        :param data: the page's own entries; none for a page beyond the last.
        :param total: entries of all pages.
        """
        pages = -(-total // self.size)
        return Page(
            PageNumber=self.number,
            PageSize=self.size,
            FirstPage=self._link(1, pages),
            LastPage=self._link(pages, pages),
            TotalPages=pages,
            TotalRecords=total,
            NextPage=self._link(self.number + 1, pages),
            PreviousPage=self._link(self.number - 1, pages),
            Data=list(data),
        )

    def page_of(self, entries: Sequence[T]) -> Page[T]:
        """The page object of a list that is at hand whole."""
        return self.page(self.cut(entries), len(entries))

    def _link(self, number: int, pages: int) -> str | None:
        if not 1 <= number <= pages:
            return None
        query = (*self.query, ("pageNumber", str(number)), ("pageSize", str(self.size)))
        return f"{quote(self.path)}?{urlencode(query)}"


def _paging(
    request: Request,
    page_number: Annotated[int | None, Query(alias="pageNumber", description="From 1; less means 1.")] = None,
    page_size: Annotated[
        int | None, Query(alias="pageSize", description=f"{DEFAULT_SIZE} by default, {MAX_SIZE} at most.")
    ] = None,
) -> Paging:
    size = DEFAULT_SIZE if page_size is None or page_size < 1 else page_size
    others = parse_qsl(request.url.query, keep_blank_values=True)
    return Paging(
        number=min(max(page_number or 1, 1), MAX_NUMBER),
        size=min(size, MAX_SIZE),
        is_asked=page_number is not None or page_size is not None,
        path=request.url.path,
        query=tuple((name, value) for name, value in others if name.lower() not in _NAMES),
    )


ThePaging = Annotated[Paging, Depends(_paging)]
"""A route's parameter: what page was asked for. What is no number is answered with 400."""
