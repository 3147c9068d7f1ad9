"""Shares of GPU time against weights: the farm's scheduler over an hour of simulated time.

    python -m tools.bench.fairness
    python -m tools.bench.fairness --sessions 200 --devices 64 --minutes 30

The arithmetic is `orchestrator.scheduler`'s, over sessions in memory in the order in which the
database gives them: lowest pass first. Nine of ten sessions have work without end, in units of
half a second to eight, each session its own size; a unit takes up to --off-quote more or less
than was quoted for it, and it is the quote that moves the pass. The rest come with one job of
three units, leave when it is done and come back later.
"""

import argparse
import heapq
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

from orchestrator import scheduler
from orchestrator.model import Session
from orchestrator.tiers import shipped

WEIGHTS = {tier.name: tier.weight for tier in shipped().tiers.values()}
VISITORS = 10
"""Every so many sessions is one that comes and goes."""
VISIT_UNITS = 3
AWAY_MS = 300_000
UNIT_MS = (500, 8_000)


@dataclass(slots=True)
class Guest:
    """One session, what it wants, and what it got."""

    plan: str
    weight: int
    unit_ms: int
    session: Session
    visits: bool
    left: int = 0
    """Units of a visit that were not granted yet."""
    running: int = 0
    granted_ms: int = 0
    waits_from_ms: int = 0
    longest_wait_ms: int = 0
    wait_bound_ms: float = 0.0


def main() -> None:
    """Print the shares by plan, the worst single session's, and the longest waits."""
    options = _options()
    chance = random.Random(options.seed)
    guests = _guests(options.sessions, chance)
    hour_ms = options.minutes * 60_000
    simulate(guests, options.devices, hour_ms, options.off_quote, chance)
    _print(guests, options.devices, hour_ms)


def simulate(
    guests: list[Guest], devices: int, until_ms: int, off_quote: float, chance: random.Random
) -> None:
    """Serve the guests with so many devices for so long."""
    queue = [(guest.session.pass_gpu_ms, n) for n, guest in enumerate(guests) if not guest.visits]
    heapq.heapify(queue)
    clock: list[tuple[int, int, int]] = [(0, -1, 0)] * devices  # (when, guest or -1, is a visit)
    clock += [(chance.randrange(AWAY_MS), n, 1) for n, g in enumerate(guests) if g.visits]
    heapq.heapify(clock)
    weight = sum(guest.weight for guest in guests)
    round_ms = sum(guest.unit_ms for guest in guests) / devices
    for guest in guests:
        turn_ms = guest.unit_ms / guest.weight * weight / devices
        guest.wait_bound_ms = turn_ms + round_ms + UNIT_MS[1] * (1 + off_quote)
    while clock and clock[0][0] < until_ms:
        now, n, is_visit = heapq.heappop(clock)
        if is_visit:
            _arrive(guests, n, queue, now)
            continue
        if n >= 0:
            guest = guests[n]
            guest.running -= 1
            if guest.visits and not guest.left and not guest.running:
                heapq.heappush(clock, (now + chance.randrange(2 * AWAY_MS), n, 1))
        chosen = heapq.heappop(queue)[1]
        took_ms = round(guests[chosen].unit_ms * chance.uniform(1 - off_quote, 1 + off_quote))
        _grant(guests, chosen, queue, now, took_ms)
        heapq.heappush(clock, (now + took_ms, chosen, 0))


def _arrive(guests: list[Guest], n: int, queue: list[tuple[int, int]], now: int) -> None:
    guest = guests[n]
    joined = scheduler.join_pass(guest.session, queue[0][0])
    guest.session = replace(guest.session, pass_gpu_ms=joined)
    guest.left, guest.waits_from_ms = VISIT_UNITS, now
    heapq.heappush(queue, (joined, n))


def _grant(
    guests: list[Guest], n: int, queue: list[tuple[int, int]], now: int, took_ms: int
) -> None:
    guest = guests[n]
    guest.longest_wait_ms = max(guest.longest_wait_ms, now - guest.waits_from_ms)
    guest.waits_from_ms = now
    passed = scheduler.advance(guest.session, guest.unit_ms, weight=guest.weight)
    guest.session = replace(guest.session, pass_gpu_ms=passed)
    guest.granted_ms += took_ms
    guest.running += 1
    guest.left -= guest.visits
    if not guest.visits or guest.left:
        heapq.heappush(queue, (passed, n))


def _guests(count: int, chance: random.Random) -> list[Guest]:
    plans = list(WEIGHTS)
    return [
        Guest(
            plan=plans[n % len(plans)],
            weight=WEIGHTS[plans[n % len(plans)]],
            unit_ms=chance.randint(*UNIT_MS),
            session=Session(
                id=f"ses_{n}", account_id="acc", name=str(n), limit_gpu_ms=0, created_at_ms=0
            ),
            visits=n % VISITORS == VISITORS - 1,
        )
        for n in range(count)
    ]


def _print(guests: list[Guest], devices: int, hour_ms: int) -> None:
    stay = [guest for guest in guests if not guest.visits]
    total, weights = sum(g.granted_ms for g in stay), sum(g.weight for g in stay)
    print(f"{len(guests)} sessions, {devices} devices, {hour_ms // 60_000} minutes")
    print(f"{'plan':<10} {'weight':>6} {'fair %':>8} {'share %':>8} {'off %':>6} {'wait s':>7}")
    for plan, own in _by_plan(stay):
        fair = sum(g.weight for g in own) / weights
        share = sum(g.granted_ms for g in own) / total
        wait = max(g.longest_wait_ms for g in own) / 1000
        print(
            f"{plan:<10} {WEIGHTS[plan]:>6} {100 * fair:>8.2f} {100 * share:>8.2f} "
            f"{100 * (share / fair - 1):>+6.2f} {wait:>7.1f}"
        )
    off = [g.granted_ms / total / (g.weight / weights) - 1 for g in stay]
    near = sum(abs(each) <= 0.02 for each in off) / len(off)
    print(f"single sessions: {100 * near:.1f} % within 2 %, worst {100 * max(map(abs, off)):.2f} %")
    late = max(guests, key=lambda g: g.longest_wait_ms / g.wait_bound_ms)
    print(
        f"longest wait against its bound (its turn, a round of all, a unit): "
        f"{late.longest_wait_ms / 1000:.1f} s of {late.wait_bound_ms / 1000:.1f} s"
    )


def _by_plan(guests: list[Guest]) -> Iterator[tuple[str, list[Guest]]]:
    groups: defaultdict[str, list[Guest]] = defaultdict(list)
    for guest in guests:
        groups[guest.plan].append(guest)
    return ((plan, groups[plan]) for plan in WEIGHTS if groups[plan])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--devices", type=int, default=256)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--off-quote", type=float, default=0.33)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
