"""Share links: an address that opens one file of one job without a key, for a while.

Of a link only the digest of its secret part is kept. What makes, revokes or ends one early is in
the audit log; one that only runs out is not, since its end is said when it is made.
"""

import hashlib
import secrets
from dataclasses import dataclass, replace
from typing import Final

from orchestrator.errors import BadRequest, Conflict, Gone, NotAllowed, NotFound
from orchestrator.farm.jobs import keeping
from orchestrator.farm.kernel import Farm, Page, audit_log
from orchestrator.farm.kernel.owned import own_job
from orchestrator.farm.kernel.paging import page, part
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.farm.kernel.where import ShareLinkMatch
from orchestrator.model import Job, Key, ShareLink
from orchestrator.remedies import Listing, LookAt, Say
from orchestrator.states import LinkEnd

MOST_OPEN: Final = 100
"""Of one job."""
KEPT_MS: Final = 30 * 86_400_000
"""Time for which a link that has run out still says so; after that it is unknown."""
ENDED: Final = {
    LinkEnd.REVOKED: "its owner revoked it",
    LinkEnd.KEY: "the key that made it has ended",
    LinkEnd.JOB: "its video was deleted",
}
ASK: Final = Say("Ask whoever sent it for a new one.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """Somebody who shares: by a key, or in a browser."""

    key_id: str | None = None
    person_id: str | None = None


def share(
    farm: Farm,
    account_id: str | None,
    job_id: str,
    *,
    name: str,
    seconds: int,
    maker: Maker,
    ends_with_key: bool,
) -> tuple[ShareLink, str]:
    """Make a link to a file of a job, and return it with its secret part, which is not kept.

    Raises:
        NotFound: the account has no such job.
        BadRequest: it is to end with a key, and no key makes it.
        Conflict: the job has too many open links.
        Expired: its files were removed when their time was over.
    """
    now = farm.clock()
    secret = secrets.token_urlsafe(32)
    with farm.store.write() as tx:
        until = now + seconds * 1000
        if ends_with_key:
            until = _before_end_of(tx, maker.key_id, until)
        tx.get(Job, job_id, lock=True)  # who shares or deletes it at the same moment waits here
        job = own_job(tx, account_id, job_id)
        keeping.check_kept(job)
        still = [
            each
            for each in tx.find(ShareLink, job_id=job.id, ended_at_ms=None)
            if each.expires_at_ms > now
        ]
        if len(still) >= MOST_OPEN:
            raise Conflict(
                f"The job has {MOST_OPEN} open links, as many as it may.", Say("Revoke some.")
            )
        link = ShareLink(
            id=farm.new_id("lnk", now),
            account_id=job.account_id,
            job_id=job.id,
            name=name,
            secret_sha256=_digest(secret),
            key_id=maker.key_id,
            person_id=maker.person_id,
            ends_with_key=ends_with_key,
            created_at_ms=now,
            expires_at_ms=until,
        )
        tx.add(link)
        audit_log.note(
            farm,
            tx,
            "link.create",
            link.id,
            link.account_id,
            job=job.id,
            name=name,
            expires_at_ms=until,
            ends_with_key=ends_with_key,
        )
    return link, secret


def opened(farm: Farm, secret: str) -> tuple[Job, str]:
    """Return the job and the name of its file that a link opens.

    Raises:
        NotFound: there is no such link.
        Gone: it was one, and has ended.
    """
    with farm.store.read() as tx:
        found = tx.find(ShareLink, secret_sha256=_digest(secret))
        job = tx.get(Job, found[0].job_id) if found else None
    if not found or job is None:
        raise NotFound("There is no such link.", Say("Check that the address is whole."))
    link = found[0]
    if link.ended_by is not None:
        raise Gone(f"This link has ended: {ENDED[link.ended_by]}.", ASK)
    if link.expires_at_ms <= farm.clock():
        raise Gone("This link has ended: its time is over.", ASK)
    return job, link.name


def listing(
    farm: Farm,
    account_id: str | None,
    *,
    job_id: str | None = None,
    limit: int = 50,
    after: str | None = None,
) -> Page[ShareLink]:
    """Return links of an account (None: of all), or of one job of it, newest first."""
    where: ShareLinkMatch = {}
    if account_id is not None:
        where["account_id"] = account_id
    with farm.store.read() as tx:
        if job_id is not None:
            where["job_id"] = own_job(tx, account_id, job_id).id
        return page(tx.find(ShareLink, **where, **part(limit, after)), limit)


def left_open(farm: Farm, key_id: str) -> int:
    """Return how many open links a key made that do not end with it."""
    now = farm.clock()
    with farm.store.read() as tx:
        found = tx.find(ShareLink, key_id=key_id, ends_with_key=False, ended_at_ms=None)
    return sum(link.expires_at_ms > now for link in found)


def revoke(
    farm: Farm, account_id: str | None, link_id: str, *, made_by: str | None = None
) -> ShareLink:
    """End a link at once; one that has ended already stays as it is.

    `made_by`: the first of the line of keys whose links alone may be ended; None: anybody's.

    Raises:
        NotFound: the account has no such link.
        NotAllowed: neither that key made it nor one before or after it in its line.
    """
    with farm.store.write() as tx:
        link = tx.get(ShareLink, link_id, lock=True)
        if link is None or account_id not in (None, link.account_id):
            raise NotFound(
                f"There is no link {link_id[:80]!r}.",
                LookAt(Listing.LINKS, "See the links you have."),
            )
        if made_by is not None:
            _check_maker(tx, link, made_by)
        if link.ended_at_ms is not None:
            return link
        return _end(farm, tx, link, LinkEnd.REVOKED)


def _check_maker(tx: Transaction, link: ShareLink, first_id: str) -> None:
    key = tx.get(Key, link.key_id) if link.key_id else None
    if key is None or key.first_id != first_id:
        raise NotAllowed(
            f"This key did not make the link {link.id}, and ends its own alone; the link stays.",
            LookAt(Listing.KEYS, "Use a key with the scope steer or configure."),
        )


def end_with_key(farm: Farm, tx: Transaction, key_id: str, *, at_ms: int | None = None) -> None:
    """End the links that end with this key, which ends now or, after a rotation, then."""
    for link in tx.find(ShareLink, key_id=key_id, ends_with_key=True, ended_at_ms=None, lock=True):
        if at_ms is None or at_ms <= farm.clock():
            _end(farm, tx, link, LinkEnd.KEY)
        elif at_ms < link.expires_at_ms:
            tx.save(link, replace(link, expires_at_ms=at_ms))
            audit_log.note(
                farm, tx, "link.shorten", link.id, link.account_id, by=LinkEnd.KEY.value,
                expires_at_ms=at_ms,
            )  # fmt: skip


def end_with_job(farm: Farm, tx: Transaction, job_id: str) -> None:
    """End the links of a job that is deleted."""
    for link in tx.find(ShareLink, job_id=job_id, ended_at_ms=None, lock=True):
        _end(farm, tx, link, LinkEnd.JOB)


def _end(farm: Farm, tx: Transaction, link: ShareLink, by: LinkEnd) -> ShareLink:
    verb = "link.revoke" if by is LinkEnd.REVOKED else "link.end"
    audit_log.note(farm, tx, verb, link.id, link.account_id, job=link.job_id, by=by.value)
    return tx.save(link, replace(link, ended_at_ms=farm.clock(), ended_by=by))


def _before_end_of(tx: Transaction, key_id: str | None, until_ms: int) -> int:
    """Return when a link ends that ends with this key, and at this moment at the latest."""
    key = tx.get(Key, key_id, lock=True)  # a revocation beside us waits, and then finds the link
    if key is None:
        raise BadRequest(
            "No key makes this link, so that it cannot end with one.",
            Say("Make it by a key, or without `ends_with_key`."),
        )
    if key.revoked_at_ms is not None:
        raise Conflict("The key has just been revoked.")
    return until_ms if key.expires_at_ms is None else min(until_ms, key.expires_at_ms)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
