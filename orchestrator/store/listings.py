"""Lists of jobs by what they are and how they are labelled: each one walks along one index."""

from collections.abc import Collection
from functools import cache
from typing import Final

from sqlalchemy import BindParameter, Connection, bindparam, delete, insert, select

from orchestrator.farm.kernel.where import JobsWanted, Label
from orchestrator.model import Job
from orchestrator.store.statements import Query
from orchestrator.store.tables import jobs, labels

_LIMIT: Final[BindParameter[int]] = bindparam("limit")
_TO_REMOVE: Final = (
    select(jobs.c.id)
    .where(jobs.c.remove_at_ms <= bindparam("now_ms"))
    .order_by(jobs.c.remove_at_ms)
    .limit(_LIMIT)
)


class Listings:
    """Questions about the jobs there are, and the labels that they are found by."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def jobs(self, wanted: JobsWanted, limit: int, *, oldest_first: bool = False) -> list[Job]:
        """Return up to so many of the jobs that are wanted, in the order of their ids."""
        given = wanted.given()
        query = _listing(tuple(given), len(wanted.labels), oldest_first=oldest_first)
        words = {
            name: part
            for number, (key, value) in enumerate(wanted.labels)
            for name, part in ((f"key_{number}", key), (f"value_{number}", value))
        }
        rows = self.connection.execute(query, {**given, **words, "limit": limit})
        return [Job(**row._mapping) for row in rows]

    def label(self, job_id: str, account_id: str, words: Collection[Label]) -> None:
        """Have a job found by these labels and no others."""
        self.connection.execute(delete(labels).where(labels.c.job_id == job_id))
        rows = [
            {"job_id": job_id, "account_id": account_id, "key": key, "value": value}
            for key, value in words
        ]
        if rows:
            self.connection.execute(insert(labels), rows)

    def to_remove(self, now_ms: int, limit: int) -> list[str]:
        """Return jobs whose files are to be looked at by now, the longest due first."""
        asked = {"now_ms": now_ms, "limit": limit}
        return list(self.connection.scalars(_TO_REMOVE, asked))


@cache
def _listing(given: tuple[str, ...], words: int, *, oldest_first: bool) -> Query:
    """Return the query for jobs by these facts and so many labels.

    With a label the walk is along the labels' own index, which has the jobs of each label in their
    order; the other labels and facts are looked up for each job that it comes by.
    """
    along = labels.alias("along")
    account = along.c.account_id if words else jobs.c.account_id
    job_id = along.c.job_id if words else jobs.c.id
    conditions = {
        "account_id": account == bindparam("account_id"),
        "session_id": jobs.c.session_id == bindparam("session_id"),
        "state": jobs.c.state == bindparam("state"),
        "model": jobs.c.model == bindparam("model"),
        "since_ms": jobs.c.created_at_ms >= bindparam("since_ms"),
        "until_ms": jobs.c.created_at_ms < bindparam("until_ms"),
        "since_id": job_id >= bindparam("since_id"),
        "until_id": job_id < bindparam("until_id"),
        "after": job_id > bindparam("after"),
        "before": job_id < bindparam("before"),
    }
    query: Query = select(jobs)
    if words:
        query = query.join(along, along.c.job_id == jobs.c.id)
    for number in range(words):
        table = along if number == 0 else labels.alias(f"beside_{number}")
        same = (table.c.key == bindparam(f"key_{number}")) & (
            table.c.value == bindparam(f"value_{number}")
        )
        if number == 0:
            query = query.where(same)
        else:
            beside = select(table.c.job_id).where(same, table.c.job_id == job_id)
            query = query.where(beside.exists())
    query = query.where(jobs.c.deleted_at_ms.is_(None), *(conditions[name] for name in given))
    return query.order_by(job_id if oldest_first else job_id.desc()).limit(_LIMIT)
