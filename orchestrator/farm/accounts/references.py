"""Reference pictures that an account keeps by name (a character) or as a file.

They count towards the storage that the account's plan gives, and go when they are deleted or have
expired; the picture itself goes with the last of them, unless a job that has not ended needs it,
or any job of another account.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal

from orchestrator.errors import Conflict, NotFound, StorageFull
from orchestrator.farm.jobs import pictures
from orchestrator.farm.jobs.pictures import RemoveFile, StoreFile
from orchestrator.farm.kernel import Farm, Page, audit_log
from orchestrator.farm.kernel.paging import page, part
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.farm.kernel.where import ReferenceMatch
from orchestrator.model import Account, Picture, Reference
from orchestrator.money.plans import Plan
from orchestrator.remedies import Cancel, ChangePlan, Listing, LookAt, Watch

Kind = Literal["character", "file"]
PREFIX: Final[dict[Kind, str]] = {"character": "char", "file": "file"}
LISTS: Final[dict[Kind, Listing]] = {"character": Listing.CHARACTERS, "file": Listing.FILES}
MEGABYTE: Final = 1 << 20
DAY_MS: Final = 86_400_000
AT_ONCE: Final = 100
"""Expired ones that are looked at together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """Use of an account's storage, of what its plan gives."""

    limit_bytes: int | None
    """None: no limit; 0 without a plan."""
    files: int
    file_bytes: int
    characters: int
    character_bytes: int

    @property
    def used_bytes(self) -> int:
        """Bytes of files and characters together."""
        return self.file_bytes + self.character_bytes


def keep(
    farm: Farm,
    *,
    account_id: str,
    kind: Kind,
    name: str,
    image: str,
    size_bytes: int,
    store: StoreFile,
    seconds: int | None = None,
) -> Reference:
    """Keep a stored picture under a name; the same picture under the same name is one.

    It expires after so many `seconds`, and no later than its account's plan says; a picture that
    comes again begins anew. `store` stores it again where it was removed meanwhile.

    Raises:
        StorageFull: the plan gives no room for it; nothing is kept.
    """
    now = farm.clock()
    with farm.store.write() as tx:
        account = tx.get(Account, account_id, lock=True)  # what comes beside it is counted in turn
        assert account, "a key names an account"
        plan = farm.plans.get(account.plan)
        until = _expiry(plan, now, seconds)
        pictures.note(farm, tx, image, size_bytes, store)
        for known in tx.find(Reference, account_id=account_id, kind=kind, name=name, image=image):
            if _is_kept(known, now):
                return tx.save(known, replace(known, expires_at_ms=until))
        _check_room(storage_of(farm, tx, account), plan, account_id, size_bytes)
        made = Reference(
            id=farm.new_id(PREFIX[kind], now),
            account_id=account_id,
            kind=kind,
            name=name,
            image=image,
            bytes=size_bytes,
            created_at_ms=now,
            expires_at_ms=until,
        )
        tx.add(made)
        return made


def get(farm: Farm, account_id: str | None, kind: Kind, reference_id: str) -> Reference:
    """Return a kept picture.

    Raises:
        NotFound: the account has none by this id, or it has expired.
    """
    with farm.store.read() as tx:
        return _own(farm, tx, account_id, kind, reference_id)


def listing(
    farm: Farm,
    account_id: str | None,
    kind: Kind,
    *,
    limit: int = 50,
    after: str | None = None,
    oldest_first: bool = False,
) -> Page[Reference]:
    """Return kept pictures of an account (None: of all), newest first; none that has expired."""
    where: ReferenceMatch = {"kind": kind}
    if account_id is not None:
        where["account_id"] = account_id
    now = farm.clock()
    with farm.store.read() as tx:
        bounds = part(limit, after, oldest_first=oldest_first)
        found = page(tx.find(Reference, **where, **bounds), limit)
    return replace(found, items=tuple(row for row in found.items if _is_kept(row, now)))


def delete(
    farm: Farm, account_id: str | None, kind: Kind, reference_id: str, remove: RemoveFile
) -> None:
    """Delete a kept picture, and its file where nothing else has it.

    Raises:
        NotFound: the account has none by this id.
        Conflict: a job that has not ended needs it; names the job.
    """
    with farm.store.write() as tx:
        row = _own(farm, tx, account_id, kind, reference_id)
        if job_id := _leave(farm, tx, row, remove):
            raise Conflict(
                f"Job {job_id} starts from this {kind} and has not ended.",
                Watch(job_id),
                Cancel(job_id),
                job_id=job_id,
            )
        audit_log.of_operator(farm, tx, account_id, f"{kind}.delete", row.id, row.account_id)


