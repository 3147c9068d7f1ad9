"""Parts of a list, by cursor: ids sort by time, so the last id of a part is its cursor."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from orchestrator.farm.kernel import Page
from orchestrator.farm.kernel.where import Bounds


class HasId(Protocol):
    """A row with an id that sorts by time."""

    @property
    def id(self) -> str:
        """Its id."""


T = TypeVar("T", bound=HasId)

MAX_PAGE = 200


def part(limit: int, after: str | None, *, oldest_first: bool = False) -> Bounds:
    """Return which rows a part of a list needs: up to `limit`, newest first, from behind `after`.

    There is one row more, by which `page` knows that the list goes on.
    """
    most = bounded(limit) + 1
    if oldest_first:
        return {"order": "id", "limit": most, "after": after}
    return {"order": "-id", "limit": most, "before": after}


def page(rows: Sequence[T], limit: int) -> Page[T]:
    """Return rows that were found by their `part` as a part of a list, with its cursor."""
    items = tuple(rows[: bounded(limit)])
    return Page(items=items, next_cursor=items[-1].id if len(rows) > len(items) else None)


def bounded(limit: int) -> int:
    """Return how many rows a part of a list has at most."""
    return max(1, min(limit, MAX_PAGE))
