"""I6, I10, I11: what workers reported is what the entries digested, and why they charged."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from orchestrator.farm.check.snapshot import File, Snapshot
from orchestrator.model import Job, Lease
from orchestrator.money import hash_chain
from orchestrator.states import Cause, Intent, JobState, LeaseState, Outcome, UnitKind
from orchestrator.wire import FILES_OF

_HEX: Final = frozenset("0123456789abcdef")
_KEPT: Final = 1024
"""Receipts that are remembered as read: a look over the same store reads the same ones again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """Questions asked of one receipt, whatever its JSON says."""

    receipt: object
    frames: int
    """Digests of frames; -1: some are none."""
    files: dict[str, File]
    cause: str | None
    step: int


def faults(snapshot: Snapshot, receipts: Iterable[tuple[str, str | None]]) -> Iterator[str]:
    """Hold each lease's receipt, as the JSON it is stored as, against lease and entries."""
    for lease_id, text in receipts:
        lease = snapshot.leases[lease_id]
        if snapshot.digests.get(lease_id) not in (None, _digest(lease, text)):
            yield f"I6: lease {lease_id} and its receipt are not what its entries digested"
        if text is None:
            if lease.state is LeaseState.COMPLETED:
                yield f"I6: lease {lease_id} has no receipt"
            continue
        said = read(text)
        if said.frames != lease.frames_done:
            yield f"I10: lease {lease_id} has {lease.frames_done} frames and other digests of them"
        kept = lease.outcome is Outcome.DONE or (
            lease.outcome is Outcome.STOPPED and lease.frames_done
        )
        if kept and not FILES_OF[lease.kind] <= said.files.keys():
            yield f"I10: the receipt of lease {lease_id} lacks files of its {lease.kind}"
        if lease.kind is UnitKind.ENCODE:
            snapshot.films[lease_id] = said.files
        if lease.settled_gpu_ms and (why := _free(snapshot.jobs[lease.job_id], lease, said)):
            yield f"I11: lease {lease_id} {why} and was charged"


@lru_cache(_KEPT)
def read(text: str) -> Reported:
    """Return what a receipt says; it may say anything."""
    try:
        receipt = json.loads(text)
    except ValueError:
        receipt = None
    facts = receipt if isinstance(receipt, dict) else {}
    digests, files = facts.get("frame_sha256"), facts.get("artifacts")
    frames = digests if isinstance(digests, list) else [None]
    return Reported(
        receipt=receipt,
        frames=len(frames) if all(_is_digest(each) for each in frames) else -1,
        files=dict(_files(files if isinstance(files, list) else [])),
        cause=facts.get("cause"),
        step=facts.get("checkpoint_step") or 0,
    )


@lru_cache(_KEPT)
def _digest(lease: Lease, text: str | None) -> str:
    return hash_chain.row_digest(lease, None if text is None else read(text).receipt)


def _free(job: Job, lease: Lease, said: Reported) -> str:
    """Say why nobody pays for what a lease did; empty: its session does."""
    if lease.outcome is Outcome.FAILED and said.cause != Cause.REQUEST:
        return f"failed by the fault of the {said.cause or 'farm'}"
    kept = lease.frames_done or said.step
    cancelled = job.intent is Intent.CANCEL or job.state in (JobState.CANCELLED, JobState.FAILED)
    if lease.outcome is Outcome.STOPPED and not kept and not cancelled:
        return "stopped with nothing to keep"
    return ""


def _files(files: list[object]) -> Iterator[tuple[str, File]]:
    for file in files:
        if isinstance(file, dict) and _is_digest(file.get("sha256")) and file.get("bytes"):
            yield str(file.get("name")), (file["sha256"], file["bytes"])


def _is_digest(word: object) -> bool:
    return isinstance(word, str) and len(word) == 64 and _HEX.issuperset(word)
