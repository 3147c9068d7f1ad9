"""Small real videos, made by the FFmpeg that the farm has."""

import io
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from PIL import Image

from orchestrator.programs import ffmpeg
from orchestrator.wire import POSTER, SHEET, VIDEO, EncodeWork


@cache
def video(
    width: int,
    height: int,
    fps: int,
    frames: int,
    *options: str,
    suffix: str = ".mp4",
    sound: bool = False,
) -> bytes:
    """Return H.264 in an MP4 as a worker's, or with other options of FFmpeg's before its output."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"video{suffix}"
        argv = [
            *(ffmpeg(""), "-hide_banner", "-loglevel", "error", "-nostdin"),
            *("-f", "lavfi", "-i", f"testsrc2=s={width}x{height}:r={fps}"),
            *(("-f", "lavfi", "-i", "sine=d=2", "-c:a", "aac") if sound else ()),
            *("-frames:v", str(frames), "-c:v", "libx264", "-bf", "0", "-preset", "veryfast"),
            *("-g", str(2 * fps), "-pix_fmt", "yuv420p", "-video_track_timescale", f"{512 * fps}"),
            *(*options, str(file)),
        ]
        subprocess.run(argv, check=True, timeout=60)
        return file.read_bytes()


def files(work: EncodeWork) -> dict[str, bytes]:
    """Return what an encode unit has to bring."""
    jpeg = io.BytesIO()
    Image.new("RGB", (16, 16)).save(jpeg, "JPEG")
    made = video(work.width, work.height, work.fps, work.frames_total)
    return {VIDEO: made, POSTER: jpeg.getvalue(), SHEET: jpeg.getvalue()}
