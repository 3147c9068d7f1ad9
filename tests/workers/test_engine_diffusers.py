"""The diffusers engine on stock pipelines with tiny random weights, on the CPU."""

import inspect
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.catalog import PIPELINES
from orchestrator.errors import BadRequest
from orchestrator.model import Size
from orchestrator.receipt import DECODE, DENOISE, TRANSFER
from orchestrator.states import Outcome, Verdict
from orchestrator.wire import RenderWork
from tests.workers.pipelines import card, save, shot, work
from workers.engines import Engine, Pixels, engine_for
from workers.meter import TEXT_ENCODE, Meter, Stopped

pytestmark = pytest.mark.filterwarnings("default")  # other people's libraries, not ours


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder as `save_pretrained` makes it."""
    path = tmp_path_factory.mktemp("tiny_sd")
    save("StableDiffusionPipeline", path)
    return path


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Engine]:
    """Return an engine with the tiny pipeline loaded by `from_pretrained`."""
    loaded = engine_for(card(folder))
    loaded.load("cpu", 1)
    yield loaded
    loaded.unload()


@pytest.fixture(
    scope="module",
    params=[
        "StableDiffusionPipeline",
        "StableDiffusionXLPipeline",
        "SanaPipeline",
        "PixArtSigmaPipeline",
        "FluxPipeline",
        "TinyWorldPipeline",
    ],
)
def stock(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """Return an engine for each class of the allow-list, one after the other."""
    path = tmp_path_factory.mktemp(request.param)
    save(request.param, path)
    loaded = engine_for(card(path, pipeline=request.param))
    loaded.load("cpu", 1)
    yield loaded
    loaded.unload()


def paint(engine: Engine, asked: RenderWork, meter: Meter | None = None) -> Pixels:
    """Return all frames of a render unit."""
    return np.concatenate(list(engine.paint(asked, asked.frames, meter or Meter.unlimited(), None)))


def test_pixels_do_not_depend_on_how_frames_fall_into_units(engine: Engine) -> None:
    """24 frames as one unit, as six units of four, and as units of seven are the same bytes."""
    frames = shot(24)
    whole = paint(engine, work(frames))
    fours = [paint(engine, work(frames[i : i + 4])) for i in range(0, 24, 4)]
    sevens = [paint(engine, work(frames[i : i + 7])) for i in range(0, 24, 7)]
    assert whole.shape == (24, 32, 64, 3)
    np.testing.assert_array_equal(whole, np.concatenate(fours))
    np.testing.assert_array_equal(whole, np.concatenate(sevens))


def test_frames_leave_as_contiguous_bytes_without_padding(engine: Engine) -> None:
    """Five frames in micro-batches of four are arrays of four and one, ready for a pipe."""
    asked = work(shot(5))
    batches = list(engine.paint(asked, asked.frames, Meter.unlimited(), None))
    assert [len(batch) for batch in batches] == [4, 1]
    assert all(batch.dtype == np.uint8 and batch.flags.c_contiguous for batch in batches)


def test_a_shot_moves_a_little_and_another_seed_is_another_picture(engine: Engine) -> None:
    """Neighbouring frames differ, but less than two seeds do."""
    frames = paint(engine, work(shot(12))).astype(int)
    other = paint(engine, work(shot(12, seed=8))).astype(int)
    within = np.abs(frames[1] - frames[0]).mean()
    between = np.abs(other[0] - frames[0]).mean()
    assert 0 < within < between / 3


def test_the_prompt_decides_pixels_and_a_schedule_blends(engine: Engine) -> None:
    """A blend of 0 is the prompt, of 1 the other prompt, and half-way is neither."""

    def one(**changes: Any) -> Pixels:
        return paint(engine, work(shot(1, **changes)))

    dog, cat = one(prompt="a dog"), one(prompt="a big red cat")
    assert (dog != cat).any()
    assert (one(prompt="a dog", prompt_to="a big red cat", blend=0.0) == dog).all()
    assert (one(prompt="a dog", prompt_to="a big red cat", blend=1.0) == cat).all()
    half = one(prompt="a dog", prompt_to="a big red cat", blend=0.5)
    assert (half != dog).any()
    assert (half != cat).any()


def test_the_negative_prompt_decides_pixels(engine: Engine) -> None:
    """With guidance, what is not wanted changes the picture."""
    plain = paint(engine, work(shot(1)))
    assert (paint(engine, work(shot(1, negative_prompt="blue sky"))) != plain).any()


def test_every_distinct_prompt_is_encoded_once(folder: Path) -> None:
    """24 frames of two prompts and one negative prompt are three calls of the text encoder."""
    engine: Any = engine_for(card(folder))
    engine.load("cpu", 1)
    calls: list[Any] = []
    frames = shot(12, negative_prompt="rain") + shot(12, prompt=" a   dog ", negative_prompt="rain")
    frames += shot(12, prompt="a cat", negative_prompt="rain")
    paint(engine, work(shot(1, prompt="")))  # the empty prompt is warm
    webhook = engine._pipe.text_encoder.register_forward_hook(lambda *call: calls.append(call))
    paint(engine, work(frames))
    paint(engine, work(frames))
    webhook.remove()
    assert len(calls) == 3


def test_the_same_pixels_as_the_pipeline_called_directly(stock: Any) -> None:
    """A frame is what the bare pipeline makes of the same prompts and noise."""
    asked = work(shot(1, negative_prompt="rain"), micro_batch=1)
    images = stock._pipe(
        prompt="a dog",
        height=32,
        width=64,
        num_inference_steps=2,
        guidance_scale=3.0,
        latents=stock._noise(asked, asked.frames),
        output_type="np",
        **{
            name: value
            for name, value in {"negative_prompt": "rain", "use_resolution_binning": False}.items()
            if name in inspect.signature(stock._pipe.__call__).parameters
        },
    ).images
    expected = (images * 255).round().astype(np.uint8)
    np.testing.assert_array_equal(paint(stock, asked), expected)


def test_noise_turns_with_the_phase_and_stays_noise() -> None:
    """At every phase it is unit noise, and the ends of a shot correlate by cos 15 degrees."""
    import torch

    from workers.engines.noise import TRAVEL, shot_noise

    frames = shot(3)
    noises = [shot_noise((1, 4, 64, 64), frame, TRAVEL).flatten() for frame in frames]
    assert all(abs(float(noise.std()) - 1) < 0.02 for noise in noises)
    correlation = float(torch.corrcoef(torch.stack([noises[0], noises[2]]))[0, 1])
    assert correlation == pytest.approx(math.cos(TRAVEL), abs=0.01)
    still = [shot_noise((1, 4, 8, 8), frame, 0.0) for frame in frames]
    assert torch.equal(still[0], still[2])


def test_a_text_encoder_that_uses_up_the_limit_stops_before_the_first_step(engine: Engine) -> None:
    """The gate is asked again after the texts, so that no step runs past the limit."""
    steps: list[None] = []
    verdicts = iter([Verdict.GO, Verdict.PAUSE])
    meter = Meter(limit_gpu_ms=10**6, stop=lambda: next(verdicts))
    meter.on_step = lambda: steps.append(None)
    with pytest.raises(Stopped):
        paint(engine, work(shot(4)), meter)
    assert steps == []


def test_the_meter_sees_every_stage_and_every_step(engine: Engine) -> None:
    """Two micro-batches of three steps ask the meter six times and spend on all four stages."""
    steps: list[None] = []
    meter = Meter.unlimited()
    meter.on_step = lambda: steps.append(None)
    paint(engine, work(shot(8), steps=3), meter)
    assert len(steps) == 6
    assert set(meter.by_stage) == {TEXT_ENCODE, DENOISE, DECODE, TRANSFER}
    assert sum(meter.by_stage.values()) == meter.spent_gpu_ms


def test_a_stop_ends_the_loop_at_the_next_step_and_leaves_nothing_behind(engine: Engine) -> None:
    """Stopped after two of five steps; the next call of the same pipeline is as if nothing was."""
    before = paint(engine, work(shot(4)))
    steps: list[None] = []
    meter = Meter(
        limit_gpu_ms=10**6, stop=lambda: Verdict.CANCEL if len(steps) == 2 else Verdict.GO
    )
    meter.on_step = lambda: steps.append(None)
    with pytest.raises(Stopped) as stopped:
        paint(engine, work(shot(8), steps=5), meter)
    assert stopped.value.reason == "cancel"
    assert len(steps) == 2
    assert meter.receipt(Outcome.STOPPED).gpu_ms == 0
    np.testing.assert_array_equal(paint(engine, work(shot(4))), before)


def test_a_size_the_pipeline_refuses_is_the_requests_fault(engine: Engine) -> None:
    """The pipeline's own sentence is in the error."""
    with pytest.raises(BadRequest, match="divisible by 8"):
        paint(engine, work(shot(1), width=65))


