"""A unit that was stopped midway: where it goes on, for whom, and what was paid for it.

A checkpoint is continued under the fingerprint it was made with, and then every step is made
and paid once. Anywhere else its unit starts again, and what the session paid for the steps
that are lost comes off the next charges: doing them again is the farm's cost.
"""

from dataclasses import replace

from orchestrator.model import Checkpoint, Lease, Unit, Worker
from orchestrator.receipt import Receipt
from orchestrator.wire import CHECKPOINT, CheckpointRef


def fits(unit: Unit, worker: Worker) -> bool:
    """Tell whether this worker would begin the unit where it is to begin."""
    return unit.checkpoint is None or unit.checkpoint.fingerprint == worker.fingerprint


def begun(unit: Unit, worker: Worker) -> Unit:
    """Return the unit as this worker begins it: where it stopped, or from its noise."""
    return unit if fits(unit, worker) else forgotten(unit)


def ref(unit: Unit) -> CheckpointRef | None:
    """Return what an order says of the unit's checkpoint."""
    if unit.checkpoint is None:
        return None
    point = unit.checkpoint
    return CheckpointRef(key=point.key, sha256=point.sha256, step=point.step)


def reached(unit: Unit, lease: Lease, receipt: Receipt, paid_gpu_ms: int) -> Checkpoint | None:
    """Return the checkpoint of a stopped unit; None: nothing of its last micro-batch is kept.

    `paid_gpu_ms`: what the session paid for all that this lease did.
    """
    here = None if receipt.frames_done else unit.checkpoint
    if not receipt.checkpoint_step:
        return here
    file = next(file for file in receipt.artifacts if file.name == CHECKPOINT)
    return Checkpoint(
        key=lease.key(CHECKPOINT),
        sha256=file.sha256,
        step=receipt.checkpoint_step,
        fingerprint=receipt.fingerprint,
        gpu_ms=min(receipt.checkpoint_gpu_ms, paid_gpu_ms) + (here.gpu_ms if here else 0),
    )


def forgotten(unit: Unit) -> Unit:
    """Return the unit as it starts again: what was paid for its steps is owed to the session."""
    if unit.checkpoint is None:
        return unit
    owed = unit.prepaid_gpu_ms + unit.checkpoint.gpu_ms
    return replace(unit, checkpoint=None, prepaid_gpu_ms=owed)
