"""`farm files` and `farm characters`: the reference pictures that an account keeps."""

import rich_click as click

from orchestrator.cli import destination, output
from orchestrator.cli.client import connected, part, server
from orchestrator.model import Json


@click.group()
def files() -> None:
    """List, show, fetch and delete pictures that are kept as files."""


@click.group()
def characters() -> None:
    """List, show, fetch and delete pictures that are kept under a character's name."""


def _commands(group: click.Group, kind: str) -> None:
    """Give a group the commands of its kind of kept picture."""
    which = click.argument("kept_id", metavar=kind.upper())

    @group.command(help=f"List {kind}s, newest first.")
    @click.option("-n", "--limit", type=click.IntRange(1, 100_000), default=50, show_default=True)
    @server
    @output.as_json
    def ls(limit: int, server: str | None, as_json: bool) -> None:
        with connected(server) as client:
            rows = client.every(f"{kind}s", limit=limit)
        _list(kind, rows, as_json=as_json)

    @group.command(help=f"Show a {kind}.")
    @which
    @server
    @output.as_json
    def show(kept_id: str, server: str | None, as_json: bool) -> None:
        with connected(server) as client:
            row = client.get(f"{kind}s/{part(kept_id)}")
        _show(kind, row, as_json=as_json)

    @group.command(help=f"Fetch the picture of a {kind} and print its path.")
    @which
    @destination.output
    @server
    @output.as_json
    def get(kept_id: str, target: str | None, server: str | None, as_json: bool) -> None:
        with connected(server) as client:
            row = client.get(f"{kind}s/{part(kept_id)}")
            place = destination.checked(target or f"{row['id']}.png", "picture", as_json=as_json)
            address = f"/api/v1/{kind}s/{part(kept_id)}/content"
            name = place.save(lambda file: client.fetch(address, file))
        if as_json:
            output.document({**row, "output": name})
        elif not place.is_stdout:
            output.echo(name)

    @group.command(help=f"Delete a {kind}; a job that has not ended keeps the one it starts from.")
    @which
    @server
    @output.as_json
    def rm(kept_id: str, server: str | None, as_json: bool) -> None:
        with connected(server) as client:
            client.delete(f"{kind}s/{part(kept_id)}")
        if as_json:
            output.document({"id": kept_id, "deleted": True})
        output.say("Deleted.")


def _list(kind: str, rows: list[Json], *, as_json: bool) -> None:
    if as_json:
        output.document({"data": rows})
        return
    output.table(
        (kind.upper(), "NAME", "#SIZE", "MADE", "EXPIRES"),
        (
            (
                row["id"],
                output.brief(row["name"]),
                output.size(row["bytes"]),
                _minute(row["created_at"]),
                _minute(row["expires_at"]) or "never",
            )
            for row in rows
        ),
        empty=f"No {kind}s. Next: send one with OpenAI's client to /v1 (docs/openai.md).",
    )


def _show(kind: str, row: Json, *, as_json: bool) -> None:
    if as_json:
        output.document(row)
        return
    output.facts(
        {
            kind: row["id"],
            "name": row["name"],
            "size": output.size(row["bytes"]),
            "made": _minute(row["created_at"]),
            "expires": _minute(row["expires_at"]) or "never",
            "account": row["account_id"],
        }
    )


def _minute(at: str | None) -> str | None:
    return at[:16].replace("T", " ") if at else None


_commands(files, "file")
_commands(characters, "character")
