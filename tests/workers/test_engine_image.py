"""Reference images through the diffusers engine: SDEdit on tiny random weights, on the CPU."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from orchestrator.catalog import IMAGE_PIPELINES
from orchestrator.errors import BadRequest
from orchestrator.receipt import DECODE, DENOISE, TRANSFER
from orchestrator.states import Cause
from orchestrator.wire import RenderWork
from tests.workers.pipelines import card, save, shot, work
from workers.engines import Engine, Pixels, engine_for
from workers.meter import IMAGE_ENCODE, TEXT_ENCODE, Meter
from workers.result import cause_of

pytestmark = pytest.mark.filterwarnings("default")  # other people's libraries, not ours


@pytest.fixture(scope="module", params=sorted(IMAGE_PIPELINES))
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """Return an engine for each class that takes an image, one after the other."""
    path = tmp_path_factory.mktemp(request.param)
    save(request.param, path)
    loaded = loaded_engine(path, pipeline=request.param, image_strength=0.7)
    yield loaded
    loaded.unload()


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a picture of another shape than the frames."""
    return a_picture(tmp_path_factory.mktemp("picture") / "me.png")


def a_picture(path: Path, *, flip: bool = False) -> Path:
    """Save a smooth picture of 90x60 pixels."""
    down, right = np.mgrid[0:60, 0:90].astype(float)
    pixels = np.stack([right * 2.8, down * 4.2, 255 - right * 2.8], 2).astype(np.uint8)
    Image.fromarray(pixels[:, ::-1] if flip else pixels).save(path)
    return path


def loaded_engine(path: Path, **changes: Any) -> Engine:
    """Return an engine of a saved pipeline, on one thread."""
    engine = engine_for(card(path, **changes))
    engine.load("cpu", 1)
    return engine


def paint(engine: Engine, asked: RenderWork, image: Path, meter: Meter | None = None) -> Pixels:
    """Return all frames of a render unit that starts from a picture."""
    meter = meter or Meter.unlimited()
    return np.concatenate(list(engine.paint(asked, asked.frames, meter, image)))


def test_pixels_do_not_depend_on_how_frames_fall_into_units(engine: Engine, picture: Path) -> None:
    """Six frames as one unit and as units of five and one are the same bytes."""
    frames = shot(6)
    whole = paint(engine, work(frames, steps=4), picture)
    parts = [paint(engine, work(part, steps=4), picture) for part in (frames[:5], frames[5:])]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_the_picture_decides_pixels(engine: Engine, picture: Path, tmp_path: Path) -> None:
    """Another picture is another video, and a call without one is as if none had been."""
    asked = work(shot(1), steps=4)

    def plain() -> Pixels:
        return np.concatenate(list(engine.paint(asked, asked.frames, Meter.unlimited(), None)))

    before = plain()
    first = paint(engine, asked, picture)
    other = paint(engine, asked, a_picture(tmp_path / "other.png", flip=True))
    assert (first != other).any()
    assert (first != before).any()
    np.testing.assert_array_equal(plain(), before)


def test_only_the_rest_of_the_schedule_is_run_and_the_image_is_encoded_once(
    engine: Engine, picture: Path
) -> None:
    """Of ten steps at strength 0.7 seven are taken, and the bill has a line for the image."""
    steps: list[None] = []
    meter = Meter.unlimited()
    meter.on_step = lambda: steps.append(None)
    paint(engine, work(shot(8), steps=10), picture, meter)
    assert len(steps) == 2 * 7
    assert set(meter.by_stage) == {IMAGE_ENCODE, TEXT_ENCODE, DENOISE, DECODE, TRANSFER}
    assert sum(meter.by_stage.values()) == meter.spent_gpu_ms


@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "EulerDiscreteScheduler"])
def test_with_little_strength_the_frame_is_the_autoencoders_picture(
    tmp_path: Path, picture: Path, scheduler: str
) -> None:
    """One last small step from the picture's latents decodes to nearly their round trip."""
    import torch

    from workers.engines import image

    save("StableDiffusionPipeline", tmp_path, scheduler=scheduler)
    far: list[float] = []
    for strength in (0.9, 0.5, 0.01):
        engine: Any = loaded_engine(tmp_path, image_strength=strength)
        vae = engine._pipe.vae
        latents = image.encode(engine._pipe, image.read(picture, 64, 32))
        with torch.no_grad():
            decoded = vae.decode(latents / vae.config.scaling_factor).sample
        trip = ((decoded / 2 + 0.5).clamp(0, 1) * 255).permute(0, 2, 3, 1).numpy()
        frame = paint(engine, work(shot(1), steps=100, guidance_scale=1.0), picture)
        far.append(float(np.abs(frame - trip).mean()))
    assert far[2] < far[1] < far[0]
    assert far[2] < far[0] / 3


