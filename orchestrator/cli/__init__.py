"""`farm`: the command line. One file per noun, each imported only when it is used.

Nothing here imports torch, the web or the workers: what they do is asked over HTTP or by
starting a process.
"""

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

import rich_click as click

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "render": ("render", "Render a video; starts a farm for it when none runs."),
    "quote": ("render", "Say what a video would cost; nothing is started."),
    "up": ("up", "Start a farm on this machine."),
    "down": ("up", "Stop the farm of this home."),
    "status": ("up", "Say where the farm is and how its parts are."),
    "logs": ("up", "Show what the farm's processes wrote."),
    "jobs": ("jobs", "List, watch, steer and fetch jobs."),
    "files": ("files", "Pictures kept as files: list, show, fetch, delete."),
    "characters": ("files", "Pictures kept under a character's name: the same."),
    "session": ("session", "Sessions: budgets, their balance and their ledger."),
    "account": ("account", "Accounts: their plans, and what is left of their month."),
    "usage": ("usage", "Sum GPU-seconds by session, user, model, worker or stage."),
    "models": ("models", "Show the models on offer."),
    "worker": ("worker", "Run, join, list and drain workers."),
    "dispatcher": ("worker", "Run the dispatcher in the foreground."),
    "keys": ("keys", "List, create and revoke API keys."),
    "people": ("people", "Say who may sign in to the pages."),
    "webhooks": ("webhooks", "URLs that are told what happens, and what they were sent."),
    "audit": ("audit", "Show what administrators did: who, what, when, from where."),
    "freeze": ("audit", "Stop all spending at once, or let it go on."),
    "doctor": ("doctor", "Check this machine, and say how to mend what is broken."),
    "bench": ("checkout", "Measure this machine with the benches of tools/bench."),
    "test": ("checkout", "Run the project's tests."),
}
"""Command -> (module of this package, one line of help)."""

INTERRUPTED: Final = 130


class LazyGroup(click.RichGroup):
    """Knows every command by name and imports its module when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order people need them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a stub that knows its line of help: enough to list and to complete names."""
        found = COMMANDS.get(cmd_name)
        return click.Command(cmd_name, help=found[1]) if found else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is called, from its module."""
        name, command, rest = super().resolve_command(ctx, args)
        if name in COMMANDS:
            module = importlib.import_module(f"orchestrator.cli.{COMMANDS[name][0]}")
            command = getattr(module, name)
        return name, command, rest


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="framefarm", prog_name="farm")
def farm() -> None:
    """Framefarm: a render farm for generated video, with budgets that cannot be overspent.

    `farm render "a rocket rises through a starry night sky"` is a good start. Data goes to stdout,
    progress to stderr; --json gives one JSON document. Exit codes: 0 done, 1 failed, 2 usage,
    3 over budget, 4 not found, 5 not allowed, 6 cannot reach the farm, 130 interrupted.
    """


AGAIN_SECONDS: Final = 0.05
"""After which an interrupt that was raised where nothing could catch it is raised again."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave with its exit code."""
    from orchestrator import printing

    printing.speak_any_encoding()
    hear_interrupts()
    args = list(sys.argv[1:] if argv is None else argv)
    code = _run(args)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _run(args: list[str]) -> int:
    from orchestrator.errors import FarmError

    try:
        outcome: object = farm.main(args, prog_name="farm", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        return 1
    except FarmError as error:
        from orchestrator.cli import output

        output.problem(error, as_json="--json" in args)
        return output.exit_code(error)
    except OSError as error:
        where = f" {error.filename}:" if error.filename else ""
        click.echo(f"{where.strip()} {error.strerror or error}.".strip(), err=True)
        click.echo("Next: check the path, its rights and the room on the disk.", err=True)
        return 1
    return outcome if isinstance(outcome, int) else 0


def hear_interrupts() -> None:
    """Turn Ctrl-C, SIGTERM and SIGHUP into KeyboardInterrupt, wherever the program is just then.

    One that is raised while Python tidies up (a finaliser, a weak reference's callback) would be
    reported and forgotten; it comes again a moment later.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number is signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)  # a shell's `&` ignores SIGINT, nohup SIGHUP
    signal.signal(signal.SIGALRM, _interrupt)
    sys.unraisablehook = _unraisable


def _unraisable(told: "sys.UnraisableHookArgs") -> None:
    if issubclass(told.exc_type, KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
    else:
        sys.__unraisablehook__(told)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