def test_a_reference_image_is_refused_by_a_model_that_takes_none(engine: Engine) -> None:
    """Nothing is ignored silently."""
    asked = work(shot(1))
    with pytest.raises(BadRequest, match="no reference image"):
        next(iter(engine.paint(asked, asked.frames, Meter.unlimited(), Path("cat.png"))))


@pytest.mark.parametrize(
    "scheduler", ["EulerAncestralDiscreteScheduler", "PNDMScheduler", "HeunDiscreteScheduler"]
)
def test_schedulers_that_draw_noise_or_step_twice_are_deterministic(
    tmp_path: Path, scheduler: str
) -> None:
    """Ancestral noise comes from the frame's seed, and every evaluation passes the gate."""
    save("StableDiffusionPipeline", tmp_path, scheduler=scheduler)
    engine = engine_for(card(tmp_path))
    engine.load("cpu", 1)
    frames = shot(6)
    whole = paint(engine, work(frames, steps=3))
    parts = [paint(engine, work(part, steps=3)) for part in (frames[:1], frames[1:])]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_every_class_paints_the_same_pixels_however_cut(stock: Engine) -> None:
    """Each class answers to its prompt, blends, and passes the meter once per step."""
    frames = shot(6, prompt="a dog", prompt_to="a red cat", blend=0.25, negative_prompt="rain")
    meter = Meter.unlimited()
    steps: list[None] = []
    meter.on_step = lambda: steps.append(None)
    whole = paint(stock, work(frames), meter)
    parts = [paint(stock, work(part)) for part in (frames[:5], frames[5:])]
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    assert whole.shape == (6, 32, 64, 3)
    assert len(steps) == 2 * 2
    assert set(meter.by_stage) == {TEXT_ENCODE, DENOISE, DECODE, TRANSFER}
    other = paint(stock, work(shot(1, prompt="a big blue cat", negative_prompt="rain")))
    assert (other != whole[:1]).any()


