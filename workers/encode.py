"""One encode unit: accepted segments into the video."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import structlog

from orchestrator.model import Size
from orchestrator.states import Cause, Outcome
from orchestrator.wire import EncodeWork, SegmentRef
from workers.assembly import assemble
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
            files = assemble(
                [inputs[segment.key] for segment in work.segments],
                folder,
                size=Size(width=work.width, height=work.height),
                fps=work.fps,
                frames_total=work.frames_total,
                title=work.title,
                frames=[_frames(segment) for segment in work.segments],
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


def _frames(segment: SegmentRef) -> range:
    first, stride = segment.first_frame, segment.stride
    return range(first, first + segment.frames * stride, stride)
