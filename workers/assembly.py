"""Segments into the video, its poster and its contact sheet."""

import shutil
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import ffmpeg

from orchestrator.model import Size
from orchestrator.wire import POSTER, SHEET, VIDEO
from workers import video_reading
from workers.ffmpeg import FINISH_SECONDS, Process, segment_output
from workers.gaps import TIME_BASE_PER_FRAME, PlacedSegment, join_with_gaps
from workers.gaps import shown as shown_frames

TITLE_CHARS: Final = 200
CHECKED: Final = {
    "protocol_whitelist": "file",
    "format_whitelist": "concat,mov",
    "codec_whitelist": "h264",
}
"""Inputs that FFmpeg may open: files alone, and in them nothing but MP4 and H.264."""


def assemble(
    segments: Sequence[Path],
    folder: Path,
    *,
    size: Size,
    fps: int,
    frames_total: int,
    title: str,
    frames: Sequence[Sequence[int]] | None = None,
    truncated: bool = False,
    stride: int = 1,
) -> tuple[Path, ...]:
    """Join the segments and return the video, its poster and its contact sheet.

    Packets are copied; only segments whose encoders disagree are encoded again. `frames` says
    which frames of the video each segment has; None: one segment follows the other. Only a
    `truncated` video may lack some; its last one stays for `stride` frames.

    Raises:
        FFmpegError: FFmpeg failed.
        NotTheVideo: frames are missing, doubled or out of order, or the format is not what was
            ordered.
    """
    folder.mkdir(parents=True, exist_ok=True)
    frames = frames or [range(frames_total)]
    _check(frames, frames_total, truncated=truncated)
    if len({video_reading.head(segment) for segment in segments}) > 1:
        segments = [
            _again(segment, folder / f"again{n}.mp4", fps) for n, segment in enumerate(segments)
        ]
    video = folder / VIDEO
    shown: Sequence[int] = range(frames_total)
    if [index for part in frames for index in part] == list(shown):
        _join(segments, video, fps=fps, title=_plain(title))
    else:
        parts = [PlacedSegment(segment=s, frames=f) for s, f in zip(segments, frames, strict=True)]
        join_with_gaps(
            parts, video, fps=fps, frames_total=frames_total, stride=stride, title=_plain(title)
        )
        shown = shown_frames(parts)
    video_reading.verify(video, size=size, fps=fps, shown=shown)
    poster, sheet = folder / POSTER, folder / SHEET
    video_reading.pictures(video, fps, [shown[len(shown) // 3]])[0].save(poster, quality=90)
    video_reading.contact_sheet(video, fps, shown).save(sheet, quality=88)
    return video, poster, sheet


def _check(frames: Sequence[Sequence[int]], frames_total: int, *, truncated: bool) -> None:
    found = [index for part in frames for index in part]
    if len(found) > len(set(found)):
        raise video_reading.NotTheVideo("Some frames of the video come twice.")
    if found != sorted(found):
        raise video_reading.NotTheVideo("Some frames of the video are out of order.")
    if len(found) < frames_total and not truncated:
        raise video_reading.NotTheVideo(
            f"The video has {len(found)} frames, ordered were {frames_total}."
        )


def _join(segments: Sequence[Path], video: Path, *, fps: int, title: str) -> None:
    """Put the packets of one segment after the other's."""
    listing = _listing(segments, video.parent / "segments")
    spec = ffmpeg.input(listing.name, format="concat", safe=1, **CHECKED)["v"].output(
        str(video.absolute()),
        vcodec="copy",
        movflags="+faststart",
        video_track_timescale=TIME_BASE_PER_FRAME * fps,
        map_metadata=-1,
        fflags="+bitexact",
        metadata=f"title={title}",
    )
    # From within its folder: the demuxer takes the list's path for an URL, and `?` for its end.
    Process(spec, cwd=listing.parent).wait(FINISH_SECONDS)
    shutil.rmtree(listing.parent)


def _again(segment: Path, place: Path, fps: int) -> Path:
    """Encode a segment as this machine does."""
    frames = ffmpeg.input(str(segment), format="mov", **CHECKED)["v"]
    Process(segment_output(frames, place, fps)).wait(FINISH_SECONDS)
    return place


def _listing(segments: Sequence[Path], folder: Path) -> Path:
    """Write the list for the concat demuxer, in plain relative names."""
    folder.mkdir()
    names = [f"{number:06}.mp4" for number in range(len(segments))]
    for name, segment in zip(names, segments, strict=True):
        (folder / name).symlink_to(segment.resolve())
    listing = folder / "list.txt"
    listing.write_text("".join(f"file {name}\n" for name in names), encoding="ascii")
    return listing


def _plain(title: str) -> str:
    """Return a title without control characters and of a bounded length, in valid UTF-8."""
    valid = title.encode(errors="replace").decode()
    seen = "".join(c if unicodedata.category(c) != "Cc" else " " for c in valid)
    return " ".join(seen.split())[:TITLE_CHARS]
