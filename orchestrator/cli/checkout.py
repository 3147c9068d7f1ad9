"""`farm bench` and `farm test`: the project's own measurements and tests, out of its checkout."""

import ast
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import rich_click as click

from orchestrator.cli import output
from orchestrator.cli.client import only_here
from orchestrator.cli.worker import ROOT, become
from orchestrator.errors import Conflict, NotFound
from orchestrator.remedies import Say

MOST_LANES = 12
"""Each takes about 1 GB, and the longest test alone would take as long as all with more."""
BENCHES = ROOT / "tools" / "bench"


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("name", required=False)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.option("--list", "only_list", is_flag=True, help="List the benches.")
@output.as_json
def bench(name: str | None, args: tuple[str, ...], only_list: bool, as_json: bool) -> int:
    """Run the bench NAME with its own ARGS, or list the benches there are (--json: as JSON)."""
    only_here("bench")
    benches = {file.stem: file for file in sorted(BENCHES.glob("*.py")) if _runs(file)}
    if name is None or only_list:
        rows = [{"name": stem, "about": _about(file)} for stem, file in benches.items()]
        if as_json:
            output.document({"data": rows})
            return 0
        lines = ((row["name"], row["about"]) for row in rows)
        output.table(("BENCH", "WHAT IT MEASURES"), lines, empty="No benches: take a checkout.")
        return 0
    if name not in benches:
        known = ", ".join(benches) or "none; they come with a checkout"
        raise NotFound(f"There is no bench {name[:60]!r}.", Say(f"There are: {known}."))
    output.say(f"Measuring {name}: {_about(benches[name])}")
    # Unbuffered: what is measured shows at once in a pipe, too.
    argv = [sys.executable, "-u", "-m", f"tools.bench.{name}", *args]
    done = subprocess.run(argv, cwd=ROOT, check=False)
    return 1 if done.returncode < 0 else done.returncode


def _runs(file: Path) -> bool:
    return '__name__ == "__main__"' in file.read_text(encoding="utf-8")


def _about(file: Path) -> str:
    told = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return told.partition("\n")[0]


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--quick", "depth", flag_value="quick", help="A part of each suite: 5 minutes.")
@click.option("--deep", "depth", flag_value="deep", help="All, with more seeds and examples.")
@click.argument("args", nargs=-1, type=click.UNPROCESSED, metavar="[PYTEST'S ARGUMENTS]…")
def test(depth: str | None, args: tuple[str, ...]) -> None:
    """Run the project's tests, in several lanes at once; other arguments are pytest's.

    Everything, as CI does: `farm test`, 22 minutes on two cores. One file or one test runs in
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
