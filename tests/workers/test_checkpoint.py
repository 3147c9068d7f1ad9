"""Checkpoints: stopped after any step and continued elsewhere, the pixels are the same bytes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.catalog import PIPELINES
from orchestrator.errors import BadRequest
from orchestrator.receipt import DECODE, DENOISE, TRANSFER
from orchestrator.states import Verdict
from orchestrator.wire import RenderWork
from tests.workers.pipelines import card, save, shot, work
from tests.workers.test_engine_image import a_picture
from workers import checkpoint
from workers.checkpoint import Checkpoint, NotThisCheckpoint
from workers.engines import Engine, Pixels, engine_for
from workers.engines.fake import FakeEngine
from workers.meter import LOAD, TEXT_ENCODE, Meter, Stopped

pytestmark = pytest.mark.filterwarnings("default")  # other people's libraries, not ours

STEPS = 5
SCHEDULERS = (
    "DDIMScheduler",
    "DDPMScheduler",
    "PNDMScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
)


class After:
    """A wish that comes after so many questions of the gate."""

    def __init__(self, asked: int) -> None:
        self.left = asked

    def __call__(self) -> Verdict | None:
        """Answer the gate."""
        self.left -= 1
        return Verdict.PAUSE if self.left < 0 else None


def loaded(folder: Path, pipeline: str = "StableDiffusionPipeline", **facts: Any) -> Engine:
    """Return an engine with a saved pipeline."""
    engine = engine_for(card(folder, pipeline=pipeline, **facts))
    engine.load("cpu", 1)
    return engine


def paint(
    engine: Engine,
    asked: RenderWork,
    resume: Checkpoint | None = None,
    meter: Meter | None = None,
    image: Path | None = None,
) -> Pixels:
    """Return all frames of a render unit."""
    frames = engine.paint(asked, asked.frames, meter or Meter.unlimited(), image, resume)
    return np.concatenate(list(frames))


def stopped(
    engine: Engine,
    asked: RenderWork,
    steps: int,
    resume: Checkpoint | None = None,
    image: Path | None = None,
) -> Checkpoint:
    """Return what a unit leaves that is stopped after so many of its steps."""
    meter = Meter.unlimited()
    taken = [0]

    def stepped() -> None:
        taken[0] += 1

    meter.on_step = stepped
    meter._stop = lambda: Verdict.PAUSE if taken[0] >= steps else None
    with pytest.raises(Stopped) as stop:
        paint(engine, asked, resume, meter, image)
    assert stop.value.checkpoint is not None
    return stop.value.checkpoint


def through_a_file(point: Checkpoint, path: Path) -> Checkpoint:
    """Return what another worker reads."""
    return checkpoint.load(checkpoint.save(point, path / "point", {"a": "b"}), {"a": "b"})


@pytest.fixture(params=SCHEDULERS, scope="module")
def scheduled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Engine, Engine]]:
    """Two engines of one pipeline, for each scheduler one after the other."""
    folder = tmp_path_factory.mktemp(request.param)
    save("StableDiffusionPipeline", folder, scheduler=request.param)
    here, there = loaded(folder), loaded(folder)
    yield here, there
    here.unload()
    there.unload()


def test_whatever_the_scheduler_remembers_goes_along(
    scheduled: tuple[Engine, Engine], tmp_path: Path
) -> None:
    """Stopped after each of its steps, continued by another engine: bit-equal frames."""
    here, there = scheduled
    asked = work(shot(6), steps=STEPS)
    whole = paint(here, asked)
    for steps in range(1, STEPS):
        point = through_a_file(stopped(here, asked, steps), tmp_path)
        assert point.step == steps
        paint(there, work(shot(2, prompt="a cat"), steps=3))  # it had other things to do
        np.testing.assert_array_equal(paint(there, asked, point), whole)
    np.testing.assert_array_equal(paint(here, asked), whole)


@pytest.fixture(params=sorted(PIPELINES), scope="module")
def stock(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """An engine for each class of the allow-list, one after the other."""
    folder = tmp_path_factory.mktemp(request.param)
    save(request.param, folder)
    engine = loaded(folder, request.param)
    yield engine
    engine.unload()


def test_every_pipeline_goes_on_where_it_stopped(stock: Engine, tmp_path: Path) -> None:
    """Stopped twice within one micro-batch, and once in the second: bit-equal frames."""
    asked = work(shot(6), steps=STEPS)
    whole = paint(stock, asked)
    once = through_a_file(stopped(stock, asked, 2), tmp_path)
    twice = through_a_file(stopped(stock, asked, 1, once), tmp_path)
    assert (once.step, twice.step) == (2, 3)
    np.testing.assert_array_equal(paint(stock, asked, twice), whole)
    rest = work(shot(6)[4:], steps=STEPS)
    later = through_a_file(stopped(stock, asked, STEPS + 2), tmp_path)
    assert later.step == 2
    np.testing.assert_array_equal(paint(stock, rest, later), whole[4:])


def test_a_unit_with_a_reference_image_goes_on_too(tmp_path: Path) -> None:
    """The steps that a late start leaves out are counted in; the next micro-batch has them."""
    save("StableDiffusionPipeline", tmp_path)
    engine = loaded(tmp_path, image_strength=0.7)
    picture = a_picture(tmp_path / "picture.png")
    asked = work(shot(8), steps=10)
    whole = paint(engine, asked, image=picture)
    point = through_a_file(stopped(engine, asked, 4, image=picture), tmp_path)
    assert point.step == 3 + 4
    np.testing.assert_array_equal(paint(engine, asked, point, image=picture), whole)


def test_a_unit_before_a_reference_image_goes_on_too(tmp_path: Path) -> None:
    """A layout model takes every step, and the image is behind the begun micro-batch as well."""
    save("TinyWorldPipeline", tmp_path)
    engine = loaded(tmp_path, "TinyWorldPipeline", image_strength=1.0, uses_layout=True)
    picture = a_picture(tmp_path / "picture.png")
    asked = work(shot(6), steps=STEPS)
    whole = paint(engine, asked, image=picture)
    point = through_a_file(stopped(engine, asked, 2, image=picture), tmp_path)
    assert point.step == 2
    np.testing.assert_array_equal(paint(engine, asked, point, image=picture), whole)
    assert (paint(engine, asked, point)[0] != whole[0]).any()


def test_going_on_costs_the_steps_that_are_left(tmp_path: Path) -> None:
    """The texts of a begun micro-batch were paid for where it was begun: they are load now."""
    save("StableDiffusionPipeline", tmp_path)
    engine = loaded(tmp_path)
    asked = work(shot(4), steps=STEPS)
    point = stopped(engine, asked, 3)
    taken: list[None] = []
    meter = Meter.unlimited()
    meter.on_step = lambda: taken.append(None)
    paint(engine, asked, point, meter)
    assert len(taken) == STEPS - 3
    assert set(meter.by_stage) == {DENOISE, DECODE, TRANSFER}
    assert meter.load_gpu_ms >= 1
    assert TEXT_ENCODE not in meter.by_stage
    assert LOAD not in meter.by_stage


def test_a_scheduler_with_a_secret_is_not_continued(tmp_path: Path) -> None:
    """A state that cannot be written down cannot be continued exactly: there is no checkpoint."""
    save("StableDiffusionPipeline", tmp_path)
    engine: Any = loaded(tmp_path)
    engine._pipe.scheduler.secret = object()
    with pytest.raises(Stopped) as stop:
        paint(engine, work(shot(4), steps=STEPS), meter=Meter(limit_gpu_ms=10**6, stop=After(3)))
    assert stop.value.checkpoint is None


@pytest.mark.core
def test_the_fake_engine_goes_on_too() -> None:
    """The tests of everything around engines may stop and continue."""
    engine = FakeEngine(card(engine="fake"), step_ms=0)
    asked = work(shot(8), steps=4)
    point = stopped(engine, asked, 3)
    assert point.step == 3
    np.testing.assert_array_equal(paint(engine, asked, point), paint(engine, asked))


@pytest.mark.parametrize(
    "change",
    [
        {"model_version": "2"},
        {"steps": 6},
        {"micro_batch": 8},
        {"frames": shot(4, prompt="a cat")},
        {"frames": shot(4, seed=8)},
    ],
)
def test_a_checkpoint_is_continued_by_nothing_else(tmp_path: Path, change: Any) -> None:
    """Another model, prompt, seed or shape is refused, and so is another fingerprint."""
    asked = work(shot(4), steps=STEPS)
    point = Checkpoint(step=2, arrays={"latents": np.zeros(3)})
    path = checkpoint.save(point, tmp_path / "point", checkpoint.identity(asked, "f"))
    assert checkpoint.load(path, checkpoint.identity(asked, "f")).step == 2
    other = asked.model_copy(update=change)
    for made_from in (checkpoint.identity(other, "f"), checkpoint.identity(asked, "g")):
        with pytest.raises(NotThisCheckpoint, match="another"):
            checkpoint.load(path, made_from)


def test_a_torn_checkpoint_is_no_checkpoint(tmp_path: Path) -> None:
    """Half a file is refused with one sentence, not with a traceback of the reader."""
    point = Checkpoint(step=2, arrays={"latents": np.zeros(30)})
    path = checkpoint.save(point, tmp_path / "point", {})
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(NotThisCheckpoint, match="cannot be read"):
        checkpoint.load(path, {})
    assert not isinstance(NotThisCheckpoint("x"), BadRequest)
