"""`farm test`: the project's own tests, on this machine."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import rich_click as click

from orchestrator.cli.client import only_here
from orchestrator.cli.worker import ROOT, become
from orchestrator.errors import Conflict
from orchestrator.remedies import Say

MOST_LANES = 12
"""Each takes about 1 GB, and the longest test alone would take as long as all with more."""


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--quick", "depth", flag_value="quick", help="A part of each suite: 3 minutes.")
@click.option("--deep", "depth", flag_value="deep", help="All, with more seeds and examples.")
@click.argument("args", nargs=-1, type=click.UNPROCESSED, metavar="[PYTEST'S ARGUMENTS]…")
def test(depth: str | None, args: tuple[str, ...]) -> None:
    """Run the project's tests, in several lanes at once; other arguments are pytest's.

    Everything, as CI does: `farm test`, 20 minutes on two cores. One file or one test runs in
    this process alone: `farm test tests/unit -k budget`; `-n 4` gives it lanes too, and `-n 0`
    takes them away. `farm test --durations=20` tells what takes long.
    """
    if find_spec("pytest") is None or not (ROOT / "tests").is_dir():
        raise Conflict(
            "The tests are not here.",
            Say("Take a checkout and run `./farm test`; it installs them."),
        )
    only_here("test")
    os.chdir(ROOT)
    deep = [f"--{depth}"] if depth else []
    become([sys.executable, "-m", "pytest", *_lanes(args), *deep, *args], {})


def _lanes(args: tuple[str, ...]) -> list[str]:
    """Return how many tests run at once: those of a run of all wait for much of their time."""
    # Tests that share something costly stay in one lane; the longest begin first.
    shared = ["--dist=loadgroup", "--no-loadscope-reorder"]
    if any(arg.startswith(("-n", "--numprocesses")) for arg in args):
        return shared
    if any(arg == "--pdb" or Path(arg.partition("::")[0]).exists() for arg in args):
        return []
    return [f"--numprocesses={min(2 + (os.cpu_count() or 1), MOST_LANES)}", *shared]
