"""One encode unit: accepted segments and masters into the video."""

from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Final

import structlog

from orchestrator.model import Size, indices
from orchestrator.states import Cause, Outcome
from orchestrator.wire import EncodeWork, SegmentRef
from workers.assembly import assemble
from workers.batch_encoding import encoded
from workers.ffmpeg import Look
from workers.gaps import PlacedSegment
from workers.interpolation import interpolated
from workers.meter import Meter, Stopped
from workers.result import Result, cause_of
from workers.video_reading import Master

log = structlog.get_logger(__name__)

ENCODE: Final = "encode"


def encode(work: EncodeWork, inputs: Mapping[str, Path], folder: Path, meter: Meter) -> Result:
    """Make the video of `work`, whose files are found in `inputs` by key, under `folder`.

    Never raises for an error of FFmpeg or of the files: that is a failed result.
    """
    try:
        meter.before_step()
        with meter.stage(ENCODE):
            parts = _parts(work, inputs, folder, meter)
            ends = parts[-1].frames[-1] + 1
            files = assemble(
                [part.segment for part in parts],
                folder,
                size=_size(work),
                fps=work.fps,
                frames_total=ends if work.interpolate > 1 else work.frames_total,
                title=work.title,
                frames=[part.frames for part in parts],
                truncated=work.truncated,
                stride=max(each.stride for each in work.inputs),
            )
    except Stopped as stopped:
        return Result(
            outcome=Outcome.STOPPED,
            message=stopped.reason,
            receipt=meter.receipt(Outcome.STOPPED),
        )
    except Exception as error:  # the unit boundary: whatever it is, it is reported
        cause = cause_of(error)
        log.warning("encode failed", cause=cause, exc_info=cause is Cause.FARM)
        return Result(
            outcome=Outcome.FAILED,
            cause=cause,
            message=str(error) or type(error).__name__,
            receipt=meter.receipt(Outcome.FAILED, cause),
        )
    return Result(outcome=Outcome.DONE, receipt=meter.receipt(Outcome.DONE), files=files)


def _parts(
    work: EncodeWork, inputs: Mapping[str, Path], folder: Path, meter: Meter
) -> list[PlacedSegment]:
    """Return what the video is joined of, in order; what has to be made of masters is made."""
    given = [PlacedSegment(segment=inputs[s.key], frames=_frames(s)) for s in work.segments]
    if not work.masters:
        return given
    folder.mkdir(parents=True, exist_ok=True)
    look = Look(size=_size(work), fps=work.fps, watermark=work.watermark)
    shares = [
        [Master(file=inputs[each.key], frames=_frames(each)) for each in share]
        for share in work.masters
    ]
    if work.interpolate > 1:
        made = interpolated(
            list(chain.from_iterable(shares)),
            folder,
            every=work.interpolate,
            cuts=work.cuts,
            frames_total=work.frames_total,
            truncated=work.truncated,
            look=look,
            may_go_on=meter.before_step,
        )
    else:
        made = [
            encoded(share, folder / f"batch{n:06}.mp4", look=look, may_go_on=meter.before_step)
            for n, share in enumerate(shares)
        ]
    return sorted([*given, *made], key=lambda part: part.frames[0])


def _size(work: EncodeWork) -> Size:
    return Size(width=work.width, height=work.height)


def _frames(segment: SegmentRef) -> range:
    return indices(segment.first_frame, segment.frames, segment.stride)