def expire(farm: Farm, remove: RemoveFile) -> list[Reference]:
    """Delete what has expired, and return it; what a job needs that has not ended stays."""
    now, after = farm.clock(), ""
    gone: list[Reference] = []
    while True:
        with farm.store.read() as tx:
            found = tx.expired_references(now, after, AT_ONCE)
        for row in found:
            with farm.store.write() as tx:
                tx.get(Picture, row.image, lock=True)
                fresh = tx.get(Reference, row.id, lock=True)
                if fresh is None or _is_kept(fresh, now) or _leave(farm, tx, fresh, remove):
                    continue
                audit_log.note(farm, tx, f"{row.kind}.expire", row.id, row.account_id)
            gone.append(row)
        if len(found) < AT_ONCE:
            return gone
        after = found[-1].id


def storage_of(farm: Farm, tx: Transaction, account: Account) -> Storage:
    """Return the use of an account's storage, within an open transaction."""
    used = tx.storage_used(account.id, farm.clock())
    plan = farm.plans.get(account.plan)
    files, characters = used.get("file", (0, 0)), used.get("character", (0, 0))
    return Storage(
        limit_bytes=plan.storage_bytes if plan else 0,
        files=files[0],
        file_bytes=files[1],
        characters=characters[0],
        character_bytes=characters[1],
    )


# --- inside -------------------------------------------------------------------------------


def _own(
    farm: Farm, tx: Transaction, account_id: str | None, kind: Kind, reference_id: str
) -> Reference:
    found = tx.get(Reference, reference_id)
    mine = found is not None and found.kind == kind and account_id in (None, found.account_id)
    if found is None or not mine or not _is_kept(found, farm.clock()):
        raise NotFound(
            f"There is no such {kind}; it may have been deleted, or have expired.",
            LookAt(LISTS[kind], f"See the {kind}s you have."),
        )
    return found


def _leave(farm: Farm, tx: Transaction, row: Reference, remove: RemoveFile) -> str | None:
    """Delete a row, and the picture with its last one; return a job that needs it, if one does."""
    tx.get(Picture, row.image, lock=True)  # a job that begins from it just now is waited for
    if tx.get(Reference, row.id, lock=True) is None:
        raise NotFound(f"There is no such {row.kind}.", LookAt(LISTS[row.kind], "See those left."))
    jobs = tx.jobs_from_picture(row.image)
    others = any(each.id != row.id for each in tx.find(Reference, image=row.image, limit=2))
    if not others:
        for job_id, account_id, is_open in jobs:
            if is_open and account_id == row.account_id:
                return job_id
    tx.remove(row)
    if not others and all(account_id == row.account_id for _, account_id, _ in jobs):
        pictures.go(farm, tx, row.image, row.name, remove)
    return None


def _is_kept(row: Reference, now_ms: int) -> bool:
    return row.expires_at_ms is None or row.expires_at_ms > now_ms


def _expiry(plan: Plan | None, now_ms: int, seconds: int | None) -> int | None:
    days = plan.file_days if plan else None
    ends = [now_ms + seconds * 1000] if seconds is not None else []
    ends += [now_ms + days * DAY_MS] if days is not None else []
    return min(ends, default=None)


def _check_room(storage: Storage, plan: Plan | None, account_id: str, size_bytes: int) -> None:
    limit = storage.limit_bytes
    if limit is None or storage.used_bytes + size_bytes <= limit:
        return
    gives = f"The plan {plan.name} gives" if plan else "An account without a plan has"
    files = "1 file" if storage.files == 1 else f"{storage.files} files"
    characters = f"{storage.characters} character{'' if storage.characters == 1 else 's'}"
    raise StorageFull(
        f"{gives} {_mb(limit)} MB for files and characters. {_mb(storage.used_bytes)} MB are used: "
        f"{files} ({_mb(storage.file_bytes)} MB) and {characters} "
        f"({_mb(storage.character_bytes)} MB). This picture needs {_mb(size_bytes)} MB; it was not "
        "kept, and nothing was charged.",
        LookAt(Listing.FILES, "Delete files that nobody needs."),
        LookAt(Listing.CHARACTERS, "Delete characters that nobody needs."),
        ChangePlan(account_id),
        limit_bytes=limit,
        used_bytes=storage.used_bytes,
        asked_bytes=size_bytes,
    )


def _mb(size_bytes: int) -> str:
    """Return bytes as MB, exact enough that a small picture is more than nothing."""
    return f"{size_bytes / MEGABYTE:.4f}".rstrip("0").rstrip(".")
