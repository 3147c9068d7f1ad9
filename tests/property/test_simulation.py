"""Histories of the real farm with everything going wrong (T1 of docs/reliability.md)."""

import os
import random
from pathlib import Path

import pytest

from tests.property.simulation import Simulation

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "12"))  # noqa: TID251 - how long to look is the runner's choice
EVENTS = int(os.environ.get("SIMULATION_EVENTS", "200"))  # noqa: TID251 - likewise
FIRST = int(os.environ.get("SIMULATION_FIRST", str(random.randrange(10**9))))  # noqa: TID251


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
def test_no_history_breaks_an_invariant(seed: int, sqlite_template: Path, tmp_path: Path) -> None:
    """Whatever crashes, lies, repeats or comes late: every job ends and the bill is exact.

    The seed is in the test's name: `SIMULATION_FIRST=<seed> SIMULATION_SEEDS=1` repeats it.
    """
    database = tmp_path / "farm.sqlite"
    database.write_bytes(sqlite_template.read_bytes())
    Simulation(seed, database).run(EVENTS)
