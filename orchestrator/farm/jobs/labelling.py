"""Tags and metadata of jobs: their owner's own words, by which jobs are found again."""

from collections.abc import Mapping
from typing import Final

from orchestrator.errors import BadRequest
from orchestrator.farm.jobs.loaded_job import LoadedJob
from orchestrator.farm.kernel import Farm, audit_log
from orchestrator.farm.kernel.owned import own_job
from orchestrator.farm.kernel.where import Label
from orchestrator.model import Job
from orchestrator.remedies import Say

MOST_LABELS: Final = 16
"""Tags of one job, and keys of its metadata."""
TAG: Final = ""
"""Key of a label that is a tag: no metadata has it."""


def labels_of(job: Job) -> tuple[Label, ...]:
    """Return what a job is found by."""
    return (*((TAG, tag) for tag in job.tags), *job.metadata.items())


def relabel(
    farm: Farm,
    account_id: str | None,
    job_id: str,
    *,
    tags: tuple[str, ...] | None = None,
    metadata: Mapping[str, str | None] | None = None,
) -> Job:
    """Give a job other tags, and change its metadata key by key; None takes a key away.

    Raises:
        NotFound: the account has no such job.
        BadRequest: it would have more keys than a job may.
    """
    with farm.store.write() as tx:
        job = own_job(tx, account_id, job_id)
        loaded = LoadedJob(farm, tx, job_id, job.session_id, farm.clock())
        before = loaded.job
        merged = {**before.metadata, **(metadata or {})}
        kept = {key: value for key, value in merged.items() if value is not None}
        if len(kept) > MOST_LABELS:
            raise BadRequest(
                f"metadata: the job would have {len(kept)} keys; {MOST_LABELS} is the most.",
                Say("Take some away: a key whose value is null goes."),
                errors=[{"field": "metadata", "fault": f"more than {MOST_LABELS} keys"}],
            )
        loaded.change(tags=before.tags if tags is None else tags, metadata=kept)
        after = loaded.close()
        if labels_of(after) != labels_of(before):
            tx.listings.label(job_id, after.account_id, labels_of(after))
            audit_log.note(
                farm,
                tx,
                "job.label",
                job_id,
                after.account_id,
                tags=list(after.tags),
                keys=sorted(after.metadata),
            )
        return after
