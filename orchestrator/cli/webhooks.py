"""`farm webhooks`: URLs that are told what happens."""

import rich_click as click

from orchestrator.cli import output
from orchestrator.cli.client import connected, part, server
from orchestrator.model import Json

WEBHOOK = click.argument("webhook_id", metavar="WEBHOOK")


@click.group()
def webhooks() -> None:
    """Register URLs that are told of jobs, budgets and workers; see what was sent."""


@webhooks.command()
@server
@output.as_json
def ls(server: str | None, as_json: bool) -> None:
    """List webhooks."""
    with connected(server) as client:
        rows = client.every("webhooks")
    if as_json:
        output.document({"data": rows})
        return
    output.table(
        ("WEBHOOK", "STATE", "EVENTS", "URL"),
        ((row["id"], row["state"], " ".join(row["events"]), row["url"]) for row in rows),
        empty="No webhooks. Next: farm webhooks create https://…",
    )


@webhooks.command()
@click.argument("url", metavar="URL")
@click.option("--event", "events", multiple=True, help="As job.succeeded, job.* …; default: all.")
@server
@output.as_json
def create(url: str, events: tuple[str, ...], server: str | None, as_json: bool) -> None:
    """Register URL and print its secret, this once. An admin's hears of workers too."""
    with connected(server) as client:
        row = client.post("webhooks", {"url": url, "events": list(events or ("*",))})
    if as_json:
        output.document(row)
        return
    output.echo(row["secret"])
    output.say(f"Keep it; it is not shown again. `farm webhooks test {row['id']}` tries the URL.")


@webhooks.command()
@WEBHOOK
@server
@output.as_json
def rotate(webhook_id: str, server: str | None, as_json: bool) -> None:
    """Print a new secret; the old one signs beside it for a day."""
    with connected(server) as client:
        row = client.post(f"webhooks/{part(webhook_id)}/rotate")
    if as_json:
        output.document(row)
        return
    output.echo(row["secret"])
    output.say(f"Messages are signed with both until {row['old_secret_until']}.")


@webhooks.command()
@WEBHOOK
@server
@output.as_json
def enable(webhook_id: str, server: str | None, as_json: bool) -> None:
    """Send to a webhook again that had answered 410 Gone."""
    with connected(server) as client:
        row = client.post(f"webhooks/{part(webhook_id)}/enable")
    if as_json:
        output.document(row)
    output.say("Enabled. What failed meanwhile: `farm webhooks deliveries`.")


@webhooks.command()
@WEBHOOK
@server
@output.as_json
def test(webhook_id: str, server: str | None, as_json: bool) -> None:
    """Send a message of the kind webhook.test."""
    with connected(server) as client:
        row = client.post(f"webhooks/{part(webhook_id)}/test")
    if as_json:
        output.document(row)
    output.say(f"{row['id']} is on its way: `farm webhooks deliveries {webhook_id}`.")


@webhooks.command()
@WEBHOOK
@server
def delete(webhook_id: str, server: str | None) -> None:
    """Send nothing more to a webhook."""
    with connected(server) as client:
        client.delete(f"webhooks/{part(webhook_id)}")
    output.say("Deleted.")


@webhooks.command()
@WEBHOOK
@click.option("-n", "--limit", type=click.IntRange(1, 1_000_000), default=50, show_default=True)
@server
@output.as_json
def deliveries(webhook_id: str, limit: int, server: str | None, as_json: bool) -> None:
    """Show what a webhook was sent and what came of it, newest first."""
    with connected(server) as client:
        rows = client.every(f"webhooks/{part(webhook_id)}/deliveries", limit=limit)
    if as_json:
        output.document({"data": rows})
        return
    output.table(
        ("AT", "DELIVERY", "TYPE", "STATE", "#TRIES", "LAST ANSWER"),
        (
            (
                row["created_at"][:19].replace("T", " "),
                row["id"],
                row["type"],
                row["state"],
                str(len(row["tries"])),
                _last(row["tries"]),
            )
            for row in rows
        ),
        empty="Nothing was sent yet.",
    )


@webhooks.command()
@WEBHOOK
@click.argument("delivery_id", metavar="DELIVERY")
@server
@output.as_json
def replay(webhook_id: str, delivery_id: str, server: str | None, as_json: bool) -> None:
    """Send a message again, under the same id."""
    with connected(server) as client:
        row = client.post(f"webhooks/{part(webhook_id)}/deliveries/{part(delivery_id)}/replay")
    if as_json:
        output.document(row)
    output.say("It is on its way.")


def _last(tries: list[Json]) -> str:
    if not tries:
        return ""
    return str(tries[-1]["status"] or output.brief(tries[-1]["error"]))
