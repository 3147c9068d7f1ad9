"""An engine without a model, for tests of everything around engines.

Its pixels follow from (seed, frame, prompt) alone, its steps last as long as its card's cost
prior says, and some prompts make it fail on purpose. No user meets it.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final, Never

import numpy as np

from orchestrator.catalog import ModelCard
from orchestrator.errors import BadRequest
from orchestrator.receipt import DECODE, DENOISE
from orchestrator.wire import FrameSpec, RenderWork
from workers.checkpoint import Checkpoint
from workers.engines import Pixels
from workers.meter import Meter, Stopped


def _refuse() -> Never:
    raise BadRequest("The fake engine was asked to refuse this request.")


def _break() -> Never:
    raise OSError("The fake engine was asked to break its machine.")


def _stumble() -> Never:
    raise LookupError("The fake engine was asked to have a bug.")


def _hang() -> None:
    time.sleep(3600)


MISHAPS: Final[dict[str, Callable[[], None]]] = {
    "#fail-request": _refuse,
    "#fail-worker": _break,
    "#fail-farm": _stumble,
    "#hang": _hang,
}
"""Word in a frame's prompt -> what happens instead of its first step."""
SLOW: Final = "#slow"
"""Word in a frame's prompt that makes its steps take `TIMES_SLOWER` what the card says."""
TIMES_SLOWER: Final = 6


class FakeEngine:
    """Paints moving gradients and sleeps where a model would compute."""

    def __init__(self, card: ModelCard, *, step_ms: float | None = None) -> None:
        self.card = card
        self._step_ms = step_ms

    def load(self, device: str, threads: int) -> None:
        """There is nothing to load."""

    def unload(self) -> None:
        """There is nothing to give back."""

    def paint(
        self,
        work: RenderWork,
        frames: Sequence[FrameSpec],
        meter: Meter,
        image: Path | None,
        resume: Checkpoint | None = None,
    ) -> Iterator[Pixels]:
        """Yield the frames, asking the meter before every sleep that stands for a step."""
        for first in range(0, len(frames), work.micro_batch):
            batch = frames[first : first + work.micro_batch]
            done = resume.step if resume and not first else 0
            slower = TIMES_SLOWER if SLOW in batch[0].prompt else 1
            meter.before_batch()
            with meter.stage(DENOISE):
                _mishap(batch)
                for step in range(done, work.steps):
                    if step > done:
                        _gate(meter, step)
                    time.sleep(self._step_seconds(work) * slower)
                    meter.step_done()
                meter.switch(DECODE)
                pixels = np.stack([_gradient(frame, work.height, work.width) for frame in batch])
            yield pixels

    def _step_seconds(self, work: RenderWork) -> float:
        if self._step_ms is not None:
            return self._step_ms / 1000
        megapixels = work.micro_batch * work.width * work.height / 1e6
        return self.card.priors["cpu"].ms_per_frame_step_megapixel * megapixels / 1000


def _gate(meter: Meter, step: int) -> None:
    try:
        meter.before_step()
    except Stopped as stopped:
        stopped.checkpoint = Checkpoint(step=step, arrays={"latents": np.array([step])})
        raise


def _mishap(batch: Sequence[FrameSpec]) -> None:
    for frame in batch:
        for word, happen in MISHAPS.items():
            if word in frame.prompt:
                happen()


def _gradient(frame: FrameSpec, height: int, width: int) -> Pixels:
    """Return a diagonal gradient: the prompt and seed choose its colour, the frame its place."""
    colour = sha256(f"{frame.seed}\n{frame.prompt}".encode()).digest()[:3]
    ramp = np.add.outer(np.arange(height), np.arange(width)) + 4 * frame.index
    return (ramp[..., None] + np.frombuffer(colour, np.uint8)).astype(np.uint8)
