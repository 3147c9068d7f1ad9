"""`farm jobs`: list, watch, steer, fetch."""

from typing import Any

import rich_click as click

from orchestrator.cli import destination, output, progress, remedies
from orchestrator.cli import render as rendering
from orchestrator.cli.client import connected, part, server
from orchestrator.cli.options import labels
from orchestrator.cli.usage import span
from orchestrator.model import Json
from orchestrator.states import JobState

JOB = click.argument("job_id", metavar="JOB")
WHAT = click.Choice(["video", "poster", "sheet"])
FETCHED = click.Choice([*WHAT.choices, "frames"])


@click.group()
def jobs() -> None:
    """List, watch, steer and fetch jobs."""


@jobs.command()
@click.option("--state", type=click.Choice([state.value for state in JobState]))
@click.option("--session", "session_id", metavar="ID", help="Only of this session.")
@labels.finding
@click.option("-n", "--limit", type=click.IntRange(1, 100_000), default=50, show_default=True)
@server
@output.as_json
def ls(
    state: str | None,
    session_id: str | None,
    limit: int,
    server: str | None,
    as_json: bool,
    **found: Any,
) -> None:
    """List jobs, newest first: those that are all of what is asked for."""
    query = labels.query_of(found)
    with connected(server) as client:
        if session_id:
            session_id = client.get(f"sessions/{part(session_id)}")["id"]
        rows = client.every("jobs", limit=limit, state=state, session_id=session_id, **query)
    if as_json:
        output.document({"data": rows})
        return
    some = any((state, session_id, *query.values()))
    none = "No such jobs." if some else 'No jobs yet. Next: farm render "a red ball rolls right".'
    output.table(
        ("JOB", "STATE", "#FRAMES", "#GPU-S", "CREATED", "TAGS", "PROMPT"),
        (
            (
                job["id"],
                _state(job),
                f"{job['frames_done']}/{job['frames_total']}",
                output.seconds(job["usage"]["gpu_seconds"]),
                (job["created_at"] or "")[:19],
                " ".join(job["tags"]),
                output.brief(job["prompt"]),
            )
            for job in rows
        ),
        empty=none,
    )


@jobs.command()
@JOB
@server
@output.as_json
def show(job_id: str, server: str | None, as_json: bool) -> None:
    """Show a job."""
    with connected(server) as client:
        job = client.get(f"jobs/{part(job_id)}")
    _print(job, as_json=as_json)


@jobs.command()
@JOB
@server
@output.as_json
def watch(job_id: str, server: str | None, as_json: bool) -> int:
    """Follow a job until it ends or waits for budget; Ctrl-C leaves it running."""
    with connected(server) as client, progress.Progress() as line:
        try:
            job = progress.follow(client, job_id, line, progress.has_ended)
        except KeyboardInterrupt:
            line.pause()
            output.say(f"The job goes on. Next: farm jobs watch {job_id}")
            return rendering.INTERRUPTED
    if job["state"] != "succeeded":
        return rendering.ended(job, as_json=as_json)
    if as_json:
        output.document(job)
    output.say(f"Done: {rendering.charged(job)}. Next: farm jobs download {job_id}")
    return 0


def _intend(verb: str, line: str) -> None:
    @jobs.command(verb, help=line)
    @JOB
    @server
    @output.as_json
    def command(job_id: str, server: str | None, as_json: bool) -> None:
        with connected(server) as client:
            job = client.post(f"jobs/{part(job_id)}/{verb}")
        _print(job, as_json=as_json)


_intend("pause", "Pause a job; what runs stops at the next step, what is done is kept.")
_intend("resume", "Let a paused job go on.")
_intend("finish", "Make the video of a paused job from the frames it has; it paints no more.")
_intend("cancel", "Cancel a job; what it used is charged, what it held is free again.")


@jobs.command()
@JOB
@server
@output.as_json
def rerun(job_id: str, server: str | None, as_json: bool) -> None:
    """Submit a job's request again, with the same seed; it costs again."""
    with connected(server) as client:
        asked = rendering.rerun_body(client, client.get(f"jobs/{part(job_id)}"))
        job = client.post(rendering.SUBMIT, asked)
    _print(job, as_json=as_json)
    output.say(f"Next: farm jobs watch {job['id']}")


