"""The bundled video model: a stock class loads it, and it shows what the words say."""

import numpy as np
import pytest
import torch
from diffusers import LattePipeline

from orchestrator import catalog

pytestmark = [
    pytest.mark.slow(8),
    pytest.mark.filterwarnings("default"),  # other people's libraries, not ours
]


@pytest.fixture(scope="module")
def pipe() -> LattePipeline:
    """Load the model as anybody would."""
    loaded = LattePipeline.from_pretrained(catalog.bundled_models() / "tiny_clip")
    loaded.set_progress_bar_config(disable=True)
    return loaded


def clip(pipe: LattePipeline, words: str, seed: int = 0) -> np.ndarray:
    """Return its frames, (16, 128, 128, 3) in 0…1."""
    pictures = pipe(
        words, num_inference_steps=4, guidance_scale=1.0, height=128, width=128,
        generator=torch.Generator().manual_seed(seed), clean_caption=False,
    ).frames[0]  # fmt: skip
    return np.stack([np.asarray(each, dtype=np.float32) / 255 for each in pictures])


def places(frames: np.ndarray) -> np.ndarray:
    """Return (x, y) of what differs from the backdrop at each frame, in pixels."""
    apart = np.abs(frames - np.median(frames, 0)).sum(-1)
    apart[apart < 0.25] = 0
    rows, columns = np.mgrid[: frames.shape[1], : frames.shape[2]]
    return np.stack([(apart * each).sum((1, 2)) / apart.sum((1, 2)) for each in (columns, rows)], 1)


@pytest.mark.parametrize(
    ("words", "axis", "way"),
    [
        ("a cat moves right in the meadow", 0, 1),
        ("a whale moves left in the ocean", 0, -1),
        ("a rocket rises in the night", 1, -1),
        ("an apple falls in the desert", 1, 1),
    ],
)
def test_a_subject_goes_where_the_words_send_it(
    pipe: LattePipeline, words: str, axis: int, way: int
) -> None:
    """From one side to the other, and hardly across."""
    frames = clip(pipe, words)
    assert frames.shape == (16, 128, 128, 3)
    there = places(frames)
    assert way * (there[-1] - there[0])[axis] > 60
    assert np.ptp(there[:, 1 - axis]) < 20


def test_settings_differ_and_one_seed_gives_one_clip(pipe: LattePipeline) -> None:
    """Snow is light, the night is dark."""
    snow, night = (clip(pipe, f"a fox stays in the {where}") for where in ("snow", "night"))
    assert snow.mean() > 0.6 > 0.3 > night.mean()
    assert np.array_equal(snow, clip(pipe, "a fox stays in the snow"))
