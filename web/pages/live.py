"""The job page fills in live: one SSE stream of HTML, swapped in by htmx.

A message says what is now, not what changed, so that a stream that broke needs nothing but to
be opened again. Unnamed messages are swapped; the named one, `done`, closes the stream.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from flask import Response, render_template, request
from flask_login import login_required
from flask_wtf.csrf import generate_csrf

from orchestrator.errors import NotFound
from orchestrator.farm import jobs
from web.api.events import answer
from web.auth import asker, reader
from web.context import farm
from web.pages.blueprint import bp
from web.pages.page_data import me, room_of
from web.streams import Stream, streams
from web.threads import in_thread

ID_DIGITS: Final = 19
"""Event ids are shorter in both databases."""
REDRAWS: Final = frozenset({"state", "frame"})
"""Events after which more than the meter has changed."""
TOKEN: Final = "\0token\0"  # noqa: S105 - where one goes
"""Place of each browser's own CSRF token in what all of them are sent."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """The parts of a job's page, drawn once for every browser that shows it."""

    data: str
    """As lines of a message, with TOKEN for each browser's own."""
    waiting: str
    is_over: bool


@bp.get("/jobs/<job_id>/live")
@login_required
def live(job_id: str) -> Response:
    """Stream the parts of a job's page as they change, until the job or the sign-in has ended."""
    found = in_thread(jobs.get, farm(), me(), job_id)
    newest = request.headers.get("Last-Event-ID") or request.args.get("after", "0")
    after = int(newest) if newest.isdecimal() and len(newest) < ID_DIGITS else 0
    known = request.args.get("waits", "")
    opened = streams().open(job_id, after, account=asker(), who=reader(), waits=known)
    return answer(opened, _messages(found.account_id, opened))


def lines_of(html: str) -> str:
    """Return a fragment as the data of one SSE message."""
    return "".join(f"data: {line}\n" for line in html.splitlines() if line.strip())


def _messages(account: str, opened: Stream) -> Iterator[str]:
    yield "retry: 1000\n\n"
    watched = opened.watched
    while news := opened.wait():
        if not (news.events or news.moved or news.over):
            yield ": still here\n\n"
            continue
        redraws = any(event.kind in REDRAWS for event in news.events)
        name = "whole" if news.over or news.moved or redraws else "meter"
        try:
            drawn = watched.drawn(name, partial(_drawn, account, watched.job_id, name))
        except NotFound:  # deleted meanwhile
            return
        opened.shows(drawn.waiting)
        yield f"id: {opened.after}\n{drawn.data.replace(TOKEN, generate_csrf())}\n"
        if news.over or drawn.is_over:
            yield f"event: done\nid: {opened.after}\ndata: the job has ended\n\n"
            return


def _drawn(account: str, job_id: str, name: str) -> Drawn:
    room = in_thread(room_of, account, job_id)
    html = render_template("_live.html", fresh_frames=name == "whole", **room)
    return Drawn(
        data=lines_of(html.replace(generate_csrf(), TOKEN)),
        waiting=room["waiting"],
        is_over=room["view"].is_over,
    )
