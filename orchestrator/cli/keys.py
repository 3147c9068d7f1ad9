"""`farm keys`: who may talk to the farm."""

import rich_click as click

from orchestrator.cli import output
from orchestrator.cli.client import connected, part, server
from orchestrator.cli.render import budget
from orchestrator.cli.usage import span
from orchestrator.device_classes import ANY
from orchestrator.model import Json


@click.group()
def keys() -> None:
    """List, create and revoke API keys."""


@keys.command()
@server
@output.as_json
def ls(server: str | None, as_json: bool) -> None:
    """List keys with the session and the allowance that bind them; their secrets are not kept."""
    with connected(server) as client:
        rows = client.get("keys")["data"]
    if as_json:
        output.document({"data": rows})
        return
    names = ("created_at", "expires_at", "revoked_at", "used_at")
    head = ("KEY", "KIND", "NAME", "SESSION", "#ALLOWED", "#HELD", "#SPENT", "#LEFT")
    output.table(
        (*head, "CREATED", "EXPIRES", "REVOKED", "USED", "ENROLS"),
        (
            (
                *(row["id"], row["kind"], row["name"], row["session_id"]),
                *_amounts(row["allowance"]),
                *(_day(row[name]) for name in names),
                _enrols(row),
            )
            for row in rows
        ),
        empty="No keys. Next: farm keys create --name NAME",
    )


@keys.command()
@click.option(
    "--kind",
    type=click.Choice(["user", "read", "submit", "pay", "configure", "admin", "join"]),
    default="user",
    show_default=True,
    help="What it may do: all that is the account's, or one part of it; "
    "see Keys in docs/operations.md.",
)
@click.option("--name", default="made by farm keys create", help="What it is for.")
@click.option("--ttl", metavar="SPAN", callback=lambda c, p, v: v and span(c, p, v), help="As 30d.")
@click.option("--account", metavar="ID", help="Whose; default: your own (`farm account ls`).")
@click.option("--session", metavar="SESSION", help="The only one that it spends from.")
@click.option(
    "--gpu-seconds",
    metavar="GPU_SECONDS",
    callback=budget,
    help="Sum that all its jobs may cost together.",
)
@click.option(
    "--device-class",
    "device_classes",
    metavar="CLASS",
    multiple=True,
    help="Of a join key, which needs it: a device that may enrol, as cpu or 'NVIDIA L4'; may be "
    "given several times; any: every one. Prices go by class.",
)
@click.option(
    "--uses",
    metavar="N",
    callback=lambda c, p, v: _uses(v),
    help="Of a join key: workers that may enrol, or any.  [default: 1]",
)
@server
@output.as_json
def create(
    kind: str,
    name: str,
    ttl: float | None,
    account: str | None,
    session: str | None,
    gpu_seconds: float | None,
    device_classes: tuple[str, ...],
    uses: int | str | None,
    server: str | None,
    as_json: bool,
) -> None:
    """Make a key and print it, this once.

    One that is bound, by --session or --gpu-seconds, reads and submits at most: it steers no
    other job, pays nothing and configures nothing. A join key lets workers enrol, each of which
    gets a key of its own: one worker, or --uses, of the device classes named, within --ttl. A
    worker keeps to those classes for good.
    """
    asked: Json = {"kind": kind, "name": name, "ttl_seconds": ttl, "account_id": account}
    asked |= {"session_id": session, "gpu_seconds": gpu_seconds, "uses": uses}
    asked |= {"device_classes": list(device_classes) or None}
    body = {field: value for field, value in asked.items() if value is not None}
    with connected(server) as client:
        row = client.post("keys", body)
    if as_json:
        output.document(row)
        return
    output.echo(row["token"])
    output.say(f"Keep it; it is not shown again. `farm keys revoke {row['id']}` ends it.")


# Unknown options pass: -5 is an amount that the callback refuses, in its own words.
@keys.command(context_settings={"ignore_unknown_options": True})
@click.argument("key_id", metavar="KEY")
@click.argument("gpu_seconds", callback=budget)
@server
@output.as_json
def limit(key_id: str, gpu_seconds: float, server: str | None, as_json: bool) -> None:
    """Give a key another allowance; jobs of its that were paused because it was too low go on."""
    with connected(server) as client:
        row = client.put(f"keys/{part(key_id)}/limit", {"gpu_seconds": gpu_seconds})
    if as_json:
        output.document(row)
        return
    total, held, spent, left = _amounts(row["allowance"])
    output.say(f"{total} GPU-seconds: {held} held, {spent} spent, {left} left.")


@keys.command()
@click.argument("key_id", metavar="KEY")
@click.option(
    "--keep",
    metavar="SPAN",
    default="24h",
    show_default=True,
    callback=lambda c, p, v: 0.0 if v == "0" else span(c, p, v),
    help="How long the old key lives on.",
)
@server
@output.as_json
def rotate(key_id: str, keep: float, server: str | None, as_json: bool) -> None:
    """Make a key that takes another one's place, and print it, this once."""
    with connected(server) as client:
        row = client.post(f"keys/{part(key_id)}/rotate", {"keep_seconds": keep})
    if as_json:
        output.document(row)
        return
    output.echo(row["token"])
    output.say("Keep it; it is not shown again. Put it where the old one is used.")


@keys.command()
@click.argument("key_id", metavar="KEY")
@server
@output.as_json
def revoke(key_id: str, server: str | None, as_json: bool) -> None:
    """End a key at once."""
    with connected(server) as client:
        row = client.delete(f"keys/{part(key_id)}")
    if as_json:
        output.document(row)
    output.say("Revoked.")
    if left := row.get("links_left_open"):
        output.say(f"Share links that it made and that stay open: {left}. See: `farm jobs links`.")


def _amounts(row: Json | None) -> list[str | None]:
    """Return a key's allowance, and what is held, spent and left of it."""
    names = ("limit", "held", "spent", "available")
    return [output.seconds(row[f"{name}_gpu_seconds"]) if row else None for name in names]


def _uses(text: str | None) -> int | str | None:
    if text is None or text == ANY:
        return text
    if not text.isdecimal() or not int(text):
        raise click.BadParameter("say a number of workers, or any.")
    return int(text)


def _enrols(row: Json) -> str | None:
    """Return what a join key lets in: `1 of 3, cpu or nvidia-l4`."""
    if row["kind"] != "join":
        return None
    classes = " or ".join(row["device_classes"] or [ANY])
    return f"{row['times_used']} of {row['uses'] or ANY}, {classes}"


def _day(at: str | None) -> str | None:
    return at[:16].replace("T", " ") if at else None
