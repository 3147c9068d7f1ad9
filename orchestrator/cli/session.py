"""`farm session`: budgets, their balance and their ledger."""

import rich_click as click

from orchestrator.cli import output
from orchestrator.cli.client import Json, connected, part, server
from orchestrator.cli.render import budget

SESSION = click.argument("session_id", metavar="SESSION")


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
        ("SESSION", "NAME", "STATE", "#BUDGET", "#HELD", "#SPENT", "#AVAILABLE"),
        (
            (
                row["id"],
                row["name"],
                row["state"],
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
@server
@output.as_json
def create(name: str, gpu_seconds: float | None, server: str | None, as_json: bool) -> None:
    """Create a session."""
    wish = {"budget_gpu_seconds": gpu_seconds} if gpu_seconds else {}
    with connected(server) as client:
        row = client.post("sessions", {"name": name, **wish})
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
    """Take no more jobs in a session; what runs finishes within its hold."""
    with connected(server) as client:
        row = client.post(f"sessions/{part(session_id)}/close")
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


@session.command()
@SESSION
@click.option("-n", "--limit", type=click.IntRange(1, 1_000_000), help="Default: all.")
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated, with a header; all of it.")
@server
@output.as_json
def ledger(
    session_id: str, limit: int | None, as_csv: bool, server: str | None, as_json: bool
) -> None:
    """Show every movement of a session's GPU-seconds."""
    with connected(server) as client:
        if as_csv:
            output.echo(client.sheet(f"sessions/{part(session_id)}/ledger"), nl=False)
            return
        rows = client.every(f"sessions/{part(session_id)}/ledger", limit=limit)
    if as_json:
        output.document({"data": rows})
        return
    output.table(
        ("AT", "KIND", "#GPU-S", "FROM", "TO", "JOB", "NOTE"),
        (
            (
                (row["at"] or "")[:23],
                row["kind"],
                output.seconds(row["gpu_seconds"]),
                row["debit"],
                row["credit"],
                row["job_id"],
                row["note"],
            )
            for row in rows
        ),
        empty="Nothing has moved yet.",
    )


def _print(row: Json, *, as_json: bool) -> None:
    if as_json:
        output.document(row)
        return
    names = ("budget", "held", "spent", "available")
    balances = {name: output.seconds(row[f"{name}_gpu_seconds"]) + " GPU-s" for name in names}
    output.facts({"session": row["id"], "name": row["name"], "state": row["state"], **balances})
