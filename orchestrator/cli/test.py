"""`farm test`: the project's own tests, on this machine."""

import os
import sys
from importlib.util import find_spec

import rich_click as click

from orchestrator.cli.worker import ROOT, become
from orchestrator.errors import Conflict
from orchestrator.remedies import Say


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def test(args: tuple[str, ...]) -> None:
    """Run pytest over the tests; arguments are pytest's."""
    if find_spec("pytest") is None or not (ROOT / "tests").is_dir():
        raise Conflict(
            "The tests are not here.",
            Say("Take a checkout and run `./farm test`; it installs them."),
        )
    named = any(not arg.startswith("-") for arg in args)
    os.chdir(ROOT)
    become([sys.executable, "-m", "pytest", *args, *([] if named else ["tests"])], {})
