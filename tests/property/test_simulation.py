"""Histories of the real farm with everything going wrong (T1 of docs/reliability.md)."""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from tests.property.simulation import Simulation, Tally

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "2000"))  # noqa: TID251 - how long to look is the runner's choice
EVENTS = int(os.environ.get("SIMULATION_EVENTS", "200"))  # noqa: TID251 - likewise
FIRST = int(os.environ.get("SIMULATION_FIRST", "1"))  # noqa: TID251
PROCESSES = 2
SLICE = 20
ENOUGH = 5
"""Failed histories after which nobody needs more of them."""
SEEN_FROM = 100
"""So many histories of 200 events show every fault, verdict and end there is."""

HAPPEN = {
    "event": "submit ask_again claim beat finish stop stumble hand_back crash freeze zombie "
    "deliver wish top_up warn lower change_plan brake operate reconcile",
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
    "job": "succeeded cancelled failed refunded cut_off",
    "paused:": "budget user",
    "worker": "active draining quarantined gone",
    "month": "turned",
    "steps": "made_again",
    "went": "on_from_a_checkpoint",
    "checkpoint": "kept",
    "hid": "time_and_was_flagged",
}
"""What has to come about for a run to have shown anything: first word and the rest of each."""


def _slice(template: Path, seeds: range) -> tuple[Tally, list[str]]:
    """Run some histories; return what came out of all of them, and how each broken one broke."""
    total, broken = Tally(), []
    for seed in seeds:
        simulation = Simulation(seed, template)
        try:
            simulation.run(EVENTS)
        except Exception as error:  # noqa: BLE001 - whatever it is, the seed must be told
            broken.append(f"{_again(seed)}\n    {type(error).__name__}: {error}")
        total.overspent_gpu_ms += simulation.tally.overspent_gpu_ms
        total.charged_twice_gpu_ms += simulation.tally.charged_twice_gpu_ms
        total.happened += simulation.tally.happened
    return total, broken


def _again(seed: int) -> str:
    return (
        f"SIMULATION_FIRST={seed} SIMULATION_SEEDS=1 SIMULATION_EVENTS={EVENTS} "
        ".venv/bin/pytest tests/property/test_simulation.py"
    )


def _slices(template: Path) -> Iterator[tuple[Tally, list[str]]]:
    """Run all histories, a few at a time, in two processes; one alone runs here."""
    seeds = range(FIRST, FIRST + SEEDS)
    parts = [seeds[at : at + SLICE] for at in range(0, SEEDS, SLICE)]
    if len(parts) == 1:
        yield _slice(template, parts[0])
        return
    with ProcessPoolExecutor(PROCESSES, get_context("spawn")) as pool:
        yield from pool.map(_slice, [template] * len(parts), parts)
        pool.shutdown(cancel_futures=True)


@pytest.mark.slow
@pytest.mark.timeout(60 + 3 * SEEDS)
def test_no_history_breaks_an_invariant(sqlite_template: Path) -> None:
    """Whatever crashes, lies, repeats or comes late: every job ends and the bill is exact."""
    overspent = charged_twice = 0
    happened: Counter[str] = Counter()
    broken: list[str] = []
    for tally, faults in _slices(sqlite_template):
        overspent += tally.overspent_gpu_ms
        charged_twice += tally.charged_twice_gpu_ms
        happened += tally.happened
        broken += faults
        if len(broken) >= ENOUGH:
            break
    assert not broken, "Histories broke an invariant. Each alone again:\n" + "\n".join(broken)
    assert overspent == 0
    assert charged_twice == 0
    for name in sorted(happened):
        print(f"{happened[name]:10} {name}")  # `pytest -s` shows what a run is made of
    if SEEDS >= SEEN_FROM and EVENTS >= 200:
        wanted = {f"{a} {b}".replace("_", " ") for a, rest in HAPPEN.items() for b in rest.split()}
        missing = wanted - {name.replace("_", " ") for name in happened}
        assert not missing, f"{SEEDS} histories show nothing of {sorted(missing)}"


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