@pytest.mark.parametrize(
    "scheduler", ["DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"]
)
def test_the_same_pixels_as_the_image_to_image_pipeline(
    tmp_path: Path, picture: Path, scheduler: str
) -> None:
    """A frame is what diffusers' own class for it makes of the same latents and noise."""
    import diffusers
    import torch

    from workers.engines import image

    save("StableDiffusionPipeline", tmp_path, scheduler=scheduler)
    engine: Any = loaded_engine(tmp_path, image_strength=0.7)
    frame = paint(engine, work(shot(1), steps=10, micro_batch=1), picture)
    theirs = diffusers.StableDiffusionImg2ImgPipeline(
        **engine._pipe.components, requires_safety_checker=False
    )
    theirs.set_progress_bar_config(disable=True)
    expected = theirs(
        prompt="a dog",
        image=image.encode(engine._pipe, image.read(picture, 64, 32)),
        strength=0.7,
        num_inference_steps=10,
        guidance_scale=3.0,
        generator=torch.Generator("cpu").manual_seed(7),
        output_type="np",
    ).images
    off = np.abs(frame.astype(float) - expected * 255)
    assert off.max() <= 1


def test_a_broken_picture_is_the_requests_fault(engine: Engine, tmp_path: Path) -> None:
    """A file that is cut off, or none at all, fails the job and blames no worker."""
    whole = a_picture(tmp_path / "whole.png").read_bytes()
    for content in (whole[: len(whole) // 2], b"<svg/>", b""):
        broken = tmp_path / "broken.png"
        broken.write_bytes(content)
        with pytest.raises(BadRequest, match="cannot be read") as error:
            paint(engine, work(shot(1)), broken)
        assert cause_of(error.value) is Cause.REQUEST


def test_a_picture_is_turned_upright_and_cut_to_the_middle(tmp_path: Path) -> None:
    """EXIF's orientation is heeded, and the shape is kept by cutting, not by squeezing."""
    from workers.engines import image

    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[:, :20] = 255  # the left half is white; turned clockwise it is the upper half
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    turned = image.read(tmp_path / "turned.png", 40, 40)
    assert turned.shape == (1, 3, 40, 40)
    assert float(turned[:, :, :18].min()) == 1
    assert float(turned[:, :, 22:].max()) == -1
    cut = image.read(tmp_path / "turned.png", 40, 10)
    assert float(cut[:, :, :3].min()) > 0.9
    assert float(cut[:, :, 7:].max()) < -0.9


def test_what_is_transparent_lies_on_the_background(tmp_path: Path) -> None:
    """White unless the order says another colour; what is half seen is half of it."""
    from workers.engines import image

    picture = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    picture.paste((255, 0, 0, 255), (0, 0, 40, 20))
    picture.save(tmp_path / "a.png")
    Image.new("RGBA", (40, 40), (0, 0, 0, 128)).save(tmp_path / "half.webp", lossless=True)
    for background, wanted in (("#ffffff", (1, 1, 1)), ("#00ff00", (-1, 1, -1))):
        read = image.read(tmp_path / "a.png", 40, 40, background)
        assert read[0, :, 5, 5].tolist() == [1, -1, -1]
        assert read[0, :, 35, 5].tolist() == list(wanted)
    assert image.read(tmp_path / "a.png", 40, 40)[0, :, 35, 5].tolist() == [1, 1, 1]
    half = image.read(tmp_path / "half.webp", 40, 40, "#ffffff")
    assert half[0, 0, 5, 5].item() == pytest.approx(127 / 127.5 - 1, abs=0.01)


def test_a_huge_picture_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    """More than 25 megapixels are not unpacked on anybody's machine."""
    from workers.engines import image

    Image.new("L", (5001, 5000)).save(tmp_path / "huge.png")
    with pytest.raises(BadRequest, match="5001x5000"):
        image.read(tmp_path / "huge.png", 64, 32)
