"""Pace of steps lately on this device: a better start for a lease than its quote."""

from collections import OrderedDict, deque
from typing import Final

from orchestrator.wire import RenderWork
from workers.meter import Meter

UNITS: Final = 3
"""Units that are remembered, those that did no step too: when a pace was seen that no limit can
hold, the third lease after it is the last one that is refused for that."""
SHAPES: Final = 64
"""Kinds of work that are remembered, the newest."""

Pace = tuple[float, float]
"""Milliseconds of a step and of what finishes a micro-batch; 0: not seen."""


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
