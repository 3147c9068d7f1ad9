"""Shares of device time against weights and floors: the farm's scheduler in simulated time.

    python -m tools.bench.fairness
    python -m tools.bench.fairness --scenario floor --minutes 30

The rules are `orchestrator.scheduling.scheduler`'s own, as a grant and a settlement use them:
virtual times, corrections, what each device owes, joining. Only the order in which the database
gives the sessions is a heap here. A unit takes half a second to four, each session's its own; each
session's quote is wrong by its own factor (--off-quote) and each unit by chance on top of it.

Three scenarios of 1,000 sessions on 256 devices:

    weights   700 free, 200 creator, 70 studio, 30 unlimited; one in ten comes and goes
    floor     500 free beside 500 studio: by weight the free ones would have 5.9 %
    debt      as weights, and one session whose virtual time is hours ahead of all others

The bounds that are checked, for a session with units of u seconds on D devices:

    by weight   (W u/w + sum of all units) / ((1 - floors - ageing) D) + slack
    floor       n (u + mean unit of the plan) / (floor D) + (longest unit + 1) / floor
    ageing      age + n_late x longest unit / (0.05 D) + (longest unit + 1) / 0.05

W and w are weights, n the plan's sessions. No wait may be beyond the least of those that hold
for its session. docs/scheduling.md says why.
"""

import argparse
import random
import sys
from collections import defaultdict

from orchestrator.money.plans import shipped
from orchestrator.scheduling.scheduler import AGE, AGE_SHARE, QUANTUM_MS
from tools.bench.fairsim import Guest, Sim, guest
from tools.bench.progress import step

PLANS = shipped().plans
SCENARIOS = {
    "weights": {"free": 700, "creator": 200, "studio": 70, "unlimited": 30},
    "floor": {"free": 500, "studio": 500},
    "debt": {"free": 700, "creator": 200, "studio": 70, "unlimited": 30},
}
UNIT_MS = (500, 4_000)
VISITORS = 10
"""Every so many sessions is one that comes and goes."""
AGE_MS = 300_000
DEBT_US = 10**14
NEAR = 0.02


def main() -> None:
    """Run the scenarios; leave with 1 when a share or a wait is not as it should be."""
    options = _options()
    wrong: list[str] = []
    for name in [options.scenario] if options.scenario else SCENARIOS:
        step(f"{name}: {options.minutes} minutes are simulated")
        sim = scenario(name, options.sessions, options.devices, options.off_quote, options.seed)
        sim.run(options.minutes * 60_000)
        print(f"\n{name}: {options.sessions} sessions, {options.devices} devices, ", end="")
        granted = ", ".join(f"{count} by {lane}" for lane, count in sim.grants.most_common())
        print(f"{options.minutes} simulated minutes, units granted: {granted}")
        wrong += [f"{name}: {each}" for each in report(sim)]
    if wrong:
        sys.exit("\n".join(wrong))


def scenario(
    name: str, count: int, devices: int, off_quote: float, seed: int, *, off: str = ""
) -> Sim:
    """Return a farm of so many sessions; `off`: switch floor, age or correction off."""
    chance = random.Random(seed)
    mix = SCENARIOS[name]
    guests: list[Guest] = []
    for plan, part in mix.items():
        for n in range(round(part * count / sum(mix.values()))):
            visits = name != "floor" and n % VISITORS == VISITORS - 1
            factor = chance.uniform(1 - off_quote, 1 + off_quote)
            unit_ms = chance.randint(*UNIT_MS)
            guests.append(guest(plan, PLANS[plan].weight, unit_ms, factor=factor, visits=visits))
    chance.shuffle(guests)
    if name == "debt":
        late = next(each for each in guests if each.plan == "studio" and not each.visits)
        late.indebted(DEBT_US)
    shares = {plan.name: plan.floor for plan in PLANS.values() if plan.floor and off != "floor"}
    if off != "age":
        shares[AGE] = AGE_SHARE
    return Sim(guests, devices, shares, AGE_MS, chance, corrects=off != "correction")