def test_the_catalogue_and_the_engine_list_the_same_classes() -> None:
    """A card that the farm accepts is one that a worker can load."""
    from workers.engines.recipes import RECIPES

    assert set(RECIPES) == PIPELINES


def test_a_layout_decides_pixels_and_an_unknown_subject_is_refused(tmp_path: Path) -> None:
    """Subjects and their places reach the pipelines that take them."""
    save("TinyWorldPipeline", tmp_path)
    engine = engine_for(card(tmp_path, pipeline="TinyWorldPipeline", uses_layout=True))
    engine.load("cpu", 1)

    def one(**placement: Any) -> Pixels:
        place = {"x": 0.5, "y": 0.5, "scale": 1.0, "turn": 0.0} | placement
        return paint(engine, work(shot(1, layout=(place,))))

    dog = one(subject="dog")
    assert (one(subject="dog") == dog).all()
    assert (one(subject="dog", x=0.2) != dog).any()
    assert (one(subject="cat") != dog).any()
    with pytest.raises(BadRequest, match="unicorn"):
        one(subject="unicorn")


def test_a_class_that_is_not_on_the_list_is_refused(folder: Path) -> None:
    """A card cannot make the farm run any other class."""
    with pytest.raises(BadRequest, match="DiffusionPipeline"):
        engine_for(card(folder, pipeline="DiffusionPipeline"))


def test_a_card_that_does_not_fit_its_model_is_not_the_requests_fault(folder: Path) -> None:
    """A native size that the pipeline refuses is found at load, as an error of the machine."""
    wrong = card(folder, native=Size(width=65, height=32))
    with pytest.raises(OSError, match="does not work here"):
        engine_for(wrong).load("cpu", 1)


def test_weights_that_are_pickles_are_refused(tmp_path: Path) -> None:
    """A folder with .bin weights does not load: a pickle may run code."""
    save("StableDiffusionPipeline", tmp_path)
    weights = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(OSError, match="safetensors"):
        engine_for(card(tmp_path)).load("cpu", 1)
