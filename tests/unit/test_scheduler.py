"""The scheduler's rules on their own: who may stay with its model, and for how long."""

import pytest

from orchestrator.model import Session, Worker
from orchestrator.scheduling import scheduler
from orchestrator.states import UnitKind

AFFINITY_MS = 10_000
NOW_MS = 100_000


@pytest.mark.parametrize(
    ("waits_ms", "warm_ms", "stays"),
    [
        (9_999, 60_000, True),
        (10_000, 60_000, False),
        (60_000, 9_999, True),  # it has just taken this model up: others waited for it before
        (60_000, 10_000, False),
        (9_999, 9_999, True),
        (60_000, 60_000, False),
    ],
)
def test_a_worker_stays_until_another_has_waited_for_it(
    waits_ms: int, warm_ms: int, stays: bool
) -> None:
    """The wait counts from that session's last grant or from the model's first, the later."""
    worker = Worker(
        id="w",
        name="w",
        host="h",
        device="cpu",
        device_class="cpu",
        memory_mb=1,
        kinds=tuple(UnitKind),
        models=("a", "b"),
        warm="render.a",
        warm_from_ms=NOW_MS - warm_ms,
        fingerprint="f",
        versions={},
        since_ms=0,
        seen_at_ms=0,
        created_at_ms=0,
    )
    head = Session(
        id="s",
        account_id="a",
        name="s",
        limit_gpu_ms=0,
        created_at_ms=0,
        waits_from_ms=NOW_MS - waits_ms,
    )
    assert scheduler.may_stay(worker, head, NOW_MS, AFFINITY_MS) is stays
