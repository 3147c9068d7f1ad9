"""The house rules, held by a test: sizes, names, imports, types, dependencies."""

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.cli import COMMANDS

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

BRANCHING = (
    ast.If, ast.IfExp, ast.For, ast.While, ast.ExceptHandler, ast.Assert, ast.match_case
)  # fmt: skip

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
ROOMS = ("orchestrator", "workers", "web", "tools", "tests")

FILE_LINES = 400
PACKAGE_FILES = 25
BRANCHES = 20
FUNCTION_LINES = 70
CLASS_LINES = 200

LONGER: dict[str, str] = {
    "orchestrator/settings.py:Settings": "one line a setting, and what it means",
    "tests/property/test_ledger.py:LedgerMachine": "one rule per movement of the ledger",
}
"""Each `file:name` that may be longer than the house allows, with its reason."""

SILENT = re.compile(r"# noqa(?::\s*[A-Z0-9, ]+)?$|# type: ignore(?:\[[^\]]*\])?$")
"""The end of a line that asks a tool to look away and does not say why."""

ASKING = re.compile(r"\s*(what|who|whose|whom|where|why|how|whether)\b", re.IGNORECASE)

TANGLED: dict[str, str] = {
    "orchestrator/prompting/timeline.py:_chosen": "one guard for each thing that is no timeline",
}
"""Each `file:name` that may have more branches, with its reason."""

VAGUE = {"manager", "utils", "util", "helpers", "helper", "common", "base", "misc"}
"""Names that say nothing of what a thing does."""


def sources(*rooms: str) -> list[Path]:
    """Return our Python files; migrations are written once and never edited."""
    return sorted(
        path
        for room in rooms or ROOMS
        for path in (ROOT / room).rglob("*.py")
        if "versions" not in path.parts
    )


def defined(path: Path) -> Iterator[tuple[str, Definition]]:
    """Yield each function and class of a file with its `file:name`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, Definition):
            yield f"{path.relative_to(ROOT)}:{node.name}", node


def length(node: Definition) -> int:
    """Return the lines of a function or class, without its decorators."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def most_lines(node: Definition) -> int:
    """Return how many lines are too many for it."""
    return CLASS_LINES if isinstance(node, ast.ClassDef) else FUNCTION_LINES


def branches(node: ast.AST) -> int:
    """Return the ways through a function, and one for every operator that may stop early."""
    count = 1
    for each in ast.walk(node):
        if isinstance(each, ast.BoolOp):
            count += len(each.values) - 1
        elif isinstance(each, ast.comprehension):
            count += 1 + len(each.ifs)
        count += isinstance(each, BRANCHING)
    return count


def run(*argv: str | Path, tail: int = 3000) -> None:
    """Run a tool over the project and show what it says when it fails."""
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-tail:]


def test_most_files_are_short() -> None:
    """Nineteen of twenty files have fewer than 400 lines; branches are what must not pile up."""
    lengths = sorted(len(path.read_text().splitlines()) for path in sources())
    assert lengths[len(lengths) * 95 // 100] < FILE_LINES


def test_a_package_can_be_taken_in() -> None:
    """A package has at most 25 modules, its sub-packages not counted."""
    counted = Counter(path.parent for path in sources("orchestrator", "workers", "web"))
    assert max(counted.values()) <= PACKAGE_FILES, counted.most_common(3)


def test_no_function_has_many_branches() -> None:
    """A function has at most 20 branches, with every boolean operator and comprehension counted.

    ruff's C901 holds a function's statements to 12; this counts what it passes over, too.
    """
    tangled = {
        name: found
        for path in sources("orchestrator", "workers", "web")
        for name, node in defined(path)
        if not isinstance(node, ast.ClassDef) and (found := branches(node)) > BRANCHES
    }
    assert set(tangled) <= set(TANGLED), tangled


def test_every_exception_to_a_tool_has_its_reason() -> None:
    """A `noqa` is followed by why, and so is a `type: ignore`."""
    silent = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sources("orchestrator", "workers", "web", "tools")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if SILENT.search(line)
    ]
    assert not silent


def test_no_function_and_no_class_is_long() -> None:
    """A function has fewer than 70 lines and a class fewer than 200."""
    long = {}
    for path in sources():
        for name, node in defined(path):
            if length(node) >= most_lines(node):
                long[name] = length(node)
    assert set(long) <= set(LONGER), long


def test_most_functions_are_short() -> None:
    """Nineteen of twenty functions have at most 45 lines."""
    lengths = sorted(
        length(node)
        for path in sources("orchestrator", "workers", "web")
        for _, node in defined(path)
        if not isinstance(node, ast.ClassDef)
    )
    assert lengths[len(lengths) * 95 // 100] <= 45


def test_every_exception_is_needed() -> None:
    """LONGER has no entry that nothing needs any more."""
    for name in LONGER:
        path, _, _ = name.partition(":")
        node = next(node for found, node in defined(ROOT / path) if found == name)
        assert length(node) >= most_lines(node), name


def test_every_test_states_a_fact() -> None:
    """Every test has a docstring that begins a sentence."""
    silent = [
        name
        for path in sources("tests")
        if path.name.startswith("test_")
        for name, node in defined(path)
        if node.name.startswith("test_") and not (ast.get_docstring(node) or "").strip()
    ]
    assert not silent


def test_no_docstring_opens_with_a_question() -> None:
    """A docstring begins with a verb or a noun phrase."""
    asking = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if ASKING.match(str(node.value.value))
    ]
    assert not asking


