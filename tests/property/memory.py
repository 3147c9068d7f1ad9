"""A simulation's own knowledge, to hold against what the farm says."""

from collections import Counter
from dataclasses import dataclass, field

from orchestrator.states import Cause, Outcome
from orchestrator.wire import CHECKPOINT, Order, RenderWork

Place = tuple[str, int]
"""A job and the first frame of one of its units."""


@dataclass(frozen=True)
class Point:
    """A checkpoint that was accepted."""

    key: str
    step: int
    fingerprint: str
    paid_ms: int


@dataclass
class Memory:
    """Checkpoints of units, what was paid for steps that are lost, and what was answered before."""

    points: dict[Place, Point] = field(default_factory=dict)
    owed: dict[Place, int] = field(default_factory=dict)
    settled: dict[str, int] = field(default_factory=dict)
    """By lease, as its first report was answered."""
    jobs: dict[str, str] = field(default_factory=dict)
    """By idempotency key."""
    charged_twice_gpu_ms: int = 0
    happened: Counter[str] = field(default_factory=Counter)

    def submitted(self, key: str, job_id: str) -> None:
        """A submission was answered: the same one always with the same job."""
        if key in self.jobs:
            self.happened["submission repeated"] += 1
        assert self.jobs.setdefault(key, job_id) == job_id, "one request made two jobs"

    def answered(self, lease_id: str, settled_ms: int) -> bool:
        """A report was answered; tell whether it is the first of its lease."""
        first = lease_id not in self.settled
        before = self.settled.setdefault(lease_id, settled_ms)
        self.charged_twice_gpu_ms += abs(settled_ms - before)
        if not first:
            self.happened["report repeated"] += 1
        return first

    def claimed(self, order: Order, fingerprint: str) -> None:
        """An order was handed out: it goes on where its unit stopped, or must start again."""
        if not isinstance(order.work, RenderWork):
            return
        place, ref = _place(order), order.work.checkpoint
        point = self.points.get(place)
        if ref is None:
            assert point is None or point.fingerprint != fingerprint, "a checkpoint was lost"
            self._lose(place)
            return
        assert point is not None, "a checkpoint came out of nowhere"
        assert (ref.key, ref.step) == (point.key, point.step), "another checkpoint came"
        assert point.fingerprint == fingerprint, "a checkpoint came to the wrong device"
        self.happened["went on from a checkpoint"] += 1

    def completed(
        self,
        order: Order,
        fingerprint: str,
        outcome: Outcome,
        cause: Cause | None,
        *,
        gpu_ms: int,
        frames: int,
        step: int,
        step_ms: int,
        settled_ms: int,
    ) -> None:
        """A report was accepted; nothing that was paid before may be charged again."""
        if not self.answered(order.lease_id, settled_ms):
            return
        if outcome is Outcome.FAILED and cause is not Cause.REQUEST:
            assert settled_ms == 0, "a failure that is not the request's was charged"
        if not isinstance(order.work, RenderWork):
            return
        place = _place(order)
        owed = self.owed.pop(place, 0)
        if owed:
            self.happened["steps made again"] += 1
        self.charged_twice_gpu_ms += max(0, settled_ms - max(0, gpu_ms - owed))
        left = max(0, owed - gpu_ms) if _counts(outcome, cause, frames, step) else owed
        if outcome is Outcome.FAILED:
            self.owed[place] = left
            self._lose(place)
            return
        before = self.points.get(place)
        if frames:
            self.points.pop(place, None)
            before = None
        if outcome is Outcome.DONE or frames == len(order.work.frames):
            return
        rest = (order.job_id, order.work.frames[frames].index)
        self.owed[rest] = left
        if step:
            key = f"units/{order.unit_id}/{order.fence}/{CHECKPOINT}"
            paid = (before.paid_ms if before else 0) + min(step_ms, settled_ms)
            self.points[rest] = Point(key, step, fingerprint, paid)
            self.happened["checkpoint kept"] += 1

    def _lose(self, place: Place) -> None:
        point = self.points.pop(place, None)
        if point:
            self.owed[place] = self.owed.get(place, 0) + point.paid_ms


def _place(order: Order) -> Place:
    assert isinstance(order.work, RenderWork)
    return order.job_id, order.work.frames[0].index


def _counts(outcome: Outcome, cause: Cause | None, frames: int, step: int) -> bool:
    if outcome is Outcome.FAILED:
        return cause is Cause.REQUEST
    return outcome is Outcome.DONE or bool(frames or step)
