"""Files of ended jobs whose time is over: they go, the job and its bill stay."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from orchestrator.farm.jobs import deleting, extensions
from orchestrator.farm.jobs.loaded_job import LoadedJob
from orchestrator.farm.kernel import Farm
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.model import Job

AT_ONCE: Final = 50
"""Jobs of one round: another round follows."""
AGAIN_MS: Final = 600_000
"""Time until files are looked at again that are still needed, or could not be removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """Outcome of one look at a job's files."""

    job_id: str
    files: int
    """Files that were asked away; some of them may have been gone before."""
    needed_by: str | None
    """The unfinished job that still needs them: nothing was removed."""


def remove_expired(
    farm: Farm, remove: Callable[[Iterable[str]], None], most: int = AT_ONCE
) -> Iterator[Removed]:
    """Remove the files of up to so many jobs whose time is over, and say so one by one.

    What is interrupted after the job says that its files are gone is done again: removing what is
    gone already changes nothing. No entry, lease or receipt is touched.
    """
    with farm.store.read() as tx:
        due = tx.listings.to_remove(farm.clock(), most)
    for job_id in due:
        keys, needed_by = _take_away(farm, job_id)
        remove(keys)
        if needed_by is None:
            _done(farm, job_id)
        yield Removed(job_id=job_id, files=len(keys), needed_by=needed_by)


def _take_away(farm: Farm, job_id: str) -> tuple[tuple[str, ...], str | None]:
    """Have a job name no files any more; return their keys, or who still needs them."""
    now = farm.clock()
    with farm.store.write() as tx:
        loaded = _loaded(farm, tx, job_id, now)
        loaded.change(remove_at_ms=now + AGAIN_MS)
        needed = extensions.needed_by(tx, loaded.job)
        keys = () if needed else deleting.files_of(tx, loaded.job)
        if not needed:
            loaded.change(artifacts={}, expired_at_ms=loaded.job.expired_at_ms or now)
        loaded.close()
    return keys, needed.id if needed else None


def _done(farm: Farm, job_id: str) -> None:
    with farm.store.write() as tx:
        loaded = _loaded(farm, tx, job_id, farm.clock())
        loaded.change(remove_at_ms=None)
        loaded.close()


def _loaded(farm: Farm, tx: Transaction, job_id: str, now_ms: int) -> LoadedJob:
    job = tx.get(Job, job_id)
    assert job, "rows are never deleted"
    return LoadedJob(farm, tx, job_id, job.session_id, now_ms)