@jobs.command()
@JOB
@click.argument("words", metavar="[WORD]…", nargs=-1)
@click.option("--remove", metavar="WORD", multiple=True, help="Take this tag away; repeatable.")
@labels.META
@click.option("--unmeta", metavar="KEY", multiple=True, help="Take this key away; repeatable.")
@server
@output.as_json
def tag(
    job_id: str,
    words: tuple[str, ...],
    remove: tuple[str, ...],
    metadata: Json,
    unmeta: tuple[str, ...],
    server: str | None,
    as_json: bool,
) -> None:
    """Tag a job with WORDs, and give it metadata; what is not named stays."""
    with connected(server) as client:
        before = client.get(f"jobs/{part(job_id)}")
        tags = [each for each in (*before["tags"], *words) if each not in remove]
        keys = metadata | dict.fromkeys(unmeta)
        job = client.patch(f"jobs/{part(job_id)}", {"tags": tags, "metadata": keys})
    _print(job, as_json=as_json)


@jobs.command()
@JOB
@server
@output.as_json
def rm(job_id: str, server: str | None, as_json: bool) -> None:
    """Delete an ended job and its files; its ledger entries stay."""
    with connected(server) as client:
        client.delete(f"jobs/{part(job_id)}")
    if as_json:
        output.document({"id": job_id, "deleted": True})
    output.say("Deleted.")


@jobs.command()
@JOB
@destination.output
@click.option(
    "--what",
    type=FETCHED,
    default="video",
    show_default=True,
    help="frames: as the model painted them, PNGs in a ZIP.",
)
@server
@output.as_json
def download(job_id: str, target: str | None, what: str, server: str | None, as_json: bool) -> None:
    """Fetch a finished job's video, poster, contact sheet or frames, and print the path.

    Without -o: JOB.mp4, JOB.jpg or JOB.zip.
    """
    place = destination.checked(target, what, as_json=as_json) if target is not None else None
    with connected(server) as client:
        job = client.get(f"jobs/{part(job_id)}")
        if place is None:
            name = f"{job['id']}.{destination.ENDINGS[what][0]}"
            place = destination.checked(name, what, as_json=as_json)
        path = rendering.keep(client, job, what, place)
    if as_json:
        output.document({**job, "output": path})
    elif not place.is_stdout:
        output.echo(path)


@jobs.command()
@JOB
@click.option("--what", type=WHAT, default="video", show_default=True)
@click.option(
    "--for",
    "seconds",
    metavar="SPAN",
    default="1h",
    show_default=True,
    callback=span,
    help="As 90s, 1h, 7d; a week at most.",
)
@click.option("--ends-with-key", is_flag=True, help="End it with the key that makes it, too.")
@server
@output.as_json
def share(
    job_id: str, what: str, seconds: float, ends_with_key: bool, server: str | None, as_json: bool
) -> None:
    """Print an address that opens a file of a job without a key, for a while."""
    asked = {"name": what, "seconds": round(seconds), "ends_with_key": ends_with_key}
    with connected(server) as client:
        link = client.post(f"jobs/{part(job_id)}/links", asked)
    if as_json:
        output.document(link)
        return
    output.echo(link["url"])
    output.say(
        f"It is not shown again. It ends {_ends(link)}. `farm jobs unshare {link['id']}` ends it."
    )


@jobs.command()
@click.argument("job_id", metavar="[JOB]", required=False)
@click.option("-n", "--limit", type=click.IntRange(1, 100_000), default=50, show_default=True)
@server
@output.as_json
def links(job_id: str | None, limit: int, server: str | None, as_json: bool) -> None:
    """List the share links of JOB, or of all your jobs, newest first."""
    path = f"jobs/{part(job_id)}/links" if job_id is not None else "links"
    with connected(server) as client:
        rows = client.every(path, limit=limit)
    if as_json:
        output.document({"data": rows})
        return
    output.table(
        ("LINK", "STATE", "JOB", "FILE", "MADE BY", "MADE", "ENDS"),
        (
            (
                row["id"],
                row["state"],
                row["job_id"],
                row["name"],
                row["key_id"] or row["person_id"],
                row["created_at"][:16].replace("T", " "),
                _ends(row),
            )
            for row in rows
        ),
        empty="Nothing is shared. Next: farm jobs share JOB",
    )


@jobs.command()
@click.argument("link_id", metavar="LINK")
@server
@output.as_json
def unshare(link_id: str, server: str | None, as_json: bool) -> None:
    """End a share link at once."""
    with connected(server) as client:
        row = client.delete(f"links/{part(link_id)}")
    if as_json:
        output.document(row)
    output.say(f"It opens nothing any more: {row['state']}.")


