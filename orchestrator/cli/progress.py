"""Following a job on stderr: a live line on a terminal, a plain line per change elsewhere."""

import sys
import time
from collections.abc import Callable
from typing import Any, Final, Self

from orchestrator import safe_text
from orchestrator.cli.client import Client, part
from orchestrator.cli.output import say, seconds
from orchestrator.model import Json
from orchestrator.scheduling import positions

POLL_SECONDS: Final = 0.4
ENDED: Final = ("succeeded", "failed", "cancelled")


class Progress:
    """One job's line: stage, frames, GPU-seconds, time left."""

    limit: float | None = None
    """The most that the job may use, where it has no cap of its own."""

    def __init__(self) -> None:
        self._last = ""
        self._live: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich.console import Console

            console = Console(stderr=True, highlight=False)
            dots = console.encoding.startswith("utf")
            self._live = console.status("starting", spinner="dots" if dots else "line")
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.pause()

    def pause(self) -> None:
        """Take the live line away, for a question or for good."""
        if self._live:
            self._live.stop()
            self._live = None

    def show(self, job: Json) -> None:
        """Show a job as it is now."""
        line = safe_text.one_line(summary(job, self.limit))
        remains = left(job)
        if self._live:
            from rich.text import Text

            self._live.update(Text(f"{line} · {remains}" if remains else line))
        elif line != self._last:
            say(f"{line} · {remains}" if remains else line)
        self._last = line


def left(job: Json) -> str:
    """Return the time that a job has left; empty where nobody can know it."""
    likely, latest = job.get("eta_seconds"), job.get("eta_seconds_p90")
    if likely is None or latest is None:
        return ""
    told = _about(likely)
    return f"ETA {told}" if _about(latest) == told else f"ETA {told}, at most {_about(latest)}"


def _about(seconds_left: float) -> str:
    return positions.about(round(1000 * seconds_left))


def summary(job: Json, limit: float | None = None) -> str:
    """Return where a job is, in a line."""
    usage = job["usage"]
    state = job["state"]
    if job.get("pause_reason"):
        state += f" ({job['pause_reason']})"
    if job["truncated"]:
        state += " (cut off)"
    line = f"{state} · {job['frames_done']}/{job['frames_total']} frames"
    if "progress" in job and job["state"] not in ENDED:
        line += f" · {job['progress']:g} %"
    line += f" · GPU-s {seconds(usage['gpu_seconds'])} used"
    line += f" / {seconds(usage['held_gpu_seconds'])} held"
    most = usage.get("max_gpu_seconds")
    if (most := limit if most is None else most) is not None:
        line += f" / {seconds(most)} limit"
    if (waits := job.get("waiting_for")) and job["state"] != "paused":
        line += f" · {waits['message'].rstrip('.')}"
    return line


def follow(client: Client, job_id: str, progress: Progress, until: Callable[[Json], bool]) -> Json:
    """Return the job as soon as `until` holds, showing each change."""
    etag = ""
    job: Json = {}
    while True:
        changed, etag = client.job_if_changed(job_id, etag)
        if changed is not None:
            if not job:
                progress.limit = _room(client, changed)
            job = changed
            progress.show(job)
        elif sys.stderr.isatty():
            progress.show(job)
        if until(job):
            return job
        client.check()
        time.sleep(POLL_SECONDS)


def _room(client: Client, job: Json) -> float | None:
    """Return the GPU-seconds a job without a cap may use: its own and its session's free ones."""
    if job["usage"].get("max_gpu_seconds") is not None or job["state"] in ENDED:
        return None
    free: float = client.get(f"sessions/{part(job['session_id'])}")["available_gpu_seconds"]
    return free + float(job["usage"]["gpu_seconds"]) + float(job["usage"]["held_gpu_seconds"])


def has_ended(job: Json) -> bool:
    """Tell whether a job will go no further by itself: over, or waiting for budget."""
    if job["state"] == "paused":
        return str(job["pause_reason"]) != "user"
    return str(job["state"]) in ENDED
