"""Training of the bundled model: an interruption changes nothing of what comes out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tools.tiny_world import train_autoencoder, train_denoiser
from tools.tiny_world.captions import LENGTH
from tools.tiny_world.dataset import pose_table
from tools.tiny_world.world import SIZE, SPRITES

pytestmark = pytest.mark.filterwarnings("default")  # other people's libraries, not ours

SEED, COUNT, STEPS, WORDS = 5, 16, 4, 40


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches and frequent checkpoints."""
    monkeypatch.setattr(train_autoencoder, "BATCH", 2)
    monkeypatch.setattr(train_autoencoder, "WHOLE_BATCH", 2)
    monkeypatch.setattr(train_autoencoder, "WHOLE_STEPS", 1)
    monkeypatch.setattr(train_autoencoder, "SAVE_EVERY", 2)
    monkeypatch.setattr(train_denoiser, "BATCH", 2)
    monkeypatch.setattr(train_denoiser, "SAVE_EVERY", 2)
    monkeypatch.setattr(train_denoiser, "SHOW_EVERY", 3)


def drawn_sprites(folder: Path) -> Path:
    """Plain squares in the place of the emoji that training fetches."""
    assets = folder / "package" / "assets"
    assets.mkdir(parents=True)
    for number, name in enumerate(SPRITES.values()):
        Image.new("RGBA", (32, 32), (4 * number, 90, 160, 255)).save(assets / f"{name}.webp")
    return folder


def data() -> train_denoiser.Data:
    """A training set of noise."""
    draw = torch.Generator().manual_seed(SEED)
    latents = torch.randn(COUNT, 32, 16, 16, generator=draw).half()
    shape = (COUNT, train_denoiser.CAPTIONS_EACH)
    tokens = torch.randint(1, WORDS, (*shape, LENGTH), generator=draw)
    named = torch.ones(shape, dtype=torch.bool)
    return train_denoiser.Data(latents, *pose_table(SEED, COUNT), tokens, named)


def denoiser(folder: Path, *, stop_at: int = 0) -> train_denoiser.Denoiser:
    """Train the denoiser; the look at its samples after step `stop_at` interrupts it."""

    def look(_: train_denoiser.Denoiser, step: int) -> None:
        if step == stop_at:
            raise KeyboardInterrupt

    return train_denoiser.train(folder, data(), SEED, WORDS, STEPS, look)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Tell whether all weights and buffers have the same bits."""
    ours, theirs = one.state_dict(), other.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_interrupted_denoiser_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    """Stopped after step 3 and resumed from the checkpoint of step 2, all weights are the same."""
    whole = denoiser(drawn_sprites(tmp_path / "whole"))
    torch.manual_seed(99)  # another process would start elsewhere, too
    parted = drawn_sprites(tmp_path / "parted")
    with pytest.raises(KeyboardInterrupt):
        denoiser(parted, stop_at=3)
    torch.manual_seed(77)
    assert same(whole, denoiser(parted))


def test_interrupted_autoencoder_equals_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after the checkpoint of step 2 and resumed, all weights are the same."""
    store = np.random.default_rng(SEED).integers(0, 256, (COUNT, SIZE, SIZE, 3), np.uint8)
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    whole.mkdir()
    parted.mkdir()
    expected = train_autoencoder.train(whole, store, SEED, STEPS)
    with monkeypatch.context() as stop, pytest.raises(KeyboardInterrupt):
        stop.setattr(train_autoencoder, "sheet", _interrupt)
        train_autoencoder.train(parted, store, SEED, STEPS)
    torch.manual_seed(77)
    assert same(expected, train_autoencoder.train(parted, store, SEED, STEPS))


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
