"""Deleting an ended job: its files go, its bill stays."""

from orchestrator.errors import Conflict
from orchestrator.farm.jobs import extensions, sharing
from orchestrator.farm.jobs.loaded_job import LoadedJob
from orchestrator.farm.kernel import Farm, audit_log
from orchestrator.farm.kernel.owned import own_job
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.model import Job, Lease, Reference
from orchestrator.remedies import Cancel


def delete(farm: Farm, account_id: str | None, job_id: str) -> tuple[str, ...]:
    """Hide an ended job and return the keys of its files, for the caller to delete.

    Its ledger entries and receipts stay: a bill outlives the picture.

    Raises:
        Conflict: the job has not ended.
    """
    with farm.store.write() as tx:
        job = own_job(tx, account_id, job_id)
        if not job.state.is_terminal:
            raise Conflict(f"The job is {job.state}.", Cancel(job.id))
        extensions.check_unneeded(tx, job)
        loaded = LoadedJob(farm, tx, job_id, job.session_id, farm.clock())
        keys = [*files_of(tx, job)]
        if job.image and not _others_use(tx, job.image):
            keys.append(job.image)
        loaded.change(deleted_at_ms=farm.clock(), artifacts={}, remove_at_ms=None)
        loaded.close()
        tx.listings.label(job_id, job.account_id, ())
        tx.deliveries.forget_job(job_id)
        sharing.end_with_job(farm, tx, job_id)
        audit_log.of_operator(farm, tx, account_id, "job.delete", job_id, job.account_id)
        return tuple(keys)


def files_of(tx: Transaction, job: Job) -> tuple[str, ...]:
    """Return the keys of all that was made for a job: video, frames, segments, strips, sheet."""
    keys = [file.key for file in job.artifacts.values()]
    for lease in tx.find(Lease, job_id=job.id):
        files = lease.receipt.artifacts if lease.receipt else ()
        keys += [lease.key(file.name) for file in files]
    return tuple(dict.fromkeys(keys))


def was_deleted(farm: Farm, account_id: str | None, job_id: str) -> bool:
    """Tell whether there was such a job of this account (None: of any) before it was deleted."""
    with farm.store.read() as tx:
        job = tx.get(Job, job_id)
    mine = job is not None and account_id in (None, job.account_id)
    return job is not None and mine and job.deleted_at_ms is not None


def _others_use(tx: Transaction, image: str) -> bool:
    """Tell whether its reference image is another job's too, or is kept by name."""
    jobs = tx.find(Job, image=image, deleted_at_ms=None, limit=2)
    return len(jobs) > 1 or bool(tx.find(Reference, image=image, limit=1))
