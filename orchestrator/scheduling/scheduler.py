"""The order of service: stride scheduling over sessions, then the unit that suits the worker.

Each session has a virtual time: device time charged over its plan's weight. The
lowest goes first (Waldspurger & Weihl, "Stride Scheduling", 1995). Two small parts of
each device's time go by other rules: a plan's floor, and what has waited too long. What is
defined here is explained in docs/scheduling.md; `farm.leases.grants` asks it at every grant.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from orchestrator.model import Session, Unit, Worker
from orchestrator.states import Lane, UnitKind
from orchestrator.wire import ENCODE_QUEUE, PARSE_QUEUE, render_queue

AGE: Final = ""
"""Creditor of a device that is nobody's plan: those that have waited too long."""
AGE_SHARE: Final = 0.05
"""Of each device's time, for sessions that have waited too long."""
QUANTUM_MS: Final = 1_000
"""A device looks for somebody to pay once it owes so much, not after every unit."""
MOST_OWED_MS: Final = 60_000
"""The most that a device can owe, or be owed: a long unit is not paid back for hours."""

_RANK = {UnitKind.ENCODE: 0, UnitKind.PARSE: 1, UnitKind.RENDER: 2}


def queues_of(kinds: Iterable[str], models: Iterable[str]) -> tuple[str, ...]:
    """Return the queues a worker of these kinds and models serves."""
    kinds = set(kinds)
    queues = [PARSE_QUEUE] if UnitKind.PARSE in kinds else []
    queues += [ENCODE_QUEUE] if UnitKind.ENCODE in kinds else []
    queues += [render_queue(model) for model in models] if UnitKind.RENDER in kinds else []
    return tuple(queues)


def in_order(units: Sequence[Unit], worker: Worker, *, hint: str | None, alone: bool) -> list[Unit]:
    """Order one session's ready units for this worker.

    Units that it failed last come only when it is `alone` in serving them; an encode
    comes before a parse, and a parse before a render; the hint decides among equals.
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


# --- virtual time -----------------------------------------------------------------------------


def join_at(session: Session, current_virtual_us: int) -> int:
    """Return the virtual time a session (re)joins with: at least the current one.

    Otherwise one that slept for a day would own the farm for as long.
    """
    return max(session.virtual_us, current_virtual_us)


def advance(virtual_us: int, gpu_ms: int, *, weight: int) -> int:
    """Return a session's virtual time after so much device time: at the grant what is expected.

    In microseconds, so that a short unit counts under a large weight too.
    """
    return virtual_us + gpu_ms * 1000 // weight


def corrected(virtual_us: int, expected_ms: int, settled_ms: int, *, weight: int) -> int:
    """Return a session's virtual time with the quote of a unit exchanged for its charge."""
    return virtual_us + (settled_ms - expected_ms) * 1000 // weight


# --- floors and ageing: what each device owes ---------------------------------------------------


def due(owed: Mapping[str, int]) -> list[str]:
    """Return whom a device has to pay now, by plan (`AGE`: who waited too long), the most first."""
    names = [name for name, gpu_ms in owed.items() if gpu_ms >= QUANTUM_MS]
    return sorted(names, key=lambda name: (-owed[name], name))


def owed_after(
    owed: Mapping[str, int], shares: Mapping[str, float], gpu_ms: int, *, plan: str, lane: Lane
) -> dict[str, int]:
    """Return what a device owes each share after it worked so long for a session of this plan.

    A share that was due and was not paid had nobody waiting: it begins anew, since time that
    nobody wanted is no credit.
    """
    after: dict[str, int] = {}
    waived = set(due(owed)) if lane is Lane.WEIGHT else set()
    for name, share in shares.items():
        paid = lane is Lane.AGE if name == AGE else name == plan
        before = 0 if name in waived and not paid else owed.get(name, 0)
        change = round(share * gpu_ms) - (gpu_ms if paid else 0)
        after[name] = max(-MOST_OWED_MS, min(MOST_OWED_MS, before + change))
    return after


# --- affinity ------------------------------------------------------------------------------------


def may_stay(worker: Worker, head: Session, now_ms: int, affinity_ms: int) -> bool:
    """Tell whether a worker may go on with the model it has loaded, though `head` is next.

    It may until that session has waited for it as long as `affinity_ms`: since its own last
    grant, or since the worker took up this model, whichever is later.
    """
    return now_ms - max(head.waits_from_ms, worker.warm_from_ms) < affinity_ms
