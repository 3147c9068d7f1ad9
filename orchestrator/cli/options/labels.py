"""Options for how a job is labelled, told of and kept, and for finding jobs by it."""

import time
from contextlib import suppress

import rich_click as click

from orchestrator.cli.client import F
from orchestrator.cli.usage import span
from orchestrator.model import Json


def _text(value: str) -> str:
    """Return what was typed, unless the shell's bytes were no text."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise click.BadParameter("it is not text in UTF-8.") from None
    return value


def _texts(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> list[str]:
    return [_text(value) for value in values]


def _pairs(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> Json:
    """Return the metadata that `key=value` means, several times."""
    found: Json = {}
    for value in values:
        key, equals, text = _text(value).partition("=")
        if not equals or not key.strip():
            raise click.BadParameter(f"{value!r} is not KEY=VALUE, such as shop=north.")
        if key in found:
            raise click.BadParameter(f"{key!r} is there twice.")
        found[key] = text
    return found


def _events(_ctx: click.Context, _param: click.Parameter, value: str | None) -> list[str] | None:
    if value is None:
        return None
    events = [each.strip() for each in value.split(",") if each.strip()]
    if not events:
        raise click.BadParameter("it names no event, such as job.succeeded.")
    return events


def _moment(ctx: click.Context, param: click.Parameter, value: str | None) -> str | int | None:
    """Return a moment: so long ago, or as it was typed, which the farm reads."""
    if value is None:
        return None
    with suppress(click.BadParameter):
        seconds = span(ctx, param, value)
        return time.time_ns() // 1_000_000 - round((seconds or 0) * 1000)
    return _text(value)


TAG = click.option(
    "--tag", "tags", metavar="WORD", multiple=True, callback=_texts, help="Repeatable."
)
META = click.option(
    "--meta", "metadata", metavar="KEY=VALUE", multiple=True, callback=_pairs, help="Repeatable."
)


def handled(command: F) -> F:
    """Add the options that change nothing of a video."""
    for option in reversed(
        (
            TAG,
            META,
            click.option(
                "--expires-in",
                metavar="SPAN",
                callback=span,
                help="Keep its files so long after its end, as 7d; default: as the plan does.",
            ),
            click.option("--webhook-url", metavar="URL", help="Told of the job's states."),
            click.option(
                "--webhook-events",
                metavar="EVENTS",
                callback=_events,
                help="Of these, as job.succeeded,job.failed; default: of all.",
            ),
        )
    ):
        command = option(command)
    return command


def body_of(intent: Json) -> Json:
    """Return the fields of a request that the options mean."""
    expires = intent["expires_in"]
    asked = {
        "tags": intent["tags"],
        "metadata": intent["metadata"],
        "expires_in": None if expires is None else round(expires),
        "webhook_url": intent["webhook_url"],
        "webhook_events": intent["webhook_events"],
    }
    return {name: value for name, value in asked.items() if value}


def finding(command: F) -> F:
    """Add the options that jobs are found by."""
    for option in reversed(
        (
            TAG,
            META,
            click.option("--model", metavar="ID", help="Only of this model."),
            click.option(
                "--since",
                metavar="WHEN",
                callback=_moment,
                help="Only those made since: 7d ago, or a moment as 2026-11-30T12:00:00Z.",
            ),
            click.option(
                "--until", metavar="WHEN", callback=_moment, help="Only those made before."
            ),
        )
    ):
        command = option(command)
    return command


def query_of(found: Json) -> Json:
    """Return the query that the options mean."""
    return {
        "tag": found["tags"] or None,
        "metadata": [f"{key}={value}" for key, value in found["metadata"].items()] or None,
        "model": found["model"],
        "created_after": found["since"],
        "created_before": found["until"],
    }


def shown(job: Json) -> Json:
    """Return the labels of a job, and how long its files are there, as facts; none it has not."""
    gone, until = job["expired_at"], job["expires_at"]
    return {
        "tags": " ".join(job["tags"]) or None,
        "metadata": ", ".join(f"{key}={value}" for key, value in job["metadata"].items()) or None,
        "expires": f"its files were removed at {gone}" if gone else until,
    }
