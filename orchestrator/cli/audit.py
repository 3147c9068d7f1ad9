"""`farm audit` and `farm freeze`: the operator's log and the emergency brake."""

import json

import rich_click as click

from orchestrator.cli import output
from orchestrator.cli.client import connected, server


@click.command()
@click.option("-n", "--limit", type=click.IntRange(1, 1_000_000), default=50, show_default=True)
@click.option("--verb", help="Of this kind alone, as key.revoke.")
@server
@output.as_json
def audit(limit: int, verb: str | None, server: str | None, as_json: bool) -> None:
    """Show what administrators did, newest first: who, what, when, from where."""
    with connected(server) as client:
        rows = client.every("audit", limit=limit, verb=verb)
    if as_json:
        output.document({"data": rows})
        return
    output.table(
        ("AT", "KEY", "FROM", "VERB", "TARGET", "DATA"),
        (
            (
                row["at"][:19].replace("T", " "),
                row["key_id"],
                row["source"],
                row["verb"],
                row["target"],
                output.brief(json.dumps(row["data"]) if row["data"] else ""),
            )
            for row in rows
        ),
        empty="Nothing was done yet.",
    )


@click.command()
@click.option("--off", is_flag=True, help="Let spending go on.")
@server
@output.as_json
def freeze(off: bool, server: str | None, as_json: bool) -> None:
    """Stop all spending at once: nothing is granted, and what runs pauses at its next step."""
    with connected(server) as client:
        row = client.put("freeze", {"frozen": not off})
    if as_json:
        output.document(row)
    output.say("Spending goes on." if off else "Frozen. `farm freeze --off` lets it go on.")
