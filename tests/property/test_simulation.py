"""Histories of the real farm with everything going wrong (T1 of docs/reliability.md)."""

import json
import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from tests import depth
from tests.lanes import Shared
from tests.property.simulation import Simulation, Tally

EVENTS = int(os.environ.get("SIMULATION_EVENTS", "200"))  # noqa: TID251 - how long to look is the runner's choice
SLICE: Final = 25
"""Seeds of one test, about 20 s: lanes take them as they come."""
ENOUGH: Final = 3
"""Failed histories of one test after which nobody needs more of them."""
SEEN_FROM: Final = 100
"""So many histories of 200 events show every fault, verdict and end there is."""
FAILED: Final = Path(__file__).with_name("failed_seeds.txt")

HAPPEN = {
    "event": "submit ask_again claim beat finish stop stumble hand_back crash freeze zombie "
    "deliver intent top_up warn lower change_plan brake operate reconcile "
    "close_or_reopen change_allowance",
    "message": "arrives lost unanswered doubled late",
    "told": "the_truth too_much 0",
    "verdict": "go pause cancel gone",
    "intent": "pause resume finish cancel",
    "crashed": "at_work",
    "froze": "at_work",
    "refused": "a_stale_report a_zombie",
    "refused:": "budget_exceeded conflict plan_limit unavailable",
    "report": "repeated",
    "submission": "repeated",
    "entry": "grant top_up place extend settle release loss take alert refund",
    "lease": "completed lapsed released",
    "unit": "done stopped failed",
    "job": "succeeded cancelled failed refunded cut_off of_a_bound_key",
    "paused:": "budget user",
    "worker": "active draining quarantined gone",
    "month": "turned",
    "steps": "made_again",
    "went": "on_from_a_checkpoint",
    "checkpoint": "kept",
    "hid": "time_and_was_flagged",
    "quote": "held overrun run_away run_away_with_a_video",
}
"""Events without which a run has shown nothing: first word and the rest of each."""


def failed_seeds() -> list[int]:
    """Return every seed that a history broke with once."""
    lines = FAILED.read_text(encoding="utf-8").splitlines()
    return [int(line.split()[0]) for line in lines if line and not line.startswith("#")]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Cut the seeds into slices, whose names are the same whatever the commit."""
    if "seeds" in metafunc.fixturenames:
        fresh = depth.seeds(metafunc.config)
        slices = {
            f"slice{at // SLICE}": fresh[at : at + SLICE] for at in range(0, len(fresh), SLICE)
        }
        if failed := failed_seeds():
            slices["failed before"] = failed
        metafunc.parametrize("seeds", list(slices.values()), ids=list(slices))


def _history(template: Path, seed: int) -> tuple[Tally, str]:
    """Run a history; return what came out of it and how it broke, if it did."""
    simulation, broken = Simulation(seed, template), ""
    try:
        simulation.run(EVENTS)
    except Exception as error:  # noqa: BLE001 - whatever it is, the seed must be told
        broken = f"{_again(seed)}\n    {type(error).__name__}: {error}"
    return simulation.tally, broken


def _again(seed: int) -> str:
    return (
        f"SIMULATION_FIRST={seed} SIMULATION_SEEDS=1 SIMULATION_EVENTS={EVENTS} "
        ".venv/bin/pytest tests/property/test_simulation.py -k slice0"
    )


def _told(broken: list[str]) -> str:
    return (
        "Histories broke an invariant. Each alone again:\n"
        + "\n".join(broken)
        + f"\nAdd them to {FAILED.name}: every run tries those."
    )


@pytest.mark.slow(25)
@pytest.mark.core
@pytest.mark.timeout(60 + 20 * SLICE)
def test_no_history_breaks_an_invariant(
    seeds: Sequence[int], sqlite_template: Path, shared: Shared, pytestconfig: pytest.Config
) -> None:
    """Whatever crashes, lies, repeats or comes late: every job ends and the bill is exact."""
    happened: Counter[str] = Counter()
    broken: list[str] = []
    for seed in seeds:
        tally, fault = _history(sqlite_template, seed)
        assert fault or tally.overspent_gpu_ms == tally.charged_twice_gpu_ms == 0
        happened += tally.happened
        broken += [fault] if fault else []
        if len(broken) >= ENOUGH:
            break
    assert not broken, _told(broken)
    for name in sorted(happened):
        print(f"{happened[name]:10} {name}")  # `pytest -s` shows what a run is made of
    tried = depth.seeds(pytestconfig)
    if seeds[0] in tried and len(tried) >= SEEN_FROM and EVENTS >= 200:
        parts = shared.part("histories", f"{seeds[0]}", json.dumps(happened))
        if len(parts) == math.ceil(len(tried) / SLICE):
            _assert_seen(sum((Counter(json.loads(part)) for part in parts), Counter()), tried)


def _assert_seen(happened: Counter[str], tried: range) -> None:
    """All slices together have shown everything: the last of them to end says so."""
    wanted = {f"{a} {b}".replace("_", " ") for a, rest in HAPPEN.items() for b in rest.split()}
    missing = wanted - {name.replace("_", " ") for name in happened}
    assert not missing, f"{tried} show nothing of {sorted(missing)}"


@pytest.mark.slow
def test_a_seed_is_a_history(sqlite_template: Path) -> None:
    """The same seed is the same history, event by event and row by row."""
    rows = []
    for _ in range(2):
        simulation = Simulation(7, sqlite_template)
        simulation.run(60)
        rows.append(simulation.store.raw.execute("SELECT * FROM entries").fetchall())
    assert rows[0]
    assert rows[0] == rows[1]
