"""`farm up`, `down`, `status`, `logs`: the farm's processes on this machine."""

import time
from collections import deque
from pathlib import Path

import rich_click as click

from orchestrator.cli import output
from orchestrator.cli.client import Client, config, connected, elsewhere, only_here, server
from orchestrator.errors import Conflict, NotFound, Unavailable
from orchestrator.model import Json
from orchestrator.remedies import Say


@click.command()
@click.option("--host", metavar="H", help="Address to listen on; default: 127.0.0.1.")
@click.option("--port", type=click.IntRange(1, 65_535), help="Default: a free one.")
@click.option("--workers", type=click.IntRange(0, 256), default=1, show_default=True)
@click.option("--detach", is_flag=True, help="Return once it answers; `farm down` stops it.")
@output.as_json
def up(host: str | None, port: int | None, workers: int, detach: bool, as_json: bool) -> int:
    """Start a farm (broker, web, dispatcher, workers) and print a one-time sign-in link.

    Without --detach it runs until Ctrl-C, and stops everything it started.
    """
    from orchestrator import bootstrap

    only_here("up")
    settings = config()
    if running := bootstrap.find_running(settings.home):
        raise Conflict(
            f"A farm runs on {settings.home} already: {running.url}",
            Say("Use it, stop it with `farm down`, or set FARM_HOME to another folder."),
        )
    if detach:
        said = bootstrap.run_in_background(settings, workers=workers, host=host, port=port)
        _announce(said, as_json=as_json)
        output.say("It runs in the background. Next: `farm status`, `farm logs`, `farm down`.")
        return 0
    output.say(f"Starting a farm on {settings.home} …")
    farm = bootstrap.start(settings, workers=workers, host=host, port=port)
    try:
        _announce(bootstrap.announcement(farm), as_json=as_json)
        output.say("Ctrl-C stops it.")
        dead = bootstrap.serve(farm)
    except KeyboardInterrupt:
        dead = []
    finally:
        farm.stop()
    if dead:
        raise Unavailable(
            f"{' and '.join(dead)} ended again and again, so the farm was stopped.",
            Say(f"Read {settings.home / 'logs' / (dead[0] + '.log')}, or run `farm doctor`."),
        )
    output.say("Stopped.")
    return 0


@click.command()
@output.as_json
def down(as_json: bool) -> int:
    """Stop the farm of this home; its data stays."""
    from orchestrator import bootstrap

    only_here("down")
    home = config().home
    stopped = bootstrap.stop_running(home)
    if as_json:
        output.document({"stopped": stopped, "home": str(home)})
    output.say("Stopped." if stopped else f"No farm runs on {home}; there is nothing to stop.")
    return 0


@click.command()
@server
@output.as_json
def status(server: str | None, as_json: bool) -> int:
    """Say where the farm is, and how its processes, workers and queues are.

    Of a farm elsewhere (--server, FARM_SERVER) it shows what this key may see.
    """
    import psutil

    from orchestrator import bootstrap

    if url := elsewhere(server):
        return _status_elsewhere(url, as_json=as_json)
    home = config().home
    facts = bootstrap.status(home)
    if facts is None:
        if as_json:
            output.document({"running": False, "url": None, "home": str(home)})
        output.say(f"No farm runs on {home}.\nNext: start one with `farm up`.")
        return output.UNREACHABLE
    client = Client(facts["url"], facts["cli_key"])
    told: Json = {
        "running": True,
        "url": facts["url"],
        "home": str(home),
        "pid": facts["pid"],
        "started_at_ms": facts["started_at_ms"],
        "processes": [
            {"name": name, "pid": pid, "alive": psutil.pid_exists(pid)}
            for name, pid in facts["pids"].items()
        ],
    }
    try:
        told |= _seen(client)
    finally:
        client.close()
    _tell(told, as_json=as_json)
    return 0


def _status_elsewhere(url: str, *, as_json: bool) -> int:
    """Say how a farm is of whose machine only its answers are known."""
    told: Json = {"running": True, "url": url, "home": None, "pid": None, "started_at_ms": None}
    try:
        with connected(url) as client:
            client.get("/healthz")
            told |= {"processes": None, **_seen(client)}
    except Unavailable as error:
        if as_json:
            output.document({"running": False, "url": url, "home": None})
        output.say(error.message)
        output.advise(error.remedies)
        return output.UNREACHABLE
    _tell(told, as_json=as_json)
    return 0


