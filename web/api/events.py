"""A job's events as a stream (SSE): one poller per stream, off the hub, by the job's own cursor."""

import json
from collections.abc import Callable, Iterator
from typing import Final

from flask import Response, stream_with_context

from orchestrator.errors import NotFound
from orchestrator.farm import jobs
from orchestrator.model import Event, Job
from web.api import views
from web.context import farm
from web.hub import off_hub, pause

LOOK_SECONDS: Final = 0.4
COMMENT_SECONDS: Final = 15.0
"""A quiet stream says so, before a proxy takes it for dead."""
TERMINAL: Final = frozenset({"succeeded", "failed", "cancelled"})


def stream(job: Job, after: int, *, still: Callable[[], bool]) -> Response:
    """Return the events of a job after this one, until it has ended or its reader may not read.

    Nothing to come is a 204: by that alone an EventSource stops to connect again.
    """
    ended = job.state.is_terminal
    if ended and not off_hub(jobs.events, farm(), (job.id,), after=after, limit=1):
        return Response(status=204)
    return Response(
        stream_with_context(_messages(job.id, after, still)),
        mimetype="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def message(event: Event) -> str:
    """Return one event in the format of text/event-stream."""
    told = event.data | {"at_ms": event.at_ms}
    if event.kind == "state":
        told["error"] = views.error(event.data["error"])
    data = json.dumps(told)
    return f"id: {event.id}\nevent: {event.kind}\ndata: {data}\n\n"


def _messages(job_id: str, after: int, still: Callable[[], bool]) -> Iterator[str]:
    yield "retry: 1000\n\n"
    quiet = 0.0
    while True:
        events = off_hub(jobs.events, farm(), (job_id,), after=after)
        talks = bool(events) or quiet >= COMMENT_SECONDS
        if talks and not still():
            return
        for event in events:
            yield message(event)
            after = event.id
        quiet = 0.0 if talks else quiet + LOOK_SECONDS
        if any(event.kind == "state" and event.data["state"] in TERMINAL for event in events):
            return
        if not events and _is_over(job_id):
            return
        if talks and not events:
            yield ": still here\n\n"
        pause(LOOK_SECONDS)


def _is_over(job_id: str) -> bool:
    """Tell whether a job has ended, or was deleted while somebody watched."""
    try:
        return bool(off_hub(jobs.get, farm(), None, job_id).state.is_terminal)
    except NotFound:
        return True
