"""Parts of a list, by cursor: ids sort by time, so the last id of a part is its cursor."""

from typing import Any, Protocol, TypeVar

from orchestrator.farm.kernel import Page
from orchestrator.farm.kernel.ports import Transaction


class HasId(Protocol):
    """A row with an id that sorts by time."""

    @property
    def id(self) -> str:
        """Its id."""


T = TypeVar("T", bound=HasId)

MAX_PAGE = 200


def page(
    tx: Transaction,
    cls: type[T],
    limit: int,
    after: str | None,
    *,
    oldest_first: bool = False,
    **equal: Any,
) -> Page[T]:
    """Return up to `limit` rows that match, newest first, from behind the cursor `after`."""
    limit = max(1, min(limit, MAX_PAGE))
    if oldest_first:
        rows = tx.find(cls, order="id", limit=limit + 1, after=after, **equal)
    else:
        rows = tx.find(cls, order="-id", limit=limit + 1, before=after, **equal)
    items = tuple(rows[:limit])
    more = len(rows) > limit
    return Page(items=items, next_cursor=items[-1].id if more else None)
