"""`farm bench`: the measurements of tools/bench, run on this machine."""

import ast
import subprocess
import sys
from pathlib import Path

import rich_click as click

from orchestrator.cli import output
from orchestrator.cli.client import only_here
from orchestrator.cli.worker import ROOT
from orchestrator.errors import NotFound
from orchestrator.remedies import Say

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
