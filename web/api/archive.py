"""A job's frames as one ZIP, made while it is sent: nothing of it is ever whole in memory."""

from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from flask import Response

from orchestrator.errors import NotFound, PlanLimit
from orchestrator.farm import jobs
from orchestrator.farm.jobs import UnitView, keeping
from orchestrator.farm.jobs.extensions import video_frames
from orchestrator.model import Job
from orchestrator.remedies import ChangePlan, Rerun, Say
from orchestrator.states import UnitKind
from orchestrator.wire import MASTER
from web.auth import account_scope
from web.context import artifacts, farm, settings
from web.media import film
from web.threads import in_thread


def frames_zip(job: Job) -> Response:
    """Return the frames that a job has painted, as PNGs named by their number in the video.

    Raises:
        NotFound: there is none yet, or they are not kept any more.
        Expired: they were removed when their time was over.
        PlanLimit: the job's plan puts a watermark on its pictures, and these have none.
    """
    keeping.check_kept(job)
    if mark := job.quote.watermark:
        raise PlanLimit(
            f"The frames have no watermark, and this job was submitted under the plan "
            f"{mark.plan}, whose pictures have one.",
            Say("Take the video, or run the job again under another plan."),
            ChangePlan(job.account_id),
            Rerun(job.id),
            limit="watermark",
        )
    done = _masters(job)
    if not done:
        raise NotFound(
            f"The job is {job.state} and has no frame yet.",
            Say("Ask again when frames_done is more than 0."),
        )
    files, program = artifacts(), settings().ffmpeg
    if not all(_kept(key) for _, key in done):
        raise NotFound("The frames are not kept any more; the video is.")
    before = video_frames(job) - job.frames_total

    def named() -> Iterator[tuple[str, bytes]]:
        for numbers, key in done:
            with files.as_file(key) as master:
                for number, png in zip(numbers, film.frames(master, program), strict=True):
                    yield f"frame_{before + number:06}.png", png

    pieces = _Begun(_zipped(named(), job.created_at_ms))
    answer = Response(pieces, mimetype="application/zip")
    answer.headers["Content-Disposition"] = f"attachment; filename={job.id}.zip"
    return answer


def last_master(job: Job) -> str | None:
    """Return the key of the file with the last frame of a finished job, if it is kept."""
    *_, (_, key) = sorted(_masters(job), key=lambda done: done[0][-1])
    return key if _kept(key) else None


def _kept(key: str) -> bool:
    there: bool = in_thread(artifacts().exists, key)
    return there


def _masters(job: Job) -> list[tuple[range, str]]:
    """Return which frames each master of a job has, and its key."""
    views: tuple[UnitView, ...] = in_thread(jobs.units, farm(), account_scope(), job.id)
    return [
        (view.unit.indices, view.lease.key(MASTER))
        for view in views
        if view.lease and view.unit.kind is UnitKind.RENDER
    ]


class _Pipe:
    """A pipe that ZipFile writes into, and a response takes out of."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes, /) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing waits elsewhere."""

    def close(self) -> None:
        """Nothing is open."""

    def take(self) -> bytes:
        taken, self._pieces = b"".join(self._pieces), []
        return taken


class _Begun:
    """Pieces of which the first one is there: until then a failure can still be an answer."""

    def __init__(self, pieces: Generator[bytes, None, None]) -> None:
        self._pieces = pieces
        self._first = [next(pieces)]

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return self._first.pop() if self._first else next(self._pieces)

    def close(self) -> None:
        """End what makes them: the client has all, or has gone."""
        self._pieces.close()


def _zipped(files: Iterator[tuple[str, bytes]], at_ms: int) -> Generator[bytes, None, None]:
    """Yield an archive of stored files piece by piece; PNGs are compressed already."""
    at = datetime.fromtimestamp(at_ms / 1000, UTC).timetuple()[:6]
    pipe = _Pipe()
    with ZipFile(pipe, "w", ZIP_STORED) as archive:
        for name, data in files:
            archive.writestr(ZipInfo(name, at), data)
            yield pipe.take()
    yield pipe.take()
