"""`farm render` and `farm quote`: from a prompt to a file, or to what it would cost."""

import json
import math
import mimetypes
import re
import sys
import uuid
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

import rich_click as click

from orchestrator.cli import destination, output, progress, remedies, words
from orchestrator.cli.client import Client, F, connected, part, server
from orchestrator.cli.destination import Destination, NotKept
from orchestrator.cli.options import labels
from orchestrator.errors import BadRequest, FarmError, Unavailable
from orchestrator.model import Json
from orchestrator.remedies import Rerun, Resume, Say
from orchestrator.states import OnExhausted

INTERRUPTED: Final = 130
SUBMIT: Final = "jobs?alternatives=true"
"""A person reads what a refusal says: it names what would fit."""
CANCEL_SECONDS: Final = 10.0
SIZE: Final = re.compile(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}")


def _size(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    if value is not None and not SIZE.fullmatch(value):
        raise click.BadParameter(f"{value!r} is not WIDTHxHEIGHT, such as 256x256.")
    return value


MOST: Final = 10**9
"""GPU-seconds: thirty years of one device."""


def budget(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """Check seconds of budget: more than nothing, at most three decimal places."""
    if value is None:
        return None
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise click.BadParameter(f"{value!r} is not a number.") from None
    if not number.is_finite() or not 0 < number <= MOST or number != round(number, 3):
        raise click.BadParameter(
            f"it must be above 0 and at most {MOST:,}, with at most three decimal places."
        )
    return float(number)


def _finite(_: click.Context, __: click.Parameter, value: float | None) -> float | None:
    """Refuse what is a float and no number: no range excludes nan."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter("it must be a finite number.")
    return value


def _asked(command: F) -> F:
    """Add the options that say which video."""
    file = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
    above = click.FloatRange(min=0, min_open=True)
    for option in reversed(
        (
            click.argument("prompt", required=False),
            click.option("--seconds", type=above, callback=_finite, help="Length of the video."),
            click.option("--fps", type=click.IntRange(1, 120), help="Frames a second."),
            click.option("--size", metavar="WxH", callback=_size, help="Such as 256x256."),
            click.option("--steps", type=click.IntRange(1, 1000), help="Denoising steps a frame."),
            click.option("--profile", metavar="NAME", help="Such as fast: `farm models show ID`."),
            click.option(
                "--interpolate",
                type=click.IntRange(1, 4),
                help="Paint every so many frames; those between are made of them.",
            ),
            click.option(
                "--upscale",
                type=click.IntRange(1, 8),
                help="Paint so many times smaller and scale up: for less, but softer, and small "
                "things are lost.",
            ),
            click.option(
                "--seed", type=click.IntRange(0, 2**31 - 1), help="Same seed, same video."
            ),
            click.option("--model", metavar="ID", help="See `farm models ls`."),
            click.option("--negative", metavar="TEXT", help="What must not be in it."),
            click.option("--image", type=file, help="A picture to start from."),
            click.option(
                "--image-background",
                metavar="COLOUR",
                callback=lambda c, p, v: v and _colour(v),
                help="Behind what is transparent in it: white, black, ff8800.  [default: white]",
            ),
            click.option("--storyboard", type=file, help="Scenes, as JSON, YAML or CSV."),
            click.option("--max-gpu-seconds", metavar="N", callback=budget, help="Never more."),
            click.option("--fit", is_flag=True, help="Take the best variant that fits the budget."),
            click.option(
                "--on-exhausted",
                type=click.Choice([each.value for each in OnExhausted]),
                help="When the budget runs out: wait for more, make a video of what is "
                "finished, or end.  [default: pause]",
            ),
            click.option(
                "--session",
                metavar="ID",
                help="Whose budget; default: the account's, or the one that the key is bound to.",
            ),
            labels.handled,
            server,
            output.as_json,
        )
    ):
        command = option(command)
    return command


@click.command()
@_asked
@destination.output
def render(target: str | None, server: str | None, as_json: bool, **intent: Any) -> int:
    """Render PROMPT to a video file and print its path; without -o it is named after the prompt.

    With a running farm (or --server) the job goes there; else a farm is started for it and
    stopped after. Ctrl-C cancels; what was rendered until then is charged.
    """
    request = _request(intent)
    name = destination.free_name(intent["prompt"] or "storyboard") if target is None else target
    place = destination.checked(name, as_json=as_json)
    with connected(server, embed=1) as client:
        promise = uuid.uuid4().hex
        job: Json | None = None
        line = progress.Progress()
        try:
            job = client.post(SUBMIT, promise=promise, **request)
            say_fitted(job["quote"])
            say_understood(job)
            with line:
                job = progress.follow(client, job["id"], line, progress.has_ended)
            if job["state"] != "succeeded":
                return ended(job, as_json=as_json)
            path = _kept(client, job, place)
        except KeyboardInterrupt:
            line.pause()
            job = job or client.post(SUBMIT, promise=promise, **request)
            return _interrupted(client, job, as_json=as_json)
    output.say(f"{words.cut_off(job) or 'Done'}: {charged(job)}.")
    if as_json:
        output.document({**job, "output": path})
    elif not place.is_stdout:
        output.echo(path)
    return 0


@click.command()
@_asked
def quote(server: str | None, as_json: bool, **intent: Any) -> int:
    """Say what PROMPT would cost; no job is made and nothing is charged.

    Without a running farm one is started for the answer, without workers, and stopped after.
    """
    request = _request(intent)
    with connected(server, embed=0) as client:
        told = client.post("quotes", **request)
    if as_json:
        output.document(told)
        return 0
    output.facts(
        {
            "GPU-seconds": f"{output.seconds(told['gpu_seconds_p50'])} likely, "
            f"{output.seconds(told['gpu_seconds_p90'])} at most in nine of ten cases",
            "charged": _most(told),
            "price": f"{told['price']['usd']:.6f} USD by rate card {told['rates']}",
            "start-up": f"{output.seconds(told['startup']['gpu_seconds'])} GPU-seconds where no "
            "worker has the model loaded; not charged",
            "based on": told["basis"],
            "video": words.video(told),
            **watermarked(told),
            "fits": words.fits(told),
        }
    )
    say_fitted(told)
    say_understood(told)
    for other in told["alternatives"]:
        cost = output.seconds(other["gpu_seconds_p90"])
        output.echo(f"cheaper      {other['label']}: {cost} GPU-seconds")
    if refused := told["why_not"]:
        output.say(refused["message"])
        output.say_held(refused)
        output.advise(remedies.told(refused))
    return 0


def _most(told: Json) -> str:
    ceiling = told["gpu_seconds_ceiling"]
    if ceiling is None:
        return f"what is measured; {output.seconds(told['gpu_seconds_held'])} held at first"
    return f"{output.seconds(ceiling)} GPU-seconds at most, held from the start"


def watermarked(told: Json) -> Json:
    """Return the watermark of a quote, a job or a receipt as a fact; none where it has none."""
    mark = told.get("watermark")
    return {"watermark": f"{mark['text']!r}, by plan {mark['plan']}"} if mark else {}


def say_fitted(quoted: Json) -> None:
    """Say what gave, where --fit changed the wish."""
    if quoted.get("fitted"):
        output.say(f"To fit the budget and the plan: {quoted['fitted']}.")


def say_understood(told: Json) -> None:
    """Say what a quote's or job's shots show, where a model has words of its own, and the notes."""
    if seen := understood(told):
        output.say(f"understood: {seen}")
    for note in told["notes"]:
        output.say(f"note: {note}")


def understood(told: Json) -> str:
    """Return what the shots show, one after the other."""
    return " → ".join(shot["understood"] for shot in told["shots"] if shot["understood"])


def charged(job: Json) -> str:
    """Return what a job cost so far, and what of it was the farm's loss."""
    used = job["usage"]
    over = used["over_quote_gpu_seconds"]
    beyond = f", {output.seconds(over)} more, over its quote, were not" if over else ""
    return f"{output.seconds(used['gpu_seconds'])} GPU-seconds were charged{beyond}"


_AS_THEY_ARE: Final = (
    "seconds", "fps", "size", "steps", "profile", "interpolate", "upscale", "seed", "model",
    "image_background",
)  # fmt: skip


def _request(intent: Json) -> Json:
    """Return the arguments of the POST: JSON, or a form when there are files."""
    typed = _read_stdin() if intent["prompt"] == "-" else intent["prompt"]
    prompt = _text(typed or "", "prompt").strip()
    if not prompt and not intent["storyboard"]:
        raise BadRequest(
            "There is no prompt.", Say('Say what to render: farm render "a red ball rolls left".')
        )
    body = {
        "prompt": prompt or None,
        "negative_prompt": intent["negative"] and _text(intent["negative"], "negative prompt"),
        "session_id": intent["session"],
        **{name: intent[name] for name in _AS_THEY_ARE},
        "max_gpu_seconds": intent["max_gpu_seconds"],
        "fit": intent["fit"] or None,
        "on_exhausted": intent["on_exhausted"],
        **labels.body_of(intent),
    }
    body = {name: value for name, value in body.items() if value is not None}
    files = {}
    for name in ("image", "storyboard"):
        if path := intent[name]:
            kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            files[name] = (path.name, path.read_bytes(), kind)
    if files:
        return {"data": {name: _in_a_form(value) for name, value in body.items()}, "files": files}
    return {"body": body}


def _in_a_form(value: object) -> str:
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


def _colour(text: str) -> str:
    """Return a colour as the API takes it; a shell takes what follows a `#` for a comment."""
    named = {"white": "ffffff", "black": "000000"}.get(text.lower(), text.lower().lstrip("#"))
    if not re.fullmatch(r"[0-9a-f]{6}", named):
        raise click.BadParameter("say white, black or six hexadecimal digits, as ff8800.")
    return f"#{named}"


def _read_stdin() -> str:
    return sys.stdin.buffer.read().decode("utf-8", "surrogateescape")


def _text(typed: str, what: str) -> str:
    """Return what was typed, unless the shell's bytes were no text."""
    try:
        typed.encode()
    except UnicodeEncodeError as error:
        raise BadRequest(
            f"The {what} is not text in UTF-8: character {error.start + 1} is something else.",
            Say("Write it in UTF-8; nothing was started or charged."),
        ) from None
    return typed


def keep(client: Client, job: Json, what: str, target: Destination) -> str:
    """Fetch a file of a finished job into its place; return the place's name.

    Raises:
        NotKept: the place takes it no more.
        FarmError: the farm does not send it.
    """
    path = f"/api/v1/jobs/{part(job['id'])}/{'frames.zip' if what == 'frames' else what}"
    promised = job["artifacts"].get(what, {})
    return target.save(lambda file: client.fetch(path, file, promised.get("sha256")))


def _kept(client: Client, job: Json, target: Destination) -> str:
    """Fetch a new video into its place.

    Raises:
        FarmError: it is made, and not there; says how to get it without rendering again.
    """
    try:
        return keep(client, job, "video", target)
    except FarmError as error:
        said = f"The video of {job['id']} is made ({charged(job)}), but not here: {error.message}"
        kind = Unavailable if isinstance(error, Unavailable) else NotKept
        raise kind(said, Say(_download(client, job)), job_id=job["id"]) from None


def _download(client: Client, job: Json) -> str:
    """Say how a finished video is fetched."""
    first = "start the farm with `farm up --detach`, then " if client.own else ""
    return f"It costs nothing more: {first}`farm jobs download {job['id']} -o FILE.mp4`."


def ended(job: Json, *, as_json: bool) -> int:
    """Say why there is no video, what it cost and what to do next; return the exit code."""
    error = job["error"] or {}
    why = f": {error['message']}" if error else "."
    over_budget = job["state"] == "paused"
    if over_budget:
        reason = job["pause_reason"]
        waits = job.get("waiting_for") or {}
        what = f"The job is paused ({reason}){why}"
        if waits and not error:
            what = f"The job is paused ({reason}): {waits['message']}"
        helping = remedies.told(error) or remedies.told(waits) or (Resume(job["id"]),)
    else:
        what = f"The job {job['state'] if job['state'] != 'cancelled' else 'was cancelled'}{why}"
        helping = remedies.told(error) or (Rerun(job["id"]),)
    output.say(f"{what} {charged(job)}, {job['frames_done']} of {job['frames_total']} frames done.")
    output.advise(helping)
    if as_json:
        output.document({**job, "output": None})
    spent_up = over_budget or error.get("code") == "budget_exceeded"
    return output.OVER_BUDGET if spent_up else output.FAILED


def _interrupted(client: Client, job: Json, *, as_json: bool) -> int:
    """Detach or cancel, as the person says; off a terminal cancel."""
    if job["state"] == "succeeded":
        output.say(f"Interrupted; the video of {job['id']} is made. {_download(client, job)}")
        return INTERRUPTED
    at_terminal = sys.stdin.isatty() and sys.stderr.isatty()
    if client.own is None and at_terminal and not as_json:
        answer = click.prompt(
            "Detach (the job goes on) or cancel it?",
            type=click.Choice(["detach", "cancel"]),
            default="cancel",
            err=True,
        )
        if answer == "detach":
            output.say(f"The job goes on. Next: farm jobs watch {job['id']}")
            return INTERRUPTED
    job = cancelled(client, job)
    output.say(f"Interrupted; the job is {job['state']}. {charged(job)}.")
    if job["state"] == "succeeded":
        output.say(f"Next: {_download(client, job)}")
    else:
        output.say(f"Next: `farm jobs rerun {job['id']}` starts it anew; it will cost again.")
    if as_json:
        output.document({**job, "output": None})
    return INTERRUPTED


def cancelled(client: Client, job: Json) -> Json:
    """Cancel a job and wait a little, so that its bill is final."""
    import time

    until = time.monotonic() + CANCEL_SECONDS
    try:
        job = client.post(f"jobs/{part(job['id'])}/cancel")
    except output.Problem:  # it ended first
        return dict(client.get(f"jobs/{part(job['id'])}"))
    while job["state"] not in progress.ENDED and time.monotonic() < until:
        time.sleep(progress.POLL_SECONDS)
        job = client.get(f"jobs/{part(job['id'])}")
    return job


def rerun_body(client: Client, job: Json) -> Json:
    """Return the request that asks for a job again, whole, with the same seed.

    Raises:
        BadRequest: the farm does not say all of it.
    """
    body = job.get("request")
    if not body:
        raise BadRequest(
            f"The farm does not say what {job['id']} was asked with.",
            Say("Update the farm; or render again with the prompt, files and limits of that job."),
        )
    if "webhook_url" not in body and (webhook := job["webhook_id"]):
        urls = [row["url"] for row in client.every("webhooks") if row["id"] == webhook]
        if not urls:
            raise BadRequest(
                f"{job['id']} told a webhook that is not there any more.",
                Say("Submit it anew without one: its request is in `farm jobs show --json`."),
            )
        events = {"webhook_events": job["webhook_events"]} if job["webhook_events"] else {}
        body = {**body, "webhook_url": urls[0], **events}
    return dict(body)
