"""`farm people`: who may sign in to the pages."""

import rich_click as click

from orchestrator.cli import output
from orchestrator.cli.client import connected, part, server
from orchestrator.model import Json

PASSWORD = click.option(
    "--password",
    prompt=True,
    hide_input=True,
    confirmation_prompt=True,
    help="Asked for where it is left out; at least 12 characters.",
)


@click.group()
def people() -> None:
    """Say who may sign in to the pages with a name and a password."""


@people.command()
@server
@output.as_json
def ls(server: str | None, as_json: bool) -> None:
    """List who may sign in."""
    with connected(server) as client:
        rows = client.get("people")["data"]
    if as_json:
        output.document({"data": rows})
        return
    output.table(
        ("PERSON", "NAME", "BY", "SINCE"),
        (
            (row["id"], row["name"], _by(row), row["created_at"][:16].replace("T", " "))
            for row in rows
        ),
        empty="Nobody. Next: farm people add NAME",
    )


@people.command()
@click.argument("name")
@click.option("--account", metavar="ID", help="For whose; default: your own (`farm account ls`).")
@click.option("--sso", is_flag=True, help="NAME is an e-mail address that the provider knows.")
@click.option("--password", help="Asked for where it is left out; at least 12 characters.")
@server
@output.as_json
def add(
    name: str,
    account: str | None,
    sso: bool,
    password: str | None,
    server: str | None,
    as_json: bool,
) -> None:
    """Let somebody sign in with a password, or at the identity provider."""
    if not sso and password is None:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    asked = {"name": name, "password": password, "account_id": account}
    with connected(server) as client:
        row = client.post("people", asked)
    if as_json:
        output.document(row)
    output.say(f"{row['name']} may sign in. `farm people rm {row['id']}` ends it.")


@people.command()
@click.argument("person_id", metavar="PERSON")
@server
@output.as_json
def rm(person_id: str, server: str | None, as_json: bool) -> None:
    """Let somebody sign in no more; their browsers are signed out."""
    with connected(server) as client:
        client.delete(f"people/{part(person_id)}")
    if as_json:
        output.document({"id": person_id})
    output.say("Removed.")


@people.command()
@click.argument("person_id", metavar="PERSON")
@PASSWORD
@server
@output.as_json
def password(person_id: str, password: str, server: str | None, as_json: bool) -> None:
    """Give somebody another password; their browsers are signed out."""
    with connected(server) as client:
        row = client.put(f"people/{part(person_id)}/password", {"password": password})
    if as_json:
        output.document(row)
    output.say("Changed.")


def _by(row: Json) -> str:
    ways = {"password": row["password_at"], "provider": row["at_provider"]}
    return ", ".join(way for way, there in ways.items() if there) or "invited"
