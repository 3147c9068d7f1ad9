"""A job's events as a stream (SSE), from the one look that serves all streams of the process."""

import json
import time
from collections.abc import Iterator
from typing import Final

from flask import Response

from orchestrator.errors import Unauthorized
from orchestrator.farm import jobs
from orchestrator.farm.accounts import keys
from orchestrator.model import Event, Job
from web import hangups
from web.auth import asker, current_key, reader
from web.context import farm
from web.streams import News, Stream, streams
from web.threads import in_thread

TERMINAL: Final = frozenset({"succeeded", "failed", "cancelled"})


def stream(job: Job, after: int) -> Response:
    """Return the events of a job after this one, until it has ended or its reader may not read.

    Nothing to come is a 204: by that alone an EventSource stops to connect again.
    """
    ended = job.state.is_terminal
    if ended and not in_thread(jobs.events, farm(), (job.id,), after=after, limit=1):
        return Response(status=204)
    opened = streams().open(job.id, after, account=asker(), who=reader())
    return answer(opened, _messages(opened))


def until_ended(job: Job, after: int, seconds: float) -> None:
    """Wait for a job's end, in memory like a stream and counted as one, for so long at most.

    It ends at once when the client hangs up.

    Raises:
        TooMany: the account has as many streams open as one may.
        Unauthorized: the key was revoked meanwhile.
    """
    until = time.monotonic() + seconds
    opened = streams().open(job.id, after, account=asker(), who=reader())
    told: News | None = None
    try:
        with hangups.watched(opened.close):
            while time.monotonic() < until:
                told = opened.wait(until)
                if told is None or _is_end(told):
                    break
    finally:
        opened.close()
    if told is None and not in_thread(keys.is_live, farm(), current_key().id):
        raise Unauthorized


def answer(opened: Stream, messages: Iterator[str]) -> Response:
    """Return a stream's messages as an answer; the stream ends with it, whoever ends it."""
    told = Response(
        hangups.until_gone(opened.close, messages),
        mimetype="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
    told.call_on_close(opened.close)
    return told


def message(event: Event) -> str:
    """Return one event in the format of text/event-stream."""
    data = json.dumps(event.data | {"at_ms": event.at_ms})
    return f"id: {event.id}\nevent: {event.kind}\ndata: {data}\n\n"


def _messages(opened: Stream) -> Iterator[str]:
    yield "retry: 1000\n\n"
    while news := opened.wait():
        yield from map(message, news.events)
        if _is_end(news):
            return
        if not news.events:
            yield ": still here\n\n"


def _is_end(news: News) -> bool:
    ends = (event.data["state"] for event in news.events if event.kind == "state")
    return news.over or not TERMINAL.isdisjoint(ends)
