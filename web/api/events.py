"""A job's events as a stream (SSE): one poller per stream, off the hub, by the job's own cursor."""

import json
from collections.abc import Iterator
from typing import Final

from flask import Response, stream_with_context

from orchestrator.farm import jobs
from orchestrator.model import Event
from web.context import farm
from web.hub import off_hub, pause

LOOK_SECONDS: Final = 0.4
COMMENT_SECONDS: Final = 15.0
"""A quiet stream says so, before a proxy takes it for dead."""
TERMINAL: Final = frozenset({"succeeded", "failed", "cancelled"})


def stream(job_id: str, after: int) -> Response:
    """Return the events of a job after this one, until it has ended."""
    return Response(
        stream_with_context(_messages(job_id, after)),
        mimetype="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def message(event: Event) -> str:
    """Return one event in the format of text/event-stream."""
    data = json.dumps(event.data | {"at_ms": event.at_ms})
    return f"id: {event.id}\nevent: {event.kind}\ndata: {data}\n\n"


def _messages(job_id: str, after: int) -> Iterator[str]:
    yield "retry: 1000\n\n"
    quiet = 0.0
    while True:
        events = off_hub(jobs.events, farm(), (job_id,), after=after)
        for event in events:
            yield message(event)
            after = event.id
            if event.kind == "state" and event.data["state"] in TERMINAL:
                return
        quiet = 0.0 if events else quiet + LOOK_SECONDS
        if not events and off_hub(jobs.get, farm(), None, job_id).state.is_terminal:
            return
        if quiet >= COMMENT_SECONDS:
            yield ": still here\n\n"
            quiet = 0.0
        pause(LOOK_SECONDS)