def test_no_name_is_vague() -> None:
    """No module and no class is named after nothing in particular."""
    vague = [
        str(path.relative_to(ROOT))
        for path in sources()
        if VAGUE & set(path.stem.lower().split("_"))
    ]
    vague += [
        name
        for path in sources()
        for name, node in defined(path)
        if isinstance(node, ast.ClassDef) and node.name.lower().endswith(tuple(VAGUE))
    ]
    assert not vague


def test_everything_is_caught_only_at_the_boundaries() -> None:
    """`except Exception` stands where a loop or a unit must outlive any error, and nowhere else."""
    allowed = {
        "orchestrator/dispatcher.py",  # the loop: log, wait, go on
        "web/threads.py",  # from a native thread to the greenlet that asked, and raised there
        "orchestrator/webhooks/sender.py",  # likewise, and the boundary of one message
        "web/policy.py",  # the operator's own code: any error of it is a ruling
        "workers/child.py",  # the unit boundary where models load: report and go on
        "workers/render.py",  # the unit boundary of each kind: likewise
        "workers/encode.py",
        "workers/parse.py",
    }
    found = {
        str(path.relative_to(ROOT))
        for path in sources("orchestrator", "workers", "web")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler)
        and isinstance(node.type, ast.Name)
        and node.type.id in {"Exception", "BaseException"}
        and not isinstance(node.body[-1], ast.Raise)  # tidies up and passes it on
    }
    assert found <= allowed, sorted(found - allowed)


COMMAND = re.compile(rf"(?:`|<code>)(?:\./)?farm (?:{'|'.join(COMMANDS)})\b")
NAMES_COMMANDS = {
    "workers/entry.py": "the worker's own terminal: its operator reads it there",
    "workers/client.py": "likewise, where it cannot enrol",
    "web/templates/sign_in.html": "who has no link yet gets one on the machine alone",
    "web/templates/books.html": "the operator's page: a worker is started on a machine alone",
}
"""Outside of the command line, where a command is named and why."""


def spoken(path: Path) -> Iterator[str]:
    """Yield what of a file may be shown to people: a template, or strings that document nothing."""
    if path.suffix == ".html":
        yield path.read_text()
        return
    tree = ast.parse(path.read_text())
    documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and id(node) not in documents:
            yield str(node.value)


def test_no_error_has_a_next_sentence() -> None:
    """Errors take remedies: a `next` would pass for data of theirs, and nobody would say it."""
    mistaken = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources("orchestrator", "web", "workers")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
        if any(word.arg == "next" for word in node.exc.keywords)
    ]
    assert not mistaken


def test_only_the_command_line_names_commands() -> None:
    """Domain, API, pages and workers say what helps as remedies; each interface has its words."""
    own = (ROOT / "orchestrator/cli", ROOT / "orchestrator/bootstrap")
    files = [*sources("orchestrator", "web", "workers"), *(ROOT / "web/templates").glob("*.html")]
    naming = {
        str(path.relative_to(ROOT))
        for path in files
        if not any(path.is_relative_to(folder) for folder in own)
        and any(COMMAND.search(text) for text in spoken(path))
    }
    assert naming == set(NAMES_COMMANDS)


@pytest.mark.parametrize("module", ["web.app", "orchestrator.cli", "orchestrator.dispatcher"])
def test_the_control_plane_never_loads_torch(module: str) -> None:
    """Importing web, the CLI or the dispatcher loads no torch, no diffusers and no numpy."""
    heavy = "{'torch', 'diffusers', 'transformers', 'numpy', 'av'}"
    run(
        sys.executable,
        "-c",
        f"import sys, {module}; found = {heavy} & set(sys.modules); assert not found, found",
    )


@pytest.mark.parametrize("module", ["workers.entry", "workers.agent", "workers.tasks"])
def test_the_worker_parent_never_loads_torch(module: str) -> None:
    """The process that beats and talks loads no torch: loading it would starve a heartbeat."""
    run(sys.executable, "-c", f"import sys, {module}; assert 'torch' not in sys.modules")


def test_imports_point_down() -> None:
    """import-linter's contracts in pyproject.toml hold."""
    run(BIN / "lint-imports", "--no-logo", "--no-cache")


def test_the_code_is_linted() -> None:
    """ruff has no complaint."""
    run(BIN / "ruff", "check", "--quiet", ".")


def test_the_code_is_formatted() -> None:
    """ruff would format nothing differently."""
    run(BIN / "ruff", "format", "--check", "--quiet", ".")


def test_every_dependency_is_declared_and_used() -> None:
    """deptry finds no import that is undeclared and no declaration without use."""
    run(BIN / "deptry", ".")


@pytest.mark.slow(60)
def test_the_types_hold() -> None:
    """mypy --strict has no complaint about the three packages."""
    run(BIN / "mypy")
