"""The simulation of fair shares, small."""

import random

from orchestrator.model import Session
from tools.bench.fairness import Guest, simulate


def guest(weight: int, unit_ms: int, *, visits: bool = False) -> Guest:
    """Return a session of this weight and unit."""
    session = Session(id="ses", account_id="acc", name="n", limit_gpu_ms=0, created_at_ms=0)
    return Guest(plan="p", weight=weight, unit_ms=unit_ms, session=session, visits=visits, left=0)


def test_shares_follow_weights_whatever_the_units() -> None:
    """Sessions of weights 1, 2 and 4 share two devices accordingly; a visitor is served too."""
    guests = [guest(1, 900), guest(2, 300), guest(4, 2000), guest(1, 500, visits=True)]
    simulate(guests, 2, 3_600_000, 0.0, random.Random(1))
    stay, visitor = guests[:3], guests[3]
    total = sum(each.granted_ms for each in stay)
    for each in stay:
        assert abs(each.granted_ms / total - each.weight / 7) < 0.02 * each.weight / 7
    assert visitor.granted_ms >= 3 * 500
    assert all(each.longest_wait_ms <= each.wait_bound_ms for each in guests)
