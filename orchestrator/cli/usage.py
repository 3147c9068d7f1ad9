"""`farm usage`: what was spent, and what was lost, by whom."""

import csv
import re
import sys
from typing import Final

import rich_click as click

from orchestrator.cli import output
from orchestrator.cli.client import Json, connected, server

UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
BY: Final = ("session", "user", "model", "worker", "stage")


def span(_ctx: click.Context, _param: click.Parameter, value: str) -> float:
    """Return a span such as `90m` or `7d` in seconds."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([smhdw])", value.strip())
    if not found or not (seconds := float(found[1]) * UNITS[found[2]]):
        raise click.BadParameter(f"{value!r} is not a span such as 90m, 24h or 7d.")
    return seconds


@click.command()
@click.option("--by", type=click.Choice(BY), default="session", show_default=True)
@click.option("--since", metavar="SPAN", default="7d", show_default=True, callback=span)
@click.option("--calibration", is_flag=True, help="How many jobs came in under their p90.")
@click.option(
    "--jobs", type=click.IntRange(1, 10_000), default=200, show_default=True, help="For it."
)
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated, with a header.")
@server
@output.as_json
def usage(
    by: str,
    since: float,
    calibration: bool,
    jobs: int,
    as_csv: bool,
    server: str | None,
    as_json: bool,
) -> None:
    """Sum GPU-seconds charged, and lost by the farm; or say how good its quotes are."""
    with connected(server) as client:
        if calibration:
            _calibrated(client.get("usage/calibration", jobs=jobs), as_json=as_json)
            return
        rows = client.get("usage", by=by, since_seconds=since)["data"]
    if as_json:
        output.document({"data": rows})
        return
    names = ("key", "units", "gpu_seconds", "lost_gpu_seconds")
    if as_csv:
        lines = csv.writer(sys.stdout, lineterminator="\n")
        lines.writerow((by, *names[1:]))
        lines.writerows([row.get(name) for name in names] for row in rows)
        return
    output.table(
        (by.upper(), "#UNITS", "#GPU-S", "#LOST"),
        (
            (row["key"], row["units"], *(output.seconds(row[name]) for name in names[2:]))
            for row in rows
        ),
        empty="Nothing was settled in that time.",
    )


def _calibrated(told: Json, *, as_json: bool) -> None:
    """Show how many jobs came in under their quotes."""
    if as_json:
        output.document(told)
        return
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
        click.echo(
            f"{told['under_p90']} of the last {told['jobs']} jobs came in under their p90: "
            f"{told['under_p90_percent']:g} %, the goal is {least} to {most} %"
        )
    if told["next"]:
        output.say(f"Next: {told['next']}")
