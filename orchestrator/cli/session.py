"""`farm session`: budgets, their balance and their ledger."""

import re

import rich_click as click

from orchestrator.cli import alerts, output
from orchestrator.cli.client import connected, part, server
from orchestrator.cli.render import budget
from orchestrator.model import Json

SESSION = click.argument("session_id", metavar="SESSION")


def _digest(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Return the digest of a head, as `farm session show` prints it."""
    if value is not None and not re.fullmatch("[0-9a-f]{64}", value):
        raise click.BadParameter("a head is 64 of 0-9 and a-f, as `farm session show` prints it.")
    return value


@click.group()
def session() -> None:
    """Sessions hold GPU-seconds; a job spends from one and never more than it has."""


@session.command()
@server
@output.as_json
def ls(server: str | None, as_json: bool) -> None:
    """List sessions and what they have left."""
    with connected(server) as client:
        rows = client.every("sessions")
    if as_json:
        output.document({"data": rows})
        return
    output.table(
        ("SESSION", "NAME", "STATE", "DEFAULT", "#BUDGET", "#HELD", "#SPENT", "#AVAILABLE"),
        (
            (
                row["id"],
                row["name"],
                row["state"],
                "yes" if row["is_default"] else None,
                *(
                    output.seconds(row[f"{name}_gpu_seconds"])
                    for name in ("budget", "held", "spent", "available")
                ),
            )
            for row in rows
        ),
        empty="No sessions. Next: farm session create NAME --budget 60",
    )


@session.command()
@click.argument("name")
@click.option(
    "--budget",
    "--gpu-seconds",
    "--budget-gpu-seconds",
    "gpu_seconds",
    metavar="GPU_SECONDS",
    callback=budget,
    help="What it may spend; default: what the account's plan gives.",
)
@click.option(
    "--alert",
    "own_alerts",
    metavar="PERCENT[=ACTION]",
    multiple=True,
    callback=alerts.parsed,
    help="As 80=pause_new: notify, pause_new or pause_all; may be repeated; default: the plan's.",
)
@server
@output.as_json
def create(
    name: str,
    gpu_seconds: float | None,
    own_alerts: list[Json] | None,
    server: str | None,
    as_json: bool,
) -> None:
    """Create a session."""
    intent: Json = {"budget_gpu_seconds": gpu_seconds} if gpu_seconds else {}
    if own_alerts is not None:
        intent["alerts"] = own_alerts
    with connected(server) as client:
        row = client.post("sessions", {"name": name, **intent})
    _print(row, as_json=as_json)


@session.command()
@SESSION
@server
@output.as_json
def show(session_id: str, server: str | None, as_json: bool) -> None:
    """Show a session, by id or name."""
    with connected(server) as client:
        row = client.get(f"sessions/{part(session_id)}")
    _print(row, as_json=as_json)


# Unknown options pass: -5 is an amount that the callback refuses, in its own words.
@session.command(context_settings={"ignore_unknown_options": True})
@SESSION
@click.argument("gpu_seconds", callback=budget)
@server
@output.as_json
def topup(session_id: str, gpu_seconds: float, server: str | None, as_json: bool) -> None:
    """Add GPU_SECONDS to a session's budget."""
    with connected(server) as client:
        row = client.post(f"sessions/{part(session_id)}/top-ups", {"gpu_seconds": gpu_seconds})
    _print(row, as_json=as_json)


@session.command()
@SESSION
@server
@output.as_json
def close(session_id: str, server: str | None, as_json: bool) -> None:
    """Take no more jobs in a session until it is reopened; what runs finishes within its hold.

    While the account's default session is closed, requests that name no session are refused.
    """
    with connected(server) as client:
        row = client.post(f"sessions/{part(session_id)}/close")
    _print(row, as_json=as_json)
    if row["is_default"]:
        output.say(
            "It is the account's default: requests that name no session are refused until "
            f"`farm session reopen {row['id']}`, or `farm session default SESSION` of another."
        )


@session.command()
@SESSION
@server
@output.as_json
def reopen(session_id: str, server: str | None, as_json: bool) -> None:
    """Take jobs in a closed session again; what waits in it for budget goes on."""
    with connected(server) as client:
        row = client.post(f"sessions/{part(session_id)}/reopen")
    _print(row, as_json=as_json)


@session.command("default")
@SESSION
@server
@output.as_json
def make_default(session_id: str, server: str | None, as_json: bool) -> None:
    """Make an open session the one of requests that name none."""
    with connected(server) as client:
        row = client.post(f"sessions/{part(session_id)}/default")
    _print(row, as_json=as_json)


@session.command()
@SESSION
@click.argument("gpu_seconds", callback=budget)
@server
@output.as_json
def lower(session_id: str, gpu_seconds: float, server: str | None, as_json: bool) -> None:
    """Lower a session's budget to GPU_SECONDS: what is held or spent sinks as holds release."""
    with connected(server) as client:
        row = client.put(f"sessions/{part(session_id)}/limit", {"gpu_seconds": gpu_seconds})
    _print(row, as_json=as_json)


@session.command("alerts")
@SESSION
@alerts.wanted
@server
@output.as_json
def set_alerts(session_id: str, wanted: Json | None, server: str | None, as_json: bool) -> None:
    """Show a session's alerts, or give it others: `50 80=pause_new 100=pause_all`.

    `plan`: those of its account's plan; `none`: no alert.
    """
    with connected(server) as client:
        row = (
            client.put(f"sessions/{part(session_id)}/alerts", wanted)
            if wanted
            else client.get(f"sessions/{part(session_id)}")
        )
    _print(row, as_json=as_json)


@session.command()
@SESSION
@click.option("-n", "--limit", type=click.IntRange(1, 1_000_000), help="Default: all.")
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated, with a header; all of it.")
@click.option("--verify", "check", is_flag=True, help="Compute the whole chain anew.")
@click.option("--head", metavar="DIGEST", callback=_digest, help="It must have this one, too.")
@server
@output.as_json
def ledger(
    session_id: str,
    limit: int | None,
    as_csv: bool,
    check: bool,
    head: str | None,
    server: str | None,
    as_json: bool,
) -> int:
    """Show every movement of a session's GPU-seconds, and of its money."""
    output.one_of(csv=as_csv, json=as_json)
    output.one_of(csv=as_csv, verify=check)
    if head and not check:
        raise click.UsageError("--head goes with --verify.")
    with connected(server) as client:
        if as_csv:
            output.echo(client.sheet(f"sessions/{part(session_id)}/ledger"), nl=False)
            return 0
        if check:
            told = client.get(f"sessions/{part(session_id)}/ledger/audit", head=head)
            return _verified(told, head, as_json=as_json)
        rows = client.every(f"sessions/{part(session_id)}/ledger", limit=limit)
    if as_json:
        output.document({"data": rows})
        return 0
    output.table(
        ("AT", "KIND", "#GPU-S", "FROM", "TO", "#USD", "FROM", "TO", "JOB", "NOTE"),
        (
            (
                (row["at"] or "")[:23],
                row["kind"],
                output.seconds(row["gpu_seconds"]),
                row["debit"],
                row["credit"],
                f"{abs(row['price_microusd']) / 1e6:.6f}" if row["price_microusd"] else None,
                row["money_debit"],
                row["money_credit"],
                row["job_id"],
                row["note"],
            )
            for row in rows
        ),
        empty="Nothing has moved yet.",
    )
    return 0


def _verified(told: Json, head: str | None, *, as_json: bool) -> int:
    """Say what was checked, or what does not fit; return the exit code."""
    checked = told["checked"]
    if as_json:
        output.document(told)
    else:
        output.facts(
            {
                "session": told["session_id"],
                "chain": f"{checked['entries']} entries, digested from the first on",
                "head": told["head_sha256"] or None,
                "spent": f"{output.seconds(checked['spent_gpu_seconds'])} GPU-seconds, "
                f"{checked['price_microusd'] / 1e6:.6f} USD",
            }
        )
    kept = " and has the digest you kept" if head else ""
    return output.verdict(told["fault"], f"The ledger is whole{kept}.")


def _print(row: Json, *, as_json: bool) -> None:
    if as_json:
        output.document(row)
        return
    names = ("budget", "held", "spent", "available")
    balances = {name: output.seconds(row[f"{name}_gpu_seconds"]) + " GPU-s" for name in names}
    output.facts(
        {
            "session": row["id"],
            "name": row["name"],
            "state": row["state"],
            "default": "yes" if row["is_default"] else "no",
            **balances,
            "alerts": alerts.line(row),
            "ledger": f"{row['entries']} entries",
            "head": row["head_sha256"],
        }
    )
