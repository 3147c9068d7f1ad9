"""Going on from a finished video: what the new frames share with it."""

from dataclasses import replace

from orchestrator.errors import Conflict
from orchestrator.farm import jobs
from orchestrator.farm.jobs import extensions
from orchestrator.model import Brief, Job, Size
from orchestrator.remedies import Rerun, Watch
from orchestrator.states import JobState
from web import film, uploads
from web.api import archive
from web.auth import own_account
from web.context import artifacts, farm, settings
from web.hub import off_hub


def going_on(brief: Brief, source_id: str, *, keep_files: bool) -> Brief:
    """Return a brief for more of a finished video; what it leaves open is as it was there.

    Raises:
        NotFound: the account has no such video.
        Conflict: it is not finished.
    """
    source = off_hub(jobs.get, farm(), own_account(), source_id)
    if source.state is not JobState.SUCCEEDED:
        raise Conflict(
            f"The video is {source.state}; only a finished one can be extended.",
            Rerun(source.id) if source.state.is_terminal else Watch(source.id),
        )
    image = brief.image
    card = farm().catalog.card(source.model)
    if image is None and card.uses_layout:
        image = source.image  # it lies behind the subjects, where the last frame has them in it
    elif image is None and keep_files and card.starts_from_image:
        image = _last_frame(source)
    return replace(
        brief,
        model=brief.model or source.model,
        fps=brief.fps or source.fps,
        size=brief.size or Size(width=source.width, height=source.height),
        steps=brief.steps or source.steps,
        upscale=source.upscale,
        seed=source.seed if brief.seed is None else brief.seed,
        image=image,
        origin=extensions.origin(source),
    )


def _last_frame(source: Job) -> str | None:
    """Store the last frame of a video as the picture to go on from; None if it is not kept."""
    key = archive.last_master(source)
    if key is None:
        return None
    with artifacts().as_file(key) as master:
        return uploads.keep_picture(film.last_frame(master, settings().ffmpeg))
