"""`farm usage`: GPU-seconds spent and lost, and by whom."""

import re
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

import rich_click as click

from orchestrator.cli import output
from orchestrator.cli.client import connected, server
from orchestrator.model import Json

UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
BY: Final = ("session", "user", "model", "worker", "stage")
MONEY_BY: Final = ("plan", "user", "model", "month")
MOST_SECONDS: Final = 10**9
"""The API's own bound."""
SINCE: Final = 7 * UNITS["d"]
JOBS: Final = 200


def span(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """Return a span such as `90m` or `7d` in seconds."""
    if value is None:
        return None
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhdw])", value.strip())
    if not found or not (seconds := float(found[1]) * UNITS[found[2]]):
        raise click.BadParameter(f"{value!r} is not a span such as 90m, 24h or 7d.")
    if seconds > MOST_SECONDS:
        raise click.BadParameter(f"{value!r} is longer than thirty years: give 1600w or less.")
    return seconds


@click.command()
@click.option(
    "--by",
    type=click.Choice((*BY, *(name for name in MONEY_BY if name not in BY))),
    help="Default: session; with --money: plan.",
)
@click.option("--since", metavar="SPAN", callback=span, help="90m, 24h, 7d …; default: 7d.")
@click.option(
    "--money", is_flag=True, help="Cost, revenue and margin; by plan, user, model, month."
)
@click.option("--calibration", is_flag=True, help="How many jobs came in under their p90.")
@click.option(
    "--jobs", type=click.IntRange(1, 10_000), help="Of how many, with --calibration; default: 200."
)
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated, with a header.")
@server
@output.as_json
def usage(
    by: str | None,
    since: float | None,
    money: bool,
    calibration: bool,
    jobs: int | None,
    as_csv: bool,
    server: str | None,
    as_json: bool,
) -> None:
    """Sum GPU-seconds charged and lost; or cost and revenue, or how good the quotes are."""
    output.one_of(money=money, calibration=calibration)
    output.one_of(csv=as_csv, json=as_json)
    if calibration:
        report = _calibration(jobs, given=bool(by or since))
    elif jobs:
        raise click.UsageError("--jobs goes with --calibration.")
    else:
        report = _sums(by, since, money=money)
    with connected(server) as client:
        if as_csv:
            output.echo(client.sheet(report.path, **report.query), nl=False)
            return
        told = client.get(report.path, **report.query)
    if as_json:
        output.document(told)
    else:
        report.show(told)


class Report(NamedTuple):
    """One of the three reports: the call that asks for it, and the table that shows it."""

    path: str
    query: Json
    show: Callable[[Json], None]


def _calibration(jobs: int | None, *, given: bool) -> Report:
    if given:
        raise click.UsageError("--calibration is of the newest --jobs; --by and --since are not.")
    return Report("usage/calibration", {"jobs": jobs or JOBS}, _show_calibration)


def _sums(by: str | None, since: float | None, *, money: bool) -> Report:
    """Return what was used by something, in GPU-seconds or in money."""
    ways = MONEY_BY if money else BY
    by = by or ways[0]
    if by not in ways:
        other = "leave --money out" if money else "add --money"
        ways_of_money = ", ".join(MONEY_BY)
        raise click.UsageError(f"Money is summed by {ways_of_money}; for the other sums {other}.")
    query = {"by": by, "since_seconds": since or SINCE}
    if money:
        return Report("usage/economics", query, partial(_show_money, by))
    return Report("usage", query, partial(_show_used, by))


def _show_used(by: str, told: Json) -> None:
    """Show what was charged and what was lost."""
    output.table(
        (by.upper(), "#UNITS", "#GPU-S", "#LOST"),
        (
            (
                row["key"],
                row["units"],
                output.seconds(row["gpu_seconds"]),
                output.seconds(row["lost_gpu_seconds"]),
            )
            for row in told["data"]
        ),
        empty="Nothing was settled in that time.",
    )


def _show_money(by: str, told: Json) -> None:
    """Show cost and revenue, and the time of the devices they rest on."""
    output.table(
        (
            by.upper(),
            *("#USERS", "#UNITS", "#GPU-S", "#LOST"),
            *("#REVENUE", "#COST", "#MARGIN", "#COST/USER", "#CAP HITS"),
        ),
        (_money_row(row) for row in (*told["rows"], {"key": "total", **told["total"]})),
        empty="",
    )
    output.table(
        ("DEVICE", "#PRESENT", "#BUSY", "#LOST", "#IDLE", "#IDLE COST"),
        (
            (
                row["device_class"],
                *(output.seconds(row[f"{name}_seconds"]) for name in ("present", "busy")),
                *(output.seconds(row[name]) for name in ("lost_gpu_seconds", "idle_seconds")),
                _usd(row["idle_cost_microusd"]),
            )
            for row in told["devices"]
        ),
        empty="No worker was there in that time. Next: farm worker ls",
    )
    if over := [row for row in told["quotes"] if row["over_quote_gpu_seconds"]]:
        output.table(
            ("MODEL", "DEVICE", "#GPU-S", "#OVER QUOTE", "#COST"),
            (
                (
                    *(row["model"], row["device_class"], output.seconds(row["gpu_seconds"])),
                    output.seconds(row["over_quote_gpu_seconds"]),
                    _usd(row["over_quote_cost_microusd"]),
                )
                for row in over
            ),
            empty="",
        )
    output.echo(
        "in USD; margin is revenue less cost; (idle) is time in which nothing ran; "
        f"caps hit are counted by day, from {told['cap_hits_since'][:10]} (UTC) on"
    )


def _money_row(row: Json) -> tuple[object, ...]:
    return (
        *(row[name] for name in ("key", "users", "units")),
        *(output.seconds(row[name]) for name in ("gpu_seconds", "lost_gpu_seconds")),
        *(_usd(row[f"{name}_microusd"]) for name in ("revenue", "cost", "margin")),
        _usd(row["cost_per_user_microusd"]),
        row["cap_hits"],
    )


def _usd(microusd: int | None) -> str | None:
    return None if microusd is None else f"{microusd / 1e6:.6f}"


def _show_calibration(told: Json) -> None:
    """Show how many jobs came in under their quotes."""
    output.table(
        ("MODEL", "DEVICE", "QUOTED BY", "#JOBS", "#UNDER P50", "#UNDER P90", "#%"),
        (
            (
                row["model"],
                row["device_class"],
                row["basis"],
                row["jobs"],
                row["under_p50"],
                row["under_p90"],
                row["under_p90_percent"],
            )
            for row in told["rows"]
        ),
        empty="No quote can be judged yet.",
    )
    if told["jobs"]:
        least, most = told["goal_percent"]
        output.echo(
            f"{told['under_p90']} of the last {told['jobs']} jobs came in under their p90: "
            f"{told['under_p90_percent']:g} %, the goal is {least} to {most} %"
        )
    if told["note"]:
        output.say(told["note"])
    if not told["jobs"]:
        output.say('Next: farm render "a red ball rolls right".')