@jobs.command()
@JOB
@click.option("--verify", "check", is_flag=True, help="Compute it anew from the ledger.")
@click.option("--csv", "as_csv", is_flag=True, help="Its lines, comma-separated, with a header.")
@server
@output.as_json
def receipt(job_id: str, check: bool, as_csv: bool, server: str | None, as_json: bool) -> int:
    """Show what each unit measured and cost, and what was not charged."""
    output.one_of(csv=as_csv, json=as_json)
    output.one_of(csv=as_csv, verify=check)
    with connected(server) as client:
        if as_csv:
            output.echo(client.sheet(f"jobs/{part(job_id)}/receipt"), nl=False)
            return 0
        if check:
            return _verified(client.get(f"jobs/{part(job_id)}/receipt/audit"), as_json=as_json)
        told = client.get(f"jobs/{part(job_id)}/receipt")
    if as_json:
        output.document(told)
        return 0
    output.table(
        (
            *("UNIT", "#TRY", "#FRAMES", "WORKER", "DEVICE", "OUTCOME", "#GPU-S", "BY STAGE"),
            *("#J", "#LOST", "NOT CHARGED", "#USD"),
        ),
        (
            (
                line["kind"],
                line["attempt"],
                line["frames"],
                line["worker"],
                line["device"],
                line["outcome"],
                output.seconds(line["gpu_seconds"]),
                ", ".join(f"{name} {output.seconds(s)}" for name, s in line["by_stage"].items()),
                _joules(line["energy_mj"]),
                output.seconds(line["lost_gpu_seconds"]),
                ", ".join(dict.fromkeys(lost["why"] for lost in line["not_charged"])),
                f"{line['price_microusd'] / 1e6:.6f}",
            )
            for line in told["lines"]
        ),
        empty="Nothing has run yet.",
    )
    final = "final" if told["final"] else "so far"
    output.echo(
        f"{final}: {output.seconds(told['gpu_seconds'])} GPU-seconds charged, "
        f"{output.seconds(told['lost_gpu_seconds'])} lost by the farm and not charged, "
        f"{told['price']['usd']:.6f} USD"
        + (f" by rate card {' and '.join(told['rates'])}" if told["rates"] else "")
        + (f", {_joules(told['energy_mj'])} J" if told["energy_mj"] is not None else "")
    )
    for name, said in rendering.watermarked(told).items():
        output.echo(f"{name}: {said}")
    for lost in told["not_charged"]:
        output.echo(
            f"not charged: {output.seconds(lost['gpu_seconds'])} GPU-seconds, {lost['why']}"
        )
    return 0


def _ends(link: Json) -> str:
    """Return when a share link ends, and what else ends it."""
    at = link["expires_at"][:16].replace("T", " ")
    return f"{at}, or with key {link['key_id']}" if link["ends_with_key"] else at


def _joules(energy_mj: int | None) -> str | None:
    return None if energy_mj is None else output.seconds(energy_mj / 1000)


def _verified(told: Json, *, as_json: bool) -> int:
    """Say what was checked, or which entry does not fit; return the exit code."""
    if as_json:
        output.document(told)
    else:
        checked = told["checked"]
        output.facts(
            {
                "chain": f"{checked['entries_of_session']} entries of {told['session_id']}, "
                "digested from the first on",
                "head": told["head_sha256"],
                "job": f"{checked['entries_of_job']} entries of {checked['leases']} leases",
                "charged": f"{output.seconds(checked['gpu_seconds'])} GPU-seconds, "
                f"{checked['price_microusd'] / 1e6:.6f} USD",
                "not charged": f"{output.seconds(checked['lost_gpu_seconds'])} GPU-seconds",
            }
        )
    return output.verdict(told["fault"], "The receipt is what the ledger says.")


def _state(job: Json) -> str:
    """Return a job's state in a word, and what it waits for."""
    waits = job.get("waiting_for") or {}
    if (ahead := waits.get("jobs_ahead")) is not None:
        return f"{job['state']} ({f'{ahead} ahead' if ahead else 'next'})"
    why = job["pause_reason"] or waits.get("code") or ("cut off" if job["truncated"] else "")
    return f"{job['state']} ({why})" if why else str(job["state"])


def _print(job: Json, *, as_json: bool) -> None:
    if as_json:
        output.document(job)
        return
    size = f"{job['width']}x{job['height']}"
    steps = "1 step" if job["steps"] == 1 else f"{job['steps']} steps"
    output.facts(
        {
            "job": job["id"],
            "now": progress.summary(job),
            "left": progress.left(job) or None,
            "prompt": output.brief(job["prompt"], 200),
            "understood": output.brief(rendering.understood(job), 200) or None,
            "video": f"{job['seconds']:g} s, {size}, {job['fps']} a second, {steps}",
            **rendering.watermarked(job),
            "model": f"{job['model']}, seed {job['seed']}",
            "session": job["session_id"],
            "created": job["created_at"],
            "finished": job["finished_at"],
            "files": ", ".join(job["artifacts"]) or None,
            **labels.shown(job),
        }
    )
    if (waits := job.get("waiting_for")) and job["state"] == "paused":
        output.say(waits["message"])
        output.advise(remedies.told(waits))
    if error := job["error"]:
        output.say(error["message"])
        output.advise(remedies.told(error))
