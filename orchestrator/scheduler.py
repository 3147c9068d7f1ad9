"""Who is next: stride scheduling over sessions, then the unit that suits the worker.

Each session has a pass, its virtual time: GPU-ms granted so far over its weight. The
lowest pass goes first (Waldspurger & Weihl, "Stride Scheduling", 1995).
"""

from collections.abc import Iterable, Sequence

from orchestrator.model import Session, Unit, Worker
from orchestrator.states import UnitKind
from orchestrator.wire import ENCODE_QUEUE, PLAN_QUEUE, render_queue

_RANK = {UnitKind.ENCODE: 0, UnitKind.PLAN: 1, UnitKind.RENDER: 2}


def queues_of(kinds: Iterable[str], models: Iterable[str]) -> tuple[str, ...]:
    """Return the queues a worker of these kinds and models serves."""
    kinds = set(kinds)
    queues = [PLAN_QUEUE] if UnitKind.PLAN in kinds else []
    queues += [ENCODE_QUEUE] if UnitKind.ENCODE in kinds else []
    queues += [render_queue(model) for model in models] if UnitKind.RENDER in kinds else []
    return tuple(queues)


def in_order(units: Sequence[Unit], worker: Worker, *, hint: str | None, alone: bool) -> list[Unit]:
    """Order one session's ready units for this worker.

    Units that it failed last come only when it is `alone` in serving them; what finishes a
    job comes before what begins another; the hint decides among equals.
    """
    fit = [unit for unit in units if alone or unit.last_worker_id != worker.id]
    return sorted(
        fit,
        key=lambda u: (
            _RANK[u.kind],
            u.created_at_ms,
            u.job_id,
            (-u.stride, u.first_frame % u.stride),  # key frames first, then what lies between
            u.id != hint,
            u.first_frame,
        ),
    )


def join_pass(session: Session, current_pass: int) -> int:
    """Return the pass a session (re)joins with: at least the current virtual time.

    Otherwise one that slept for a day would own the farm for as long.
    """
    return max(session.pass_gpu_ms, current_pass)


def advance(session: Session, gpu_ms: int, *, weight: int = 1) -> int:
    """Return the session's pass after a grant of this much."""
    return session.pass_gpu_ms + gpu_ms // weight
