"""Programs that the farm runs and does not bring along as Python."""

import shutil
from functools import cache

from orchestrator.errors import Unavailable
from orchestrator.remedies import Say


@cache
def ffmpeg(wanted: str = "") -> str:
    """Return the ffmpeg to run: `wanted` (FARM_FFMPEG), the system's, or imageio-ffmpeg's.

    Raises:
        Unavailable: there is none.
    """
    if wanted:
        if found := shutil.which(wanted):
            return found
        raise Unavailable(
            f"FARM_FFMPEG names {wanted}, which is not a program.",
            Say("Correct FARM_FFMPEG, or unset it to use the bundled ffmpeg."),
        )
    if found := shutil.which("ffmpeg"):
        return found
    import imageio_ffmpeg

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError:
        raise Unavailable(
            "There is no ffmpeg here.",
            Say("Install ffmpeg or `pip install imageio-ffmpeg`, or set FARM_FFMPEG."),
        ) from None
