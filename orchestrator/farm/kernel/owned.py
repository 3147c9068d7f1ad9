"""Rows as their owner may see them: another account's are not there."""

from orchestrator import safe_text
from orchestrator.errors import NotFound
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.model import Account, Job, Session
from orchestrator.remedies import Listing, LookAt, OpenSession


def own_job(tx: Transaction, account_id: str | None, job_id: str) -> Job:
    """Return a job of this account that was not deleted, within an open transaction."""
    job = tx.get(Job, job_id)
    hidden = job is None or job.deleted_at_ms is not None
    if job is None or hidden or account_id not in (None, job.account_id):
        raise NotFound(f"There is no job {job_id}.", LookAt(Listing.JOBS, "See the jobs you have."))
    return job


def own_session(
    tx: Transaction, account_id: str | None, session_id: str, *, lock: bool = False
) -> Session:
    """Return a session that an account may see; None: any account's.

    Raises:
        NotFound: there is none of that id, or it is another's.
    """
    session = tx.get(Session, session_id, lock=lock)
    if session is None or account_id not in (None, session.account_id):
        raise NotFound(
            f"There is no session {session_id!r}.",
            LookAt(Listing.SESSIONS, "See the sessions you have."),
        )
    return session


def named_session(
    tx: Transaction, account_id: str, name_or_id: str | None, *, lock: bool = False
) -> Session:
    """Return a session by id or name, or the account's default one, within an open transaction.

    Raises:
        NotFound: the account has none of that id or name.
    """
    account = None if name_or_id else tx.get(Account, account_id)
    wanted = safe_text.normal(name_or_id or (account.default_session_id if account else ""))
    session = tx.get(Session, wanted, lock=lock) if wanted.startswith("ses_") else None
    if session is None or session.account_id != account_id:
        named = tx.find(Session, account_id=account_id, name=wanted, lock=lock)
        if not named:
            raise NotFound(
                f"There is no session {wanted!r}.",
                LookAt(Listing.SESSIONS, "See the sessions you have."),
                OpenSession(),
            )
        session = named[0]
    return session
