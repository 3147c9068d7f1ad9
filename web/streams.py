"""Every open event stream of this process: one look for all of them, told to each in memory.

A stream watches one job. One thread (a greenlet in gunicorn) looks into the database for all
watched jobs together, so that a look costs the same for one stream and for a thousand, and hands
each stream what is new to it. A stream waits in memory, and ends as soon as its client hangs up.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import structlog
from flask import Flask, current_app

from orchestrator import logs
from orchestrator.errors import FarmError, TooMany, Unavailable
from orchestrator.farm import Farm, jobs
from orchestrator.farm.jobs import waiting
from orchestrator.model import Event
from orchestrator.remedies import Say
from web.auth import live_among
from web.threads import in_thread, pause

log = structlog.get_logger()
T = TypeVar("T")

LOOK_SECONDS: Final = 0.4
"""Between two looks for events; also the fastest that a page is drawn anew."""
SOON_SECONDS: Final = 0.05
"""The same where a stream was opened meanwhile."""
WAITS_SECONDS: Final = 2.0
"""Between two looks at what quiet jobs wait for, and at which are gone: that changes without an
event of the job, as when the farm is frozen, a worker comes, or another session's job ends."""
COMMENT_SECONDS: Final = 15.0
"""A quiet stream says so, before a proxy takes it for dead."""
AT_ONCE: Final = 2_000
"""Events of one look; where there are more, the next look comes at once."""
AT_A_TIME: Final = 20
BREATH_SECONDS: Final = 0.001
"""After so many streams were woken others have their turn, who would wait for all of them."""
BEHIND: Final = 4_000
"""Events that wait for a client that reads slowly; beyond, its stream ends and it comes again."""
ALL_STREAMS: Final = 3_000
"""Of one process: below its connections, so that others are still answered."""
RETRY_SECONDS: Final = 10


@dataclass(frozen=True, slots=True)
class News:
    """News for a stream; nothing of it: a sign of life is due."""

    events: tuple[Event, ...]
    moved: bool
    """The job waits for another thing than its page shows."""
    over: bool
    """The job has ended, or was deleted: no more comes."""


@dataclass(slots=True, eq=False)
class Watched:
    """One job that streams watch."""

    job_id: str
    after: int
    """The event that the next look begins behind; an older one than `newest` for who came late."""
    newest: int = 0
    streams: set["Stream"] = field(default_factory=set)
    waits: tuple[str, str] | None = None
    """A code and a sentence of what it waits for, empty for nothing; None: nobody has looked."""
    over: bool = False
    version: int = 0
    """Grows with each piece of news."""
    _drawing: Any = field(default_factory=threading.Lock)
    _drawn: dict[str, tuple[int, Any]] = field(default_factory=dict)

    def drawn(self, name: str, draw: Callable[[], T]) -> T:
        """Return what `draw` gives, called once for all streams that have the same news."""
        with self._drawing:
            version = self.version
            if name not in self._drawn or self._drawn[name][0] != version:
                self._drawn[name] = (version, draw())
            found: T = self._drawn[name][1]
            return found


