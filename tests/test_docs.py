"""The documents against the code: what they draw, count, list and link to is there."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from pydantic import SecretStr

from orchestrator import wire
from orchestrator.farm.accounts.keys import BOUNDED
from orchestrator.model import Job, Session
from orchestrator.money import ledger
from orchestrator.money.ledger import Movement
from orchestrator.prompting import storyboard
from orchestrator.settings import Settings
from orchestrator.states import (
    BOUND,
    JOB,
    SCOPES,
    TERMINAL,
    Cause,
    JobEvent,
    JobState,
    Outcome,
    Scope,
    Verdict,
)
from tests.property.test_canaries import CANARIES
from tools import rooms

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "docker").glob("*.md")])
ROOMS = ("orchestrator", "workers", "web", "tools", "tests", "models")


GROUPS = {"worker", "jobs", "session", "models", "keys", "people", "webhooks"}
"""Words after `farm` that a second word follows."""


def commands(text: str) -> set[tuple[tuple[str, ...], frozenset[str]]]:
    """Return each `farm …` that stands in backquotes or in a block of code: words and options."""
    spans = re.findall(r"`(?:\./)?farm ([^`\n]+)`", text)
    spans += re.findall(r"^(?:\$ |.* exec web )?(?:\./)?farm ([a-z][^`\n#]*)$", _blocks(text), re.M)
    found = set()
    for span in spans:
        first, *rest = span.split()
        if not re.fullmatch("[a-z]+", first):
            continue
        words = (first,)
        if first in GROUPS and rest and re.fullmatch("[a-z]+", rest[0]):
            words = (first, rest[0])
        found.add((words, frozenset(re.findall(r"(?<!\S)--[a-z-]+", span))))
    return found


def _blocks(text: str) -> str:
    return "\n".join(re.findall(r"^```(?:sh|console|bash)?\n(.*?)^```", text, re.M | re.S))


@cache
def help_of(words: tuple[str, ...]) -> str:
    """Return what `farm <words> --help` prints."""
    program = "import sys; from orchestrator.cli import main; sys.exit(main())"
    answer = subprocess.run(
        [sys.executable, "-c", program, *words, "--help"],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "200", "NO_COLOR": "1", "HOME": "/nonexistent"},
    )  # fmt: skip
    assert answer.returncode == 0, f"farm {' '.join(words)}: {answer.stderr[-500:]}"
    return answer.stdout


def rows(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table under a heading, without its head."""
    text = (DOCS / page).read_text().split(f"\n## {heading}\n", 1)[1]
    table = re.search(r"(?:^\|.*\n)+", text, re.M)
    assert table, heading
    lines = table.group().splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    """Every relative link of a page leads to a file."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not re.match(r"[a-z]+:|#", target):
            assert (page.parent / target.split("#")[0]).exists(), target


def test_every_page_is_in_the_index() -> None:
    """docs/README.md links every page beside it."""
    linked = set(re.findall(r"\]\(([^)\s]+)\)", (DOCS / "README.md").read_text()))
    pages = {str(p.relative_to(DOCS)) for p in DOCS.rglob("*.md")} - {"README.md"}
    assert pages <= linked, sorted(pages - linked)


def test_pages_that_the_code_names_exist() -> None:
    """A docs/….md in a comment, docstring or message is a page."""
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            for name in re.findall(r"\bdocs/[\w/.-]+?\.md\b", path.read_text()):
                assert (ROOT / name).exists(), f"{path.relative_to(ROOT)} names {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_pages_name_exist(page: Path) -> None:
    """A path in backquotes that begins with one of our folders is there."""
    for name in re.findall(r"`((?:orchestrator|workers|web|tests|docs|docker|tools)/[^`\s*…:]*)`",
                           page.read_text()):  # fmt: skip
        assert (ROOT / name).exists(), name


@pytest.mark.slow(30)
def test_commands_that_are_named_exist() -> None:
    """Every `farm …` in the pages and in what the code tells people is a command of the CLI."""
    sources = [*PAGES, *ROOT.glob("web/templates/**/*.html")]
    for room in ("orchestrator", "workers", "web"):
        sources += (ROOT / room).rglob("*.py")
    named: dict[tuple[str, ...], set[str]] = {}
    for path in sources:
        for words, options in commands(path.read_text()):
            named.setdefault(words, set()).update(options)
    assert len(named) > 10, "the pages name commands"
    for words, options in sorted(named.items()):
        known = set(re.findall(r"--[a-z-]+", help_of(words)))
        assert options <= known, f"farm {' '.join(words)} has no {sorted(options - known)}"


def test_the_diagram_is_the_life_of_a_job() -> None:
    """docs/architecture.md draws every step of `states.JOB`, and no other."""
    drawing = re.search(r"```mermaid\n(.*?)```", (DOCS / "architecture.md").read_text(), re.S)
    assert drawing
    steps = re.findall(r"^ +(\w+) --> (\w+): (\w+)$", drawing.group(1), re.M)
    drawn = {(JobState(a), JobEvent(event)): JobState(b) for a, b, event in steps}
    assert len(steps) == len(drawn)
    assert drawn == JOB
    ends = set(re.findall(r"^ +(\w+) --> \[\*\]$", drawing.group(1), re.M))
    assert ends == set(TERMINAL)


def test_the_table_of_packages_is_the_code() -> None:
    """docs/architecture.md lists every package and module; `python -m tools.rooms` renews it."""
    drawn = rooms.TABLE.search((DOCS / "architecture.md").read_text())
    assert drawn
    assert drawn.group() == rooms.table()


def test_the_table_of_settings_is_the_settings() -> None:
    """docs/operations.md lists every setting, in order, with its default."""
    listed = [
        (cells[0].strip("`"), cells[1].strip("`")) for cells in rows("operations.md", "Settings")
    ]
    expected = []
    for name, field in Settings.model_fields.items():
        default = field.default
        if isinstance(default, SecretStr):
            default = default.get_secret_value()
        shown = "the XDG data folder" if field.default_factory else str(default)
        expected.append((f"FARM_{name.upper()}", "" if default is None else shown))
    assert listed == expected


def test_the_worked_example_is_computed() -> None:
    """Every line of the example in docs/ledger.md is what `money.ledger` makes of it."""
    session = Session(id="s", account_id="a", name="s", limit_gpu_ms=0, created_at_ms=0)
    job = _job()
    loss = 0
    for kind, amount, *balances, _why in rows("ledger.md", "A worked example"):
        moved = _move(kind, int(amount), session, job)
        assert moved.entry
        assert moved.entry.kind == kind
        assert moved.entry.gpu_ms == int(amount)
        session, job = moved.session, moved.job or job
        loss += moved.entry.gpu_ms if moved.entry.credit == "farm_loss" else 0
        shown = [session.available_gpu_ms, session.held_gpu_ms, session.spent_gpu_ms, loss]
        assert shown == [int(cell) for cell in balances], kind
    assert job.held_gpu_ms == 0


def test_the_storyboard_example_loads() -> None:
    """The example in docs/prompts.md is a storyboard of two scenes, as it says."""
    example = re.search(r"```yaml\n(.*?)```", (DOCS / "prompts.md").read_text(), re.S)
    assert example
    dog, cat = storyboard.load(example.group(1).encode(), "example.yaml")
    assert (dog.prompt, dog.seconds, dog.negative_prompt) == (
        "a dog runs on the beach",
        2.5,
        "text",
    )
    assert (cat.prompt, cat.seconds) == ("a cat sleeps", None)


def test_the_protocol_page_names_every_word() -> None:
    """docs/protocol.md tells every verdict, outcome, cause, file name and call."""
    page = (DOCS / "protocol.md").read_text()
    words = [*Verdict, *Outcome, *Cause]
    files = [wire.SEGMENT, wire.MASTER, wire.STRIP, wire.VIDEO, wire.POSTER, wire.SHEET]
    missing = [word for word in [*words, *files] if f"`{word}`" not in page]
    assert not missing
    calls = set(re.findall(r"^## (\w+)$", page, re.M))
    assert calls == {"hello", "claim", "heartbeat", "artifacts", "complete", "release"}


def test_the_table_of_kinds_and_scopes_is_the_codes() -> None:
    """docs/operations.md says of every kind of key, bound ones too, which scopes it has."""
    page = (DOCS / "operations.md").read_text()
    head, _, *lines = re.findall(r"^\|(.*)\|$", page[page.index("<!-- scopes") :], re.M)[:13]
    _, *columns = [cell.strip(" `") for cell in head.split("|")]
    assert set(columns) == set(Scope)
    told = {}
    for line in lines:
        kind, *marks = [cell.strip() for cell in line.split("|")]
        scopes = {name for name, mark in zip(columns, marks, strict=True) if mark}
        told[kind.replace("`", "")] = scopes
    bound = {f"bound {kind}": set(SCOPES[kind] & BOUND) for kind in BOUNDED}
    assert told == {kind.value: set(scopes) for kind, scopes in SCOPES.items()} | bound


def test_the_broken_variants_are_counted() -> None:
    """docs/reliability.md says how many canaries there are."""
    said = re.search(r"(\d+) broken variants", (DOCS / "reliability.md").read_text())
    assert said
    assert int(said[1]) == len(CANARIES)


def test_every_invariant_has_its_line() -> None:
    """docs/ledger.md lists I1 to I16, and `farm.check` speaks of no other."""
    listed = [cells[0] for cells in rows("ledger.md", "Invariants")]
    assert listed == [f"I{n}" for n in range(1, 17)]
    rooms = (ROOT / "orchestrator/farm/check").glob("*.py")
    checked = {number for room in rooms for number in re.findall(r"\bI\d+\b", room.read_text())}
    assert checked <= set(listed)


def _job() -> Job:
    return Job(
        id="j", account_id="a", session_id="s",
        month_id="m", state=JobState.QUEUED, brief={}, render_plan={}, quote={},
        model="m", width=2, height=2, fps=1, steps=1, seed=0, frames_total=1, created_at_ms=0,
    )  # fmt: skip


def _move(kind: str, amount: int, session: Session, job: Job) -> Movement:
    """Make the movement that a line of the example names."""
    match kind:
        case "grant":
            return ledger.give(session, amount, entry_id="e", now_ms=0, top_up=False)
        case "place" | "extend":
            first = kind == "place"
            return ledger.hold(session, job, amount, entry_id="e", now_ms=0, first=first)
        case "settle":
            return ledger.settle(session, job, amount, lease_id="l", entry_id="e", now_ms=0)
        case "release":
            keep = job.held_gpu_ms - amount
            return ledger.release(session, job, keep_gpu_ms=keep, entry_id="e", now_ms=0)
        case "loss":
            return ledger.lose(session, job, amount, lease_id="l", entry_id="e", now_ms=0, note="")
    raise AssertionError(kind)
