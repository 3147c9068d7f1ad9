"""The bundled model through the engine, with the frames that the planner makes."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator import catalog
from orchestrator.model import Brief
from orchestrator.planning import planner
from orchestrator.prompting import parser
from orchestrator.wire import FrameSpec, RenderWork
from workers.engines import Engine, Pixels, engine_for
from workers.meter import Meter

CARD = catalog.load(catalog.bundled_models()).card("tiny_world")
TEXT = "a dog runs to the right on a beach"

pytestmark = [
    pytest.mark.filterwarnings("default"),  # other people's libraries, not ours
    pytest.mark.skipif(
        not (catalog.bundled_models() / "tiny_world" / "model_index.json").is_file(),
        reason="the weights of tiny_world are not here yet",
    ),
]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """The bundled model, loaded as a worker loads it."""
    loaded = engine_for(CARD)
    loaded.load("cpu", 0)
    yield loaded
    loaded.unload()


@pytest.fixture(scope="module")
def frames() -> tuple[FrameSpec, ...]:
    """24 frames of one shot, planned from a prompt."""
    screenplay = parser.parse(TEXT, vocabulary=CARD.vocabulary)
    plan = planner.plan(Brief(prompt=TEXT, seconds=2.0, fps=12), screenplay, CARD, seed=11)
    return tuple(FrameSpec(**asdict(frame)) for frame in planner.frames(plan, 0, 24, CARD))


def paint(engine: Engine, frames: tuple[FrameSpec, ...], image: Path | None = None) -> Pixels:
    """Return the frames of one unit, in two steps each."""
    work = RenderWork(
        model=CARD.id,
        model_version=CARD.version,
        width=CARD.native.width,
        height=CARD.native.height,
        output_width=CARD.output.width,
        output_height=CARD.output.height,
        fps=12,
        steps=2,
        guidance_scale=CARD.guidance_scale,
        micro_batch=CARD.micro_batch,
        frames=frames,
        step_gpu_ms_prior=0,
        decode_gpu_ms_prior=0,
    )
    return np.concatenate(list(engine.paint(work, frames, Meter.unlimited(), image)))


def test_one_unit_of_24_frames_is_six_units_of_four(
    engine: Engine, frames: tuple[FrameSpec, ...]
) -> None:
    """Byte for byte: how frames fall into units decides nothing."""
    whole = paint(engine, frames)
    fours = [paint(engine, frames[first : first + 4]) for first in range(0, 24, 4)]
    np.testing.assert_array_equal(whole, np.concatenate(fours))


@pytest.mark.core
def test_a_shot_is_one_picture_in_motion(engine: Engine, frames: tuple[FrameSpec, ...]) -> None:
    """Neighbouring frames differ, and far less than two shots of other seeds do."""
    shot = paint(engine, frames[:8]).astype(int)
    other = paint(engine, tuple(replace_seed(frame) for frame in frames[:1])).astype(int)
    steps = np.abs(np.diff(shot, axis=0)).mean(axis=(1, 2, 3))
    assert (steps > 0).all()
    assert steps.max() < np.abs(other[0] - shot[0]).mean()


def test_a_reference_image_stands_still_behind_the_subject(
    engine: Engine, frames: tuple[FrameSpec, ...], tmp_path: Path
) -> None:
    """Two units show what one does: the dog moves, and the image's corners are in every frame."""
    picture = tmp_path / "mine.png"
    pixels = np.tile(np.linspace(0, 255, 256).astype(np.uint8)[:, None, None], (1, 256, 3))
    Image.fromarray(pixels).save(picture)
    whole = paint(engine, frames[:12], picture)
    parts = [paint(engine, part, picture) for part in (frames[:7], frames[7:12])]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    for corner in (slice(0, 32), slice(224, 256)):
        np.testing.assert_array_equal(whole[:, corner], np.stack([pixels[corner]] * 12))
    assert (whole[0] != whole[11]).any()
    assert (whole != paint(engine, frames[:12])).any()


def replace_seed(frame: FrameSpec) -> FrameSpec:
    """Return the frame as part of a shot with another seed."""
    return frame.model_copy(update={"seed": frame.seed + 1})