def _seen(client: Client) -> Json:
    """Return workers, queues and checks; None for what this key may not see."""
    told: Json = {}
    for name in ("workers", "queues", "checks"):
        try:
            answer = client.get(name)
        except output.Problem as refused:
            if refused.kind != "not_allowed":
                raise
            told[name] = None
        else:
            told[name] = answer if name == "checks" else answer["data"]
    return told


def _tell(told: Json, *, as_json: bool) -> None:
    if as_json:
        output.document(told)
    else:
        _show(told)


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]…")
@click.option("-n", "--lines", type=click.IntRange(1, 100_000), default=50, show_default=True)
@click.option("-f", "--follow", is_flag=True, help="Go on as lines come; Ctrl-C ends it.")
def logs(names: tuple[str, ...], lines: int, follow: bool) -> int:
    """Show the last lines of the farm's processes: web, dispatcher, broker, worker-1 …"""
    from orchestrator import bootstrap

    only_here("logs")
    home = config().home
    files = {file.stem: file for file in bootstrap.log_files(home)}
    unknown = set(names) - files.keys()
    if unknown or not files:
        what = (
            f"There is no log of {', '.join(sorted(unknown))}" if unknown else "There are no logs"
        )
        known = f"There are: {', '.join(files)}." if files else "Start a farm with `farm up`."
        raise NotFound(f"{what} under {home / 'logs'}.", Say(known))
    wanted = {name: files[name] for name in names or files}
    width = max(map(len, wanted))
    for name, file in wanted.items():
        with file.open(encoding="utf-8", errors="replace") as text:
            for line in deque(text, lines):
                output.echo(f"{name:<{width}} │ {line.rstrip()}")
    if follow:
        _follow(wanted, width)
    return 0


def _follow(files: dict[str, Path], width: int) -> None:
    opened = {name: file.open(encoding="utf-8", errors="replace") for name, file in files.items()}
    try:
        for text in opened.values():
            text.seek(0, 2)
        while True:
            for name, text in opened.items():
                for line in text:
                    output.echo(f"{name:<{width}} │ {line.rstrip()}")
            time.sleep(0.3)
    except KeyboardInterrupt:
        return
    finally:
        for text in opened.values():
            text.close()


def _announce(said: Json, *, as_json: bool) -> None:
    if as_json:
        output.document(said)
        return
    output.echo(f"url      {said['url']}")
    output.echo(f"sign in  {said['sign_in_url']}  (works once)")
    if said["admin_key"]:
        output.echo(f"key      {said['admin_key']}  (an admin key, shown this once)")
    output.echo(f"home     {said['home']}")


def _show(told: Json) -> None:
    known: Json = {"url": told["url"], "home": told["home"]}
    checks = told["checks"]
    if checks:
        found = f"{checks['faults']} faults" if checks["faults"] else "no fault"
        known["books"] = (
            f"{found}, looked at {checks['at'][:19]}" if checks["at"] else "not looked at yet"
        )
    output.facts({name: value for name, value in known.items() if value is not None})
    hidden = [name for name in ("workers", "queues", "checks") if told[name] is None]
    if told["processes"] is None:
        output.say("Its processes and logs are its own machine's to show: `farm status` there.")
    if hidden:
        output.say(f"This key may not see {', '.join(hidden)}; an admin key may.")
    _show_tables(told)
    if checks and (faults := checks["first"]):
        output.say(f"The books do not hold ({checks['faults']} faults):")
        for fault in faults:
            output.say(f"  {fault}")
        output.say("Next: `farm doctor` looks again and says what to do.")


def _show_tables(told: Json) -> None:
    if told["processes"] is not None:
        click.echo()
        rows = [(p["name"], p["pid"], "runs" if p["alive"] else "gone") for p in told["processes"]]
        output.table(("PROCESS", "#PID", "STATE"), rows, empty="No processes.")
    if told["workers"] is not None:
        click.echo()
        workers = [(w["name"], w["device"], w["state"], w["seen_at"]) for w in told["workers"]]
        output.table(("WORKER", "DEVICE", "STATE", "SEEN"), workers, empty="No workers yet.")
    if told["queues"] is not None:
        click.echo()
        depths = [(q["queue"], q["ready"], q["leased"], q["idle_workers"]) for q in told["queues"]]
        names = ("QUEUE", "#READY", "#LEASED", "#IDLE WORKERS")
        output.table(names, depths, empty="All queues are empty.")
