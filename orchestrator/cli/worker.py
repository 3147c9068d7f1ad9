"""`farm worker`: run one here, list all, drain one; and `farm dispatcher`."""

import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import rich_click as click

from orchestrator.cli import output
from orchestrator.cli.client import (
    Client,
    F,
    config,
    connected,
    local,
    only_here,
    part,
    server,
)
from orchestrator.device_classes import ANY
from orchestrator.model import Json

ROOT = Path(__file__).resolve().parent.parent.parent


@click.group()
def worker() -> None:
    """Run, join, list and drain workers."""


def _offer(command: F) -> F:
    """Add the options of a worker that runs here."""
    for option in reversed(
        (
            click.option("--device", metavar="D", help="cuda:0, cpu …; default: the first GPU."),
            click.option("--home", type=click.Path(file_okay=False, path_type=Path)),
            click.option("--models", metavar="ID,…", help="Default: all it finds."),
            click.option("--name", help="Default: this host and its home."),
            click.option("--engine-threads", type=click.IntRange(0, 1024), help="0: all cores."),
        )
    ):
        command = option(command)
    return command


@worker.command()
@_offer
@click.option("--poll", is_flag=True, help="Long-poll the farm; no broker is needed.")
@server
def run(server: str | None, poll: bool, **options: Any) -> None:
    """Run a worker in the foreground, for FARM_SERVER or the farm of this home.

    The first time it enrols with FARM_JOIN_TOKEN; a farm on this home lets it in by itself.
    """
    settings = config()
    env: dict[str, str] = {}
    url = (server or settings.server).rstrip("/")
    here = local(settings.home)
    if here and url in ("", here["url"]):
        env["FARM_SERVER"] = here["url"]
        if not poll and not settings.broker_url.get_secret_value():
            env["FARM_BROKER_URL"] = here["broker_url"]
        if not settings.join_token.get_secret_value():
            env["FARM_JOIN_TOKEN"] = _join_token(Client(here["url"], here["cli_key"]))
    elif url:
        env["FARM_SERVER"] = url
    _exec(options, env, poll=poll)


@worker.command()
@click.argument("url")
@click.option("--token", envvar="FARM_JOIN_TOKEN", required=True, help="Of `farm keys create`.")
@_offer
def join(url: str, token: str, **options: object) -> None:
    """Enrol this machine as a worker of the farm at URL, and work for it.

    It long-polls unless FARM_BROKER_URL is set. Later `farm worker run` needs no token.
    """
    env = {"FARM_SERVER": url.rstrip("/"), "FARM_JOIN_TOKEN": token}
    _exec(options, env, poll=not config().broker_url.get_secret_value())


@worker.command()
@server
@output.as_json
def ls(server: str | None, as_json: bool) -> None:
    """List the workers, newest first."""
    with connected(server) as client:
        rows = client.get("workers")["data"]
    if as_json:
        output.document({"data": rows})
        return
    output.table(
        ("WORKER", "NAME", "HOST", "DEVICE", "#MB", "STATE", "#FLAGS", "WAITS BY", "SEEN"),
        (
            (
                *(row[n] for n in ("id", "name", "host", "device", "memory_mb", "state", "flags")),
                "polling" if row["polls"] else "broker",
                (row["seen_at"] or "")[:19],
            )
            for row in rows
        ),
        empty="No workers. Next: farm worker run, or farm up --workers 1",
    )


@worker.command()
@click.argument("worker_id", metavar="WORKER")
@server
@output.as_json
def drain(worker_id: str, server: str | None, as_json: bool) -> None:
    """Give a worker nothing new; it finishes what it has."""
    _set(worker_id, "drain", server, as_json=as_json)


@worker.command()
@click.argument("worker_id", metavar="WORKER")
@server
@output.as_json
def admit(worker_id: str, server: str | None, as_json: bool) -> None:
    """Let a drained or blamed worker work again."""
    _set(worker_id, "admit", server, as_json=as_json)


@click.command()
def dispatcher() -> None:
    """Run the dispatcher in the foreground; it needs the database and FARM_BROKER_URL."""
    only_here("dispatcher")
    become([sys.executable, "-m", "orchestrator.dispatcher"], {})


def _set(worker_id: str, verb: str, server: str | None, *, as_json: bool) -> None:
    with connected(server) as client:
        row = client.post(f"workers/{part(worker_id)}/{verb}")
    if as_json:
        output.document(row)
    else:
        output.echo(f"{row['id']}  {row['name']}  {row['state']}")


def _join_token(client: Client) -> str:
    body = {"kind": "join", "name": "farm worker run", "ttl_seconds": 3600, "device_classes": [ANY]}
    try:
        return str(client.post("keys", body)["token"])
    finally:
        client.close()


def _exec(options: Json, env: dict[str, str], *, poll: bool) -> NoReturn:
    """Become the worker; secrets travel in the environment, never in argv."""
    home = options["home"] or config().home / f"worker-{options['name'] or 'extra'}"
    argv = [sys.executable, "-m", "workers.entry", "--home", str(home)]
    argv += ["--poll"] if poll else []
    for name in ("device", "models", "name", "engine_threads"):
        if options[name] is not None:
            argv += [f"--{name.replace('_', '-')}", str(options[name])]
    become(argv, env)


def become(argv: list[str], env: dict[str, str]) -> NoReturn:
    """Replace this process by another one of ours."""
    kept = dict(os.environ)  # noqa: TID251 - handed on
    kept |= {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH")]))}
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(argv[0], argv, kept | env)  # noqa: S606 - no shell is what we want
