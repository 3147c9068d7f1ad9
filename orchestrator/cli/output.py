"""Output of the command line: tables for people, one JSON document for programs.

All of it goes through `echo`: names and prompts are other people's, and a terminal obeys what it
is shown.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import rich_click as click

from orchestrator import safe_text
from orchestrator.cli import remedies
from orchestrator.errors import FarmError
from orchestrator.model import Json
from orchestrator.remedies import Remedy

EXIT_CODES: Final[Mapping[str, int]] = {
    "bad_request": 2,
    "unknown_host": 2,
    "idempotency_mismatch": 2,
    "budget_exceeded": 3,
    "not_found": 4,
    "expired": 4,
    "gone": 4,
    "unauthorized": 5,
    "not_allowed": 5,
    "plan_limit": 3,
    "storage_full": 3,
    "policy_refused": 5,
    "unavailable": 6,
}
"""By a problem's code; anything else is 1."""

FAILED: Final = 1
OVER_BUDGET: Final = 3
UNREACHABLE: Final = 6

as_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


class Problem(FarmError):
    """A refusal the farm sent."""

    def __init__(self, code: str, message: str, *remedies: Remedy, **data: Any) -> None:
        super().__init__(message, *remedies, **data)
        self.kind = code


def code_of(error: FarmError) -> str:
    """Return the code of an error, ours or one that came over the wire."""
    return error.kind if isinstance(error, Problem) else error.code


def exit_code(error: FarmError) -> int:
    """Return the exit code of an error."""
    return EXIT_CODES.get(code_of(error), FAILED)


def is_unexpected(error: FarmError) -> bool:
    """Tell whether the farm itself is at fault, so that its log has more to say."""
    return isinstance(error, Problem) and exit_code(error) in (FAILED, UNREACHABLE)


def size(size_bytes: int) -> str:
    """Return bytes as people read them."""
    if 0 < size_bytes < 1 << 20:
        return f"{size_bytes / 1024:.1f} KB"
    return f"{round(size_bytes / (1 << 20), 2):g} MB"


def echo(text: str, *, nl: bool = True, err: bool = False) -> None:
    """Print a text of which a terminal obeys nothing."""
    click.echo(safe_text.shown(text), nl=nl, err=err)


def say(text: str) -> None:
    """Tell the person something; stdout stays for data."""
    echo(text, err=True)


def document(value: Any) -> None:
    """Print one JSON document; where the terminal has not all characters, all are escaped."""
    whole = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf")
    echo(json.dumps(value, indent=2, ensure_ascii=not whole))


def problem(error: FarmError, *, as_json: bool) -> None:
    """Say what went wrong and what to do next; with --json also as the document."""
    if as_json:
        facts = {"code": code_of(error), "message": error.message}
        helping = remedies.as_json(error.remedies)
        document({"error": {**_plain(error.data), **facts, **helping}})
    say(error.message)
    if is_unexpected(error) and (request_id := error.data.get("request_id")):
        say(f"Request {request_id} in the farm's log.")
    say_held(error.data)
    for other in error.data.get("alternatives") or ():
        if isinstance(other, Mapping):
            say(
                f"  would fit: {other['label']} ({seconds(other['gpu_seconds_p90'])} GPU-s at most)"
            )
    advise(error.remedies)


def advise(helping: Iterable[Remedy]) -> None:
    """Say what to do next, the best first."""
    for number, remedy in enumerate(helping):
        say(f"{'  or' if number else 'Next'}: {remedies.said(remedy)}")


def say_held(refused: Json) -> None:
    """Say what holds of the budget that a refusal met, and until when."""
    for holder in refused.get("held_by") or ():
        if isinstance(holder, Mapping) and "gpu_seconds" in holder:
            until = holder.get("lease_until")
            lease = f", leased until {until}" if until else ""
            held = f"{seconds(holder['gpu_seconds'])} GPU-s held"
            say(f"  {held} by {holder['job_id']} ({holder.get('state')}){lease}")


def seconds(value: float | None) -> str:
    """Return GPU-seconds for a person."""
    return "–" if value is None else f"{value:,.3f}".rstrip("0").rstrip(".")


def brief(text: str | None, most: int = 48) -> str:
    """Return a text that fits a column."""
    line = " ".join(safe_text.one_line(text or "").split())
    return line if len(line) <= most else line[: most - 1] + "…"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Print a table; columns that begin with `#` are numbers and stand right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    listed = [
        ["–" if cell is None else safe_text.one_line(str(cell)) for cell in row] for row in rows
    ]
    if not listed:
        say(empty)
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        right = name.startswith("#")
        shown.add_column(name.lstrip("#"), justify="right" if right else "left", overflow="fold")
    for row in listed:
        shown.add_row(*(Text(cell) for cell in row))
    console = Console(highlight=False)
    if not sys.stdout.isatty():
        console.width = 400  # a pipe has no edge to wrap at
    with console.capture() as capture:
        console.print(shown)
    echo("\n".join(line.rstrip() for line in capture.get().splitlines()))


def one_of(**asked: bool) -> None:
    """Refuse options of which a command takes one.

    Raises:
        UsageError: two of them are there.
    """
    given = [f"--{name}" for name, there in asked.items() if there]
    if len(given) > 1:
        raise click.UsageError(f"{' and '.join(given)} are two answers; ask for one.")


def verdict(fault: Json | None, well: str) -> int:
    """Say how an audit came out; return the exit code."""
    if fault is None:
        say(well)
        return 0
    where = f"Entry {fault['number']} ({fault['entry_id']})" if fault["entry_id"] else "A sum"
    say(f"{where} does not fit: {fault['why']}.")
    say("Next: `farm doctor` looks at every session; a backup has the ledger as it was.")
    return FAILED


def facts(pairs: Mapping[str, object]) -> None:
    """Print one thing's facts, a line each."""
    width = max(len(name) for name in pairs)
    for name, value in pairs.items():
        echo(f"{name:<{width}}  {'–' if value is None else safe_text.one_line(str(value))}")


def _plain(data: Json) -> Json:
    return {name: value for name, value in data.items() if _is_json(value)}


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