def report(sim: Sim) -> list[str]:
    """Print shares and waits; return what is not within its bound."""
    stay = [each for each in sim.guests if not each.visits and not each.is_late]
    total = sum(each.used_ms for each in stay)
    fair = entitled(stay)
    plans = defaultdict(list)
    for each in stay:
        plans[each.plan].append(each)
    wrong = []
    print(f"{'plan':<10} {'sessions':>8} {'weight':>6} {'due %':>7} {'had %':>7} {'off %':>6}")
    for plan, own in plans.items():
        due = sum(fair[id(each)] for each in own)
        had = sum(each.used_ms for each in own) / total
        print(
            f"{plan:<10} {len(own):>8} {own[0].weight:>6} {100 * due:>7.2f} {100 * had:>7.2f} "
            f"{100 * (had / due - 1):>+6.2f}"
        )
        if abs(had / due - 1) > NEAR:
            wrong.append(f"plan {plan} had {100 * had:.2f} % of {100 * due:.2f} %")
    off = sorted(abs(each.used_ms / total / fair[id(each)] - 1) for each in stay)
    p99 = off[int(0.99 * len(off))]
    print(
        f"single sessions off their share: p99 {100 * p99:.2f} %, the worst {100 * off[-1]:.2f} %"
    )
    if off[-1] > NEAR:
        wrong.append(f"a session is off its share by {100 * off[-1]:.2f} %")
    return wrong + _waits(sim)


def entitled(stay: list[Guest]) -> dict[int, float]:
    """Return each session's share: by weight, but a plan has at least its floor."""
    floors = {plan: PLANS[plan].floor for plan in {each.plan for each in stay}}
    weights: defaultdict[str, int] = defaultdict(int)
    for each in stay:
        weights[each.plan] += each.weight
    short: set[str] = set()
    while True:
        left = 1 - sum(floors[plan] for plan in short)
        rest = sum(weight for plan, weight in weights.items() if plan not in short)
        more = {p for p in weights if p not in short and left * weights[p] / rest < floors[p]}
        if not more:
            break
        short |= more
    return {
        id(each): floors[each.plan] / weights[each.plan] * each.weight
        if each.plan in short
        else left * each.weight / rest
        for each in stay
    }


def _waits(sim: Sim) -> list[str]:
    """Print each plan's longest wait beside its bound; return those beyond."""
    wrong = []
    bounds = {id(each): bound_ms(sim, each) for each in sim.guests}
    for plan in dict.fromkeys(each.plan for each in sim.guests):
        own = [each for each in sim.guests if each.plan == plan]
        late = max(own, key=lambda each: each.longest_wait_ms / bounds[id(each)])
        wait, bound = late.longest_wait_ms / 1000, bounds[id(late)] / 1000
        print(f"{plan}: the longest wait against its bound is {wait:.1f} s of {bound:.1f} s")
        if wait > bound:
            wrong.append(f"a session of plan {plan} waited {wait:.1f} s; the bound is {bound:.1f}")
    return wrong


def bound_ms(sim: Sim, one: Guest) -> float:
    """Return how long this session may wait at most."""
    longest = max(each.longest_ms for each in sim.guests)
    late = sum(each.is_late for each in sim.guests)

    def after(work_ms: float, share: float) -> float:
        return work_ms / (share * sim.devices) + (longest + QUANTUM_MS) / share

    aged = AGE_MS + after(late * longest, AGE_SHARE)
    if one.is_late:
        return aged
    weight = sum(each.weight for each in sim.guests)
    every = sum(each.longest_ms for each in sim.guests)
    floors = sum(PLANS[plan].floor for plan in {each.plan for each in sim.guests})
    turn = after(weight * one.longest_ms / one.weight + every, 1 - floors - AGE_SHARE)
    floor = PLANS[one.plan].floor
    if not floor:
        return turn
    own = [each.longest_ms for each in sim.guests if each.plan == one.plan]
    return min(turn, after(len(own) * one.longest_ms + sum(own), floor))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--scenario", choices=SCENARIOS)
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--devices", type=int, default=256)
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--off-quote", type=float, default=0.33)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
