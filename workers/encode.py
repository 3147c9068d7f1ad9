"""One encode unit: accepted segments into the video."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import structlog

from orchestrator.model import Size, indices
from orchestrator.states import Cause, Outcome
from orchestrator.wire import EncodeWork, SegmentRef
from workers.assembly import assemble
from workers.interleaving import PassSegment
from workers.interpolation import Screening, interpolated
from workers.meter import Meter, Stopped
from workers.result import Result, cause_of

log = structlog.get_logger(__name__)

ENCODE: Final = "encode"


def encode(work: EncodeWork, inputs: Mapping[str, Path], folder: Path, meter: Meter) -> Result:
    """Join the segments of `work`, found in `inputs` by key, into files under `folder`.

    Never raises for an error of FFmpeg or of the files: that is a failed result.
    """
    try:
        meter.before_step()
        with meter.stage(ENCODE):
            parts = _parts(work, inputs, folder, meter)
            files = assemble(
                [part.segment for part in parts],
                folder,
                size=_size(work),
                fps=work.fps,
                frames_total=parts[-1].frames.stop if work.interpolate > 1 else work.frames_total,
                title=work.title,
                frames=[part.frames for part in parts],
                truncated=work.truncated,
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
) -> list[PassSegment]:
    """Return what the video is joined of, the frames between painted ones made."""
    given = [PassSegment(segment=inputs[each.key], frames=_frames(each)) for each in work.segments]
    if work.interpolate == 1:
        return given
    lead = [part for part in given if part.frames.start < work.cuts[0]]
    folder.mkdir(parents=True, exist_ok=True)
    made = interpolated(
        given[len(lead) :],
        folder,
        every=work.interpolate,
        cuts=work.cuts,
        frames_total=work.frames_total,
        truncated=work.truncated,
        look=Screening(size=_size(work), fps=work.fps, watermark=work.watermark),
        may_go_on=meter.before_step,
    )
    return [*lead, *made]


def _size(work: EncodeWork) -> Size:
    return Size(width=work.width, height=work.height)


def _frames(segment: SegmentRef) -> range:
    return indices(segment.first_frame, segment.frames, segment.stride)
