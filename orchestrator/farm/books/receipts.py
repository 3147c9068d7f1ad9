"""Receipts: each lease of a job, what it measured, what it cost, and what was not charged."""

from collections import Counter, defaultdict
from dataclasses import asdict

from orchestrator.farm.kernel import Farm
from orchestrator.farm.kernel.owned import own_job
from orchestrator.model import Entry, Json, Lease, Unit
from orchestrator.money import hash_chain
from orchestrator.states import EntryKind, LeaseState


def receipt(farm: Farm, account_id: str | None, job_id: str) -> Json:
    """Return a job's itemised receipt in GPU-ms; final once the job has ended.

    `by_stage` sums what was measured and charged; `lines` has every lease, the lost ones too.
    """
    with farm.store.read() as tx:
        job = own_job(tx, account_id, job_id)
        leases = tx.find(Lease, job_id=job_id)
        units = {unit.id: unit for unit in tx.find(Unit, job_id=job_id)}
        entries = tx.find(Entry, job_id=job_id)
    by_lease: defaultdict[str | None, list[Entry]] = defaultdict(list)
    for entry in entries:
        by_lease[entry.lease_id].append(entry)
    lines = [_line(lease, units[lease.unit_id], by_lease[lease.id]) for lease in leases]
    energies = [line["energy_mj"] for line in lines if line["energy_mj"] is not None]
    by_kind: Counter[str] = Counter()
    not_charged: Counter[str] = Counter()
    for line in lines:
        by_kind[line["kind"]] += line["gpu_ms"]
        for lost in line["not_charged"]:
            not_charged[lost["why"]] += lost["gpu_ms"]
    return {
        "job_id": job.id,
        "session_id": job.session_id,
        "state": job.state.value,
        "final": job.state.is_terminal,
        "gpu_ms": job.spent_gpu_ms,
        "held_gpu_ms": job.held_gpu_ms,
        "refunded_gpu_ms": job.refunded_gpu_ms,
        "lost_gpu_ms": sum(line["lost_gpu_ms"] for line in lines),
        "not_charged": [{"why": why, "gpu_ms": ms} for why, ms in not_charged.most_common()],
        "price_microusd": sum(line["price_microusd"] for line in lines),
        "rates": sorted({entry.rates for entry in entries if entry.rates}),
        "by_stage": dict(by_kind),
        "frames": job.frames_done,
        "watermark": asdict(job.quote.watermark) if job.quote.watermark else None,
        "tags": list(job.tags),
        "metadata": dict(job.metadata),
        "energy_mj": sum(energies) if energies else None,
        "lines": lines,
        "entries": [
            {"id": e.id, "kind": e.kind.value, "gpu_ms": e.gpu_ms, "at_ms": e.at_ms, "note": e.note}
            for e in entries
        ],
    }


def _line(lease: Lease, unit: Unit, entries: list[Entry]) -> Json:
    """Return one lease; what it cost and what it did not is what its entries say."""
    measured = lease.receipt
    outcome = lease.outcome.value if lease.outcome else lease.state.value
    lost = [entry for entry in entries if entry.kind in (EntryKind.LOSS, EntryKind.REFUND)]
    refunded = sum(entry.gpu_ms for entry in entries if entry.kind is EntryKind.REFUND)
    return {
        "lease_id": lease.id,
        "unit_id": unit.id,
        "kind": lease.kind.value,
        "first_frame": unit.first_frame,
        "stride": unit.stride,
        "frames": lease.frames_done,
        "attempt": lease.fence,
        "worker_id": lease.worker_id,
        "worker": lease.worker_name,
        "device": lease.device,
        "device_class": lease.device_class,
        "outcome": "running" if lease.state is LeaseState.OPEN else outcome,
        "gpu_ms": lease.settled_gpu_ms - refunded,
        "lost_gpu_ms": lease.lost_gpu_ms + refunded,
        "not_charged": [{"why": entry.note, "gpu_ms": entry.gpu_ms} for entry in lost],
        "by_stage": measured.by_stage if measured else {},
        "price_microusd": sum(entry.price_microusd for entry in entries),
        "energy_mj": measured.energy_mj if measured else None,
        "frame_sha256": list(measured.frame_sha256) if measured else [],
        "message": measured.message if measured else "",
        "report": measured.model_dump(mode="json") if measured else None,
        "receipt_sha256": None
        if lease.state is LeaseState.OPEN
        else hash_chain.lease_digest(lease),
    }
