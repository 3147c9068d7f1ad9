"""Pace of models on this device: measured for the farm's quotes, and a better start for a lease."""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from orchestrator.catalog import ModelCard
from orchestrator.model import Size
from orchestrator.wire import LEAST_PACE_MS, MOST_PACE_MS, FrameSpec, PaceReport, RenderWork
from workers.engines import Engine
from workers.meter import Meter

STEPS: Final = 2
"""Of the micro-batch that is timed; fewer where the model does no more."""
LONG_MS: Final = 10_000
"""A device that takes so long for its first micro-batch is not asked for a second one: what it does
once, when it begins, is little beside that."""

UNITS: Final = 3
"""Units that are remembered, those that did no step too: when a pace was seen that no limit can
hold, the third lease after it is the last one that is refused for that."""
SHAPES: Final = 64
"""Kinds of work that are remembered, the newest."""

Pace = tuple[float, float]
"""Milliseconds of a step and of what finishes a micro-batch; 0: not seen."""


def take_paces(
    card: ModelCard, engine: Engine, meter: Callable[[], Meter]
) -> tuple[PaceReport, ...]:
    """Time one micro-batch of a loaded model at its native size, and one with half the sides.

    Two sizes tell what grows with a picture from what grows with its square. Before each is one
    that warms the device up. `meter` makes one without a limit for each.
    """
    paces = []
    for size in (card.native, _half(card)):
        work = _work(card, size)
        for _ in range(2):
            timed = meter()
            for _pixels in engine.paint(work, work.frames, timed, None):
                timed.keep()
            if timed.spent_gpu_ms > LONG_MS:
                break
        paces.append(pace_of(work, timed))
        if timed.spent_gpu_ms > LONG_MS:
            break
    return tuple(filter(None, paces))


def _half(card: ModelCard) -> Size:
    """Return half of the native sides, up to what the model can paint."""
    least = card.size_multiple
    sides = (-(-side // 2 // least) * least for side in (card.native.width, card.native.height))
    width, height = sides
    return Size(width=width, height=height)


def pace_of(work: RenderWork, meter: Meter) -> PaceReport | None:
    """Return the pace that a unit was done at; None where it did no step or finished nothing."""
    step_ms, decode_ms = meter.pace
    if not all(LEAST_PACE_MS <= ms <= MOST_PACE_MS for ms in (step_ms, decode_ms)):
        return None
    return PaceReport(
        model=work.model,
        model_version=work.model_version,
        width=work.width,
        height=work.height,
        micro_batch=work.micro_batch,
        step_ms=step_ms,
        decode_ms=decode_ms,
        load_ms=meter.load_gpu_ms,
    )


def _work(card: ModelCard, size: Size) -> RenderWork:
    """Return one micro-batch of this size, of a prompt that any model can read."""
    frame = FrameSpec(index=0, prompt="a dog", negative_prompt="", seed=0, phase=0.0)
    return RenderWork(
        model=card.id,
        model_version=card.version,
        width=size.width,
        height=size.height,
        output_width=size.width,
        output_height=size.height,
        fps=card.fps,
        steps=max(card.min_steps, min(STEPS, card.max_steps)),
        guidance_scale=card.guidance_scale,
        micro_batch=card.micro_batch,
        frames=tuple(frame.model_copy(update={"index": n}) for n in range(card.micro_batch)),
        step_gpu_ms_prior=0,
        decode_gpu_ms_prior=0,
    )


class Paces:
    """The slowest step and decode of each of the last units of a kind, as this device did them.

    An order's priors are those of its quote. Where the device is slower than that, each lease
    would learn it anew, by a step over its limit. Of those units the least counts: a device that
    is slow is so in all of them, a hiccup is in one.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[object, ...], deque[Pace]] = OrderedDict()

    def before(self, work: RenderWork) -> Pace:
        """Return what a meter has to start from: the order's priors, or what was slower."""
        seen = self._seen.get(_shape(work), ())
        step_ms = min((step for step, _ in seen if step), default=0.0)
        finish_ms = min((finish for _, finish in seen if finish), default=0.0)
        return max(work.step_gpu_ms_prior, step_ms), max(work.decode_gpu_ms_prior, finish_ms)

    def after(self, work: RenderWork, meter: Meter) -> None:
        """Remember what a unit took."""
        shape = _shape(work)
        self._seen.setdefault(shape, deque(maxlen=UNITS)).append(meter.slowest)
        self._seen.move_to_end(shape)
        while len(self._seen) > SHAPES:
            self._seen.popitem(last=False)


def _shape(work: RenderWork) -> tuple[object, ...]:
    guided = work.guidance_scale > 1  # which takes two passes
    return work.model, work.width, work.height, work.micro_batch, guided
