"""Ids on the command line: whatever one holds, it is one part of an address and no other."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import cli
from orchestrator.farm import Farm
from orchestrator.farm.leases import fleet
from orchestrator.states import WorkerState
from tests.factories import Clock, Hand, submit
from tests.web.test_cli_money import Run, run

__all__ = ["run"]

CLI = Path(cli.__file__).parent
COMMANDS = (
    ("account", "show", "ID"),
    ("account", "set-plan", "ID", "studio"),
    ("jobs", "show", "ID"),
    ("jobs", "watch", "ID"),
    ("jobs", "pause", "ID"),
    ("jobs", "resume", "ID"),
    ("jobs", "cancel", "ID"),
    ("jobs", "finish", "ID"),
    ("jobs", "rerun", "ID"),
    ("jobs", "rm", "ID"),
    ("jobs", "tag", "ID", "seen"),
    ("jobs", "download", "ID"),
    ("jobs", "share", "ID"),
    ("jobs", "links", "ID"),
    ("jobs", "unshare", "ID"),
    *((noun, verb, "ID") for noun in ("files", "characters") for verb in ("show", "get", "rm")),
    ("jobs", "receipt", "ID"),
    ("jobs", "receipt", "ID", "--csv"),
    ("jobs", "receipt", "ID", "--verify"),
    ("keys", "rotate", "ID"),
    ("keys", "revoke", "ID"),
    ("models", "show", "ID"),
    ("people", "rm", "ID"),
    ("session", "show", "ID"),
    ("session", "close", "ID"),
    ("session", "ledger", "ID"),
    ("session", "topup", "ID", "1"),
    ("session", "lower", "ID", "1"),
    ("session", "alerts", "ID"),
    ("session", "alerts", "ID", "80=pause_new"),
    ("account", "alerts", "ID"),
    ("account", "alerts", "ID", "80"),
    ("webhooks", "rotate", "ID"),
    ("webhooks", "enable", "ID"),
    ("webhooks", "test", "ID"),
    ("webhooks", "delete", "ID"),
    ("webhooks", "deliveries", "ID"),
    ("webhooks", "replay", "ID", "ID"),
    ("worker", "drain", "ID"),
    ("worker", "admit", "ID"),
)
ODD = (
    "../workers/{worker}/drain?x=",
    "../workers/{worker}/drain#",
    "{job}/../../workers/{worker}/drain?x=",
    "{job}?x=",
    "{job}#x",
    "{job}/",
    "%2e%2e",
    "..",
    ".",
    "",
)


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_id_is_nobody_s(run: Run, web_farm: Farm, clock: Clock, odd: str) -> None:
    """Exit code 4 with a next step from every command; nothing else was called by it."""
    job = submit(web_farm)
    hand = Hand(web_farm, clock)
    for words in COMMANDS:
        named = [odd.format(worker=hand.id, job=job.id) if w == "ID" else w for w in words]
        code, out, err = run(*named)
        assert (words, code, out) == (words, 4, "")
        assert "Next:" in err
    (worker,) = fleet.workers(web_farm)
    assert worker.state is WorkerState.ACTIVE


def addresses() -> Iterator[tuple[str, ast.FormattedValue]]:
    """Yield what the command line puts into addresses, with where it does."""
    for path in sorted(CLI.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (
                isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args
            ):
                continue
            first = node.args[0]
            if ast.unparse(node.func).startswith("client.") and isinstance(first, ast.JoinedStr):
                for value in first.values:
                    if isinstance(value, ast.FormattedValue):
                        yield f"{path.name}:{node.lineno}", value


def test_every_id_is_quoted() -> None:
    """Whatever a command puts into an address went through `part`, or is a word of our own."""
    found = list(addresses())
    assert len(found) > 30
    bare = [
        f"{where} {ast.unparse(value.value)}"
        for where, value in found
        if not ast.unparse(value.value).startswith("part(")
        and ast.unparse(value.value) not in ("verb", "what", "kind")
    ]
    assert not bare
