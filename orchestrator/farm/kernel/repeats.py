"""Requests repeated without an Idempotency-Key, as OpenAI's clients do after a lost answer.

They only count their tries. So every creating request is remembered for a day by what it asked;
a later try of it means a job that is there already, a first try means a new one. Where the
account asked for the same thing several times on purpose, each of these jobs answers a second
try once, the newest first, so that no two lost answers come back as one job.

A first try may be overtaken by its own second one (it waited in a queue until the client gave
up): what a later try made since this request arrived is its job too.

A job that was deleted answers nobody: who knew its id had got its answer.
"""

from dataclasses import replace
from typing import Final

from orchestrator.farm.kernel import Repeat
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.model import Attempt, Job

KEEP_MS: Final = 24 * 3_600_000
"""Longer than any client waits for an answer."""
LOOKED_AT: Final = 100
"""The newest equal requests, among which a try finds its first one; a busy account has thousands
of them a day, and every request would read them all."""


def answered(tx: Transaction, account_id: str, repeat: Repeat) -> str | None:
    """Return the job that this try means, if there is one."""
    known = tx.find(
        Attempt,
        account_id=account_id,
        request_sha256=repeat.request_sha256,
        order="-id",
        limit=LOOKED_AT,
        lock=True,
    )
    if repeat.tries_before == 0:
        late = [a for a in known if a.made_by_try and a.at_ms >= repeat.arrived_at_ms]
        return _kept(tx, late[0].job_id) if late else None
    since = repeat.arrived_at_ms - min(repeat.window_ms, KEEP_MS)
    recent = [a for a in known if a.at_ms >= since]
    waiting = [a for a in recent if a.newest_try < repeat.tries_before]
    found = next((a for a in waiting + recent if _kept(tx, a.job_id)), None)
    if found is None:
        return None
    newest = max(found.newest_try, repeat.tries_before)
    return tx.save(found, replace(found, newest_try=newest)).job_id


def remember(tx: Transaction, account_id: str, repeat: Repeat, job_id: str, now_ms: int) -> None:
    """Keep what this try led to, and forget what no client asks for any more."""
    tx.forget_attempts(account_id, now_ms - KEEP_MS)
    tx.add(
        Attempt(
            id=job_id.replace("job", "att", 1),
            account_id=account_id,
            request_sha256=repeat.request_sha256,
            job_id=job_id,
            made_by_try=repeat.tries_before,
            newest_try=repeat.tries_before,
            at_ms=now_ms,
        )
    )


def _kept(tx: Transaction, job_id: str) -> str | None:
    """Return the id of a job unless it was deleted."""
    job = tx.get(Job, job_id)
    return job_id if job and job.deleted_at_ms is None else None
