"""Alerts of a budget, as the command line takes and shows them: `50=notify 90=pause_new`."""

from collections.abc import Sequence
from typing import Final

import rich_click as click

from orchestrator.cli.client import F
from orchestrator.model import Json
from orchestrator.states import AlertAction

PLAN: Final = "plan"
"""The word for the plan's alerts again."""
NONE: Final = "none"
"""The word for no alert at all."""


def wanted(command: F) -> F:
    """Add the argument of a command that changes or shows alerts: none, some, `plan` or `none`."""
    return click.argument("wanted", metavar="[ALERT]...", nargs=-1, callback=body)(command)


def parsed(_ctx: click.Context, _param: click.Parameter, words: Sequence[str]) -> list[Json] | None:
    """Return alerts as the API takes them; None: the plan's."""
    if tuple(words) in ((), (PLAN,)):
        return None
    return [] if tuple(words) == (NONE,) else [_alert(word) for word in words]


def body(ctx: click.Context, param: click.Parameter, words: Sequence[str]) -> Json | None:
    """Return what to send for another list; None: nothing was said, so it is only shown."""
    return {"alerts": parsed(ctx, param, words)} if words else None


def line(row: Json) -> str:
    """Return the alerts of a session or an account, and whose they are."""
    words = (f"{each['percent']}={each['action']}" for each in row["alerts"])
    return f"{' '.join(words) or NONE} (by the {row['alerts_by']})"


def _alert(word: str) -> Json:
    percent, _, action = word.partition("=")
    if not percent.isdecimal() or action not in ("", *AlertAction):
        raise click.BadParameter(
            f"{word!r} is no alert: write it as 80 or 80=pause_new; actions: "
            f"{', '.join(AlertAction)}; `{PLAN}` alone: the plan's, `{NONE}` alone: no alert."
        )
    return {"percent": int(percent), **({"action": action} if action else {})}
