"""The job page fills in live: one SSE stream of HTML, swapped in by htmx.

A message says what is now, not what changed, so that a stream that broke needs nothing but to
be opened again. Unnamed messages are swapped; the named one, `done`, closes the stream.
"""

from collections.abc import Iterator
from typing import Final

from flask import Response, render_template, request, stream_with_context
from flask_login import login_required

from orchestrator.errors import NotFound
from orchestrator.farm import jobs
from orchestrator.farm.jobs import waiting
from web.auth import still_live
from web.context import farm
from web.hub import off_hub, pause
from web.pages.blueprint import bp
from web.pages.page_data import me, room_of

LOOK_SECONDS: Final = 0.4
"""Time between two looks for events; also the fastest it redraws the page."""
WAITS_SECONDS: Final = 2.0
"""Time between two looks at what a quiet job waits for: that changes without an event of the job,
as when the farm is frozen, a worker comes, or another session's job ends."""
COMMENT_SECONDS: Final = 15.0
"""A quiet stream says so, before a proxy takes it for dead."""
ID_DIGITS: Final = 19
"""Event ids are shorter in both databases."""
REDRAWS: Final = frozenset({"state", "frame"})
"""Events after which more than the meter has changed."""


@bp.get("/jobs/<job_id>/live")
@login_required
def live(job_id: str) -> Response:
    """Stream the parts of a job's page as they change, until the job or the sign-in has ended."""
    account = me()
    over = off_hub(jobs.get, farm(), account, job_id).state.is_terminal
    newest = request.headers.get("Last-Event-ID") or request.args.get("after", "0")
    after = int(newest) if newest.isdecimal() and len(newest) < ID_DIGITS else 0
    known = request.args.get("waits", "")
    return Response(
        stream_with_context(_messages(account, job_id, after, known, over=over)),
        mimetype="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


def message(html: str, event_id: int) -> str:
    """Return a fragment as one unnamed SSE message."""
    lines = "".join(f"data: {line}\n" for line in html.splitlines() if line.strip())
    return f"id: {event_id}\n{lines}\n"


def _messages(account: str, job_id: str, after: int, known: str, *, over: bool) -> Iterator[str]:
    yield "retry: 1000\n\n"
    quiet, asked_ago = 0.0, 0.0
    code, now = off_hub(_waits_for, account, job_id)
    shown = now if code == known else None  # None: the page says something else
    while True:
        events = off_hub(jobs.events, farm(), (job_id,), after=after)
        if not events and asked_ago >= WAITS_SECONDS:
            asked_ago, (_, now) = 0.0, off_hub(_waits_for, account, job_id)
        moved = now != shown
        if (events or moved) and not still_live():
            return
        if events or moved or over:
            after, quiet = events[-1].id if events else after, 0.0
            room = off_hub(room_of, account, job_id)
            over = room["view"].is_over
            now = shown = room["waiting"]
            fresh = over or moved or any(event.kind in REDRAWS for event in events)
            yield message(render_template("_live.html", fresh_frames=fresh, **room), after)
        if over:
            yield f"event: done\nid: {after}\ndata: the job has ended\n\n"
            return
        if quiet >= COMMENT_SECONDS:
            if not still_live():
                return
            quiet = 0.0
            yield ": still here\n\n"
        quiet, asked_ago = quiet + LOOK_SECONDS, asked_ago + LOOK_SECONDS
        pause(LOOK_SECONDS)


def _waits_for(account: str, job_id: str) -> tuple[str, str]:
    """Return what a job waits for, as a code and a sentence; empty: for nothing."""
    try:
        now = waiting.reason(farm(), jobs.get(farm(), account, job_id))
    except NotFound:  # deleted meanwhile
        now = None
    return (now.code, now.what) if now else ("", "")