class Stream:
    """One open stream. It is opened in its view, so that one too many is refused there."""

    def __init__(
        self, room: "Streams", watched: Watched, after: int, *, account: str, who: str
    ) -> None:
        self.watched, self.after, self.account, self.who = watched, after, account, who
        self.told_at = time.monotonic()
        self.closed = False
        self.follows = False
        """Tell whether it says what its job waits for, as pages do."""
        self._known, self._shown = "", ""
        self._room = room
        self._lock = threading.Lock()
        self._events: list[Event] = []
        self._moved = self._stirred = False
        self._rings = threading.Event()

    def follow(self, known: str) -> None:
        """Tell what the job waits for too; its page shows this code of it."""
        self._known, self.follows = known, True

    def shows(self, sentence: str) -> None:
        """Note what its page now says that the job waits for."""
        self._known, self._shown = "", sentence

    def wait(self, until: float | None = None) -> News | None:
        """Return the next news. None: it has ended, as its reader may not read on or is gone.

        `until`: a time of the monotonic clock at which there is nothing new, if nothing came.
        """
        while not (self._stirred or self.closed):
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                break
            self._rings.wait(left)
            self._rings.clear()
        if self.closed:
            return None
        with self._lock:
            news = News(tuple(self._events), moved=self._moved, over=self.watched.over)
            self._events, self._moved, self._stirred = [], False, False
        return news

    def is_due(self, events: list[Event], now: float) -> bool:
        """Tell whether it has something to hear, a sign of life for one."""
        if self._known and self.watched.waits and self.watched.waits[0] == self._known:
            self.shows(self.watched.waits[1])  # what its page was loaded with
        is_new = bool(events) and events[-1].id > self.after
        is_quiet = now - self.told_at >= COMMENT_SECONDS
        return is_new or is_quiet or self.watched.over or self._has_moved()

    def hear(self, events: list[Event], now: float) -> None:
        """Take what is new to it, and wake its reader."""
        with self._lock:
            fresh = [event for event in events if event.id > self.after]
            self._events += fresh
            self.after = fresh[-1].id if fresh else self.after
            if self._has_moved():
                self._moved = True
                self.shows(self.watched.waits[1] if self.watched.waits else "")
            self.told_at, self._stirred = now, True
            self.closed |= len(self._events) > BEHIND
        self._rings.set()

    def close(self) -> None:
        """End it; safe to call again, and on the hub."""
        self.closed = True
        self._rings.set()
        self._room.leave(self)

    def _has_moved(self) -> bool:
        if not self.follows or self.watched.waits is None:
            return False
        code, sentence = self.watched.waits
        if self._known:  # its page has not been drawn since it was loaded
            return code != self._known
        return sentence != self._shown


