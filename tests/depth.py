"""The depth of a run of the tests: quickly, as usual (what CI runs), or as long as it takes."""

import os
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parent.parent


@dataclass(frozen=True)
class Depth:
    """The part of what can be tried without end that one run tries."""

    name: str
    histories: int
    """Fresh seeds of the simulation."""
    examples: int
    """Of hypothesis, for each property."""
    fuzz_seconds: int
    """For which schemathesis asks, with each kind of key."""


QUICK: Final = Depth("quick", histories=15, examples=15, fuzz_seconds=5)
USUAL: Final = Depth("usual", histories=300, examples=100, fuzz_seconds=60)
DEEP: Final = Depth("deep", histories=2_000, examples=1_000, fuzz_seconds=300)
TOGETHER: Final = {
    "tests/browser/": "browser",  # a farm, a worker and Chromium
    "tests/workers/test_checkpoint": "checkpoints",  # torch, diffusers and tiny pipelines
    "tests/workers/test_engine_": "engines",
    "tests/workers/test_tiny_clip_training": "training",
    "tests/workers/test_tiny_clip_model": "engines",
    "tests/workers/test_tiny_world_training": "training",
    "tests/workers/test_tiny_world": "engines",
}
"""Tests that share what is costly to make stay in one lane, by how their names begin."""
COSTLY: Final = frozenset({"engines", "checkpoints", "training"})
"""Lanes of tests whose parts are seconds of two cores each."""
DEPTHS: Final = {depth.name: depth for depth in (QUICK, USUAL, DEEP)}


def of(config: Any) -> Depth:
    """Return the depth that pytest was asked for."""
    return DEPTHS[config.getoption("depth")]


def seeds(config: Any) -> range:
    """Return the seeds of the simulation: those asked for, or fresh ones with every commit."""
    asked = os.environ  # noqa: TID251 - how long to look is the runner's choice
    first = int(asked.get("SIMULATION_FIRST", _fresh()))
    return range(first, first + int(asked.get("SIMULATION_SEEDS", of(config).histories)))


@cache
def _fresh() -> int:
    """Return a number that the commit decides: the same in every lane."""
    told = subprocess.run(
        ["git", "rev-parse", "--short=7", "HEAD"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return int(told.stdout, 16) if told.returncode == 0 else 1


def seconds(item: Any) -> float:
    """Return about how long a test takes, as its mark says: `slow(30)`; `slow` alone is 5."""
    mark = item.get_closest_marker("slow")
    return 0 if mark is None else float(next(iter(mark.args), 5))


def is_quick(item: Any) -> bool:
    """Tell whether a quick run has a test: one that costs little, or stands for its suite.

    What is tested on both databases is tested on SQLite alone.
    """
    if item.get_closest_marker("core") is not None:
        return True
    costly = seconds(item) or lane(item) in COSTLY or "postgres_url" in item.fixturenames
    return not costly and not _on_postgres(item)


def _on_postgres(item: Any) -> bool:
    """Tell whether a test of both databases runs on PostgreSQL, which costs twice as much."""
    call = getattr(item, "callspec", None)
    return call is not None and call.params.get("store_url") == "postgres"


def lane(item: Any) -> str | None:
    """Return the name of the lane that a test shares with others, if it does."""
    found = (name for start, name in TOGETHER.items() if item.nodeid.startswith(start))
    return next(found, None)
