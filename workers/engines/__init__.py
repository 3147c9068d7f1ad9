"""Engines: what turns frame specifications into pixels on a device.

Everything that touches torch lies below this package and is imported on first use.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from orchestrator.catalog import ModelCard
from orchestrator.wire import FrameSpec, RenderWork
from workers.checkpoint import Checkpoint
from workers.meter import CpuTimer, HostTimer, Meter, Timer

Pixels = NDArray[np.uint8]
"""Frames as contiguous RGB bytes: (frames, height, width, 3)."""


class Engine(Protocol):
    """One model, able to paint frames on one device."""

    card: ModelCard

    def load(self, device: str, threads: int) -> None:
        """Put the model on `device` ("cpu", "cuda:0" …) and warm it up; 0 threads: all cores."""

    def unload(self) -> None:
        """Give the device's memory back."""

    def paint(
        self,
        work: RenderWork,
        frames: Sequence[FrameSpec],
        meter: Meter,
        image: Path | None,
        resume: Checkpoint | None = None,
    ) -> Iterator[Pixels]:
        """Yield the frames in order, one fresh array per micro-batch, without its padding.

        With `resume` the first micro-batch goes on at the step where another call stopped; its
        pixels are those it would have had without the stop.

        Raises:
            Stopped: the meter refused a step; with a checkpoint, where that can be continued.
            BadRequest: the model cannot paint what is asked.
        """


FAKE: Final = "fake"
"""The engine that sleeps where others compute."""


def engine_for(card: ModelCard) -> Engine:
    """Return the engine that the card names, not loaded yet."""
    if card.engine == FAKE:
        from workers.engines.fake import FakeEngine

        return FakeEngine(card)
    if card.engine == "diffusers":
        from workers.engines.diffusers import DiffusersEngine

        return DiffusersEngine(card)
    msg = f"{card.id} asks for the engine {card.engine!r}; there are diffusers and fake"
    raise ValueError(msg)


def timer_for(device: str, threads: int, engine: str) -> Timer:
    """Return the clock that measures an engine's work on `device`, with so many CPU threads."""
    if device.startswith("cuda"):
        from workers.engines.cuda import CudaTimer

        return CudaTimer(device)
    # A fake engine sleeps where others compute.
    return HostTimer() if engine == FAKE else CpuTimer(threads)