class Streams:
    """The streams of one process, and the one thread that looks for all of them."""

    def __init__(self, app: Flask, most: int) -> None:
        self._app, self._most = app, most
        self._lock = threading.Lock()
        self._jobs: dict[str, Watched] = {}
        self._open: Counter[str] = Counter()
        self._looker: threading.Thread | None = None
        self._came = threading.Event()
        self._asked_at = self._checked_at = 0.0

    def open(
        self, job_id: str, after: int, *, account: str, who: str, waits: str | None = None
    ) -> Stream:
        """Watch a job from this event on, for an account, while `who` may read.

        `waits`: tell what the job waits for too, of which its page shows this code.

        Raises:
            TooMany: the account has as many streams open as one may.
            Unavailable: the process has.
        """
        with self._lock:
            self._check_room(account)
            watched = self._jobs.setdefault(job_id, Watched(job_id, after))
            watched.after = min(watched.after, after)  # what others have had is new to this one
            stream = Stream(self, watched, after, account=account, who=who)
            if waits is not None:
                stream.follow(waits)
            watched.streams.add(stream)
            self._open[account] += 1
            looker = None
            if self._looker is None:
                looker = threading.Thread(target=self._work, name="streams", daemon=True)
                self._looker = looker
        if looker is not None:
            looker.start()  # waits until it runs: with the lock, one who hangs up would meet it
        self._came.set()
        return stream

    def leave(self, stream: Stream) -> None:
        """Forget a stream."""
        watched = stream.watched
        with self._lock:
            if stream not in watched.streams:
                return
            watched.streams.remove(stream)
            self._open[stream.account] -= 1
            if not self._open[stream.account]:
                del self._open[stream.account]
            if not watched.streams and self._jobs.get(watched.job_id) is watched:
                del self._jobs[watched.job_id]
        self._came.set()  # who looks for nobody any more stops

    def end_of(self, readers: Collection[str]) -> None:
        """End the streams of these readers; those in other processes end with their next look."""
        with self._lock:
            found = [each for job in self._jobs.values() for each in job.streams]
        for stream in found:
            if stream.who in readers:
                stream.close()

    def count(self) -> int:
        """Return how many are open."""
        return self._open.total()

    def look(self) -> bool:
        """Look once for all streams and tell them; True: there is more than one look takes."""
        with self._lock:
            watched = dict(self._jobs)
            cursors = {job_id: each.after for job_id, each in watched.items()}
            streams = {job_id: tuple(each.streams) for job_id, each in watched.items()}
        ended = self._ask(watched, streams)  # before the events, which then have its last ones
        this_farm: Farm = current_app.extensions["farm"]
        found = in_thread(jobs.newer_events, this_farm, cursors, limit=AT_ONCE)
        is_full = len(found) == AT_ONCE
        events: dict[str, list[Event]] = {}
        for event in found:
            events.setdefault(event.job_id, []).append(event)
        for job_id, each in watched.items():
            each.over = job_id in ended and not is_full
            newest = events[job_id][-1].id if job_id in events else 0
            each.version += newest > each.newest or job_id in ended
            each.newest = max(each.newest, newest)
        now = time.monotonic()
        due = [
            (stream, events.get(job_id, []))
            for job_id, many in streams.items()
            for stream in many
            if stream.is_due(events.get(job_id, []), now)
        ]
        live = self._end_the_gone({stream.who for stream, _ in due}, streams, now)
        for number, (stream, fresh) in enumerate(due, 1):
            if number % AT_A_TIME == 0:
                pause(BREATH_SECONDS)
            if stream.who in live:
                stream.hear(fresh, now)
            else:
                stream.close()
        with self._lock:
            for job_id, fresh in events.items():
                # Who came while this look was under way has heard nothing of it yet.
                heard = (stream.after for stream in watched[job_id].streams)
                watched[job_id].after = min(heard, default=fresh[-1].id)
        return is_full

    # --- inside -------------------------------------------------------------------------------

    def _end_the_gone(
        self, readers: set[str], streams: dict[str, tuple[Stream, ...]], now: float
    ) -> frozenset[str]:
        """Return those of these readers who may read on; now and then end all who may not."""
        is_time = now - self._checked_at >= WAITS_SECONDS
        everyone = [stream for many in streams.values() for stream in many] if is_time else []
        asked = readers | {stream.who for stream in everyone}
        if not asked:
            return frozenset()
        this_farm: Farm = current_app.extensions["farm"]
        live = in_thread(live_among, this_farm, asked)
        if is_time:
            self._checked_at = now
        for stream in everyone:
            if stream.who not in live:
                stream.close()
        return live

    def _check_room(self, account: str) -> None:
        if self._open[account] >= self._most:
            raise TooMany(
                f"This account has {self._most} event streams open, as many as it may.",
                Say("Close some, or ask for the job's state now and then."),
                retry_after_seconds=RETRY_SECONDS,
            )
        if self._open.total() >= ALL_STREAMS:
            raise Unavailable(
                "This process has as many event streams open as it can.",
                retry_after_seconds=RETRY_SECONDS,
            )

    def _work(self) -> None:
        logs.of_request("")  # not that of the first one who came
        try:
            with self._app.app_context():
                while self._is_needed():
                    self._rest(is_full=self._tries_to_look())
        finally:  # after an error of ours nobody waits for ever: their clients come again
            with self._lock:
                self._looker = None
                left = [stream for each in self._jobs.values() for stream in each.streams]
            for stream in left:
                stream.close()

    def _is_needed(self) -> bool:
        with self._lock:
            if not self._jobs:
                self._looker = None
            return bool(self._jobs)

    def _tries_to_look(self) -> bool:
        try:
            return self.look()
        except FarmError as error:  # the database is away: the streams stay, and hear of it later
            log.warning("no look for event streams", error=error.message)
            return False

    def _rest(self, *, is_full: bool) -> None:
        self._came.clear()
        if not is_full:
            pause(SOON_SECONDS)
            self._came.wait(LOOK_SECONDS - SOON_SECONDS)

    def _ask(
        self, watched: dict[str, Watched], streams: dict[str, tuple[Stream, ...]]
    ) -> frozenset[str]:
        """Ask what jobs wait for, if it is time, and return those that have ended."""
        now = time.monotonic()
        is_time = now - self._asked_at >= WAITS_SECONDS
        self._asked_at = now if is_time else self._asked_at
        asked = {job_id for job_id, each in watched.items() if is_time or each.waits is None}
        if not asked:
            return frozenset()
        this_farm: Farm = current_app.extensions["farm"]
        shown = {job_id for job_id in asked if any(each.follows for each in streams[job_id])}
        there = in_thread(waiting.reasons, this_farm, shown) if shown else {}
        rest = (
            in_thread(jobs.still_open, this_farm, asked - shown) if asked - shown else frozenset()
        )
        for job_id in asked:
            reason = there.get(job_id)
            waits = (reason.code, reason.what) if reason else ("", "")
            each = watched[job_id]
            each.version += waits != each.waits
            each.waits = waits
        return frozenset(asked - there.keys() - rest)


def streams() -> Streams:
    """Return the streams of this process."""
    found: Streams = current_app.extensions["streams"]
    return found


def init_app(app: Flask, most: int) -> None:
    """Have this process look for all its streams together, `most` of one account at once."""
    app.extensions["streams"] = Streams(app, most)
