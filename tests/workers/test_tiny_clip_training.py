"""Training of the bundled video model: interruptions change nothing, stock classes load it."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AnimateDiffPipeline, UNetMotionModel
from PIL import Image

from tools.tiny_clip import (
    clips,
    evaluate,
    export,
    judge,
    train_autoencoder,
    train_denoiser,
    train_text,
    words,
)  # fmt: skip
from tools.tiny_clip.clips import Clip
from tools.tiny_world.dataset import held_out
from tools.tiny_world.world import SPRITES

pytestmark = pytest.mark.filterwarnings("default")  # other people's libraries, not ours

SEED, COUNT, STEPS = 5, 6, 4


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches and frequent checkpoints."""
    for module in (train_autoencoder, train_denoiser, train_text, judge):
        monkeypatch.setattr(module, "BATCH", 2)
        monkeypatch.setattr(module, "SAVE_EVERY", 2)
    monkeypatch.setattr(train_autoencoder, "WHOLE_BATCH", 1)
    monkeypatch.setattr(train_autoencoder, "WHOLE_STEPS", 1)
    monkeypatch.setattr(train_denoiser, "SEEN", 2)
    monkeypatch.setattr(train_denoiser, "WHOLE_BATCH", 1)
    monkeypatch.setattr(train_denoiser, "SHOW_EVERY", 3)
    monkeypatch.setattr(train_denoiser, "make_unet", toy_unet)


def toy_unet() -> UNetMotionModel:
    """A denoiser of the same kind with few weights."""
    return UNetMotionModel(
        sample_size=16, in_channels=8, out_channels=8, block_out_channels=(8, 8),
        down_block_types=("CrossAttnDownBlockMotion",) * 2,
        up_block_types=("CrossAttnUpBlockMotion",) * 2, layers_per_block=1, norm_num_groups=2,
        cross_attention_dim=train_text.WIDTH, num_attention_heads=2, motion_num_attention_heads=2,
        use_motion_mid_block=False,
    )  # fmt: skip


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    """Plain squares in the place of the emoji that training fetches."""
    folder = tmp_path / "package" / "assets"
    folder.mkdir(parents=True)
    for number, name in enumerate(SPRITES.values()):
        Image.new("RGBA", (32, 32), (4 * number, 90, 160, 255)).save(folder / f"{name}.webp")
    return folder


def data() -> train_denoiser.Data:
    """A training set of noise."""
    noise = np.random.default_rng(SEED).normal(size=(COUNT, 16, 8, 16, 16)).astype(np.float16)
    torch.manual_seed(SEED)
    text = train_text.make_text_encoder(len(words.tokenizer()))
    return train_denoiser.load_data(noise, SEED, text)


def denoiser(folder: Path, *, stop_at: int = 0) -> UNetMotionModel:
    """Train the denoiser; the look at its samples after step `stop_at` interrupts it."""
    folder.mkdir(exist_ok=True)

    def look(_: UNetMotionModel, step: int) -> None:
        if step == stop_at:
            raise KeyboardInterrupt

    return train_denoiser.train(folder, data(), SEED, STEPS, look)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Tell whether all weights and buffers have the same bits."""
    ours, theirs = one.state_dict(), other.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_interrupted_denoiser_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    """Stopped after step 3 and resumed from the checkpoint of step 2, all weights are the same."""
    whole = denoiser(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        denoiser(tmp_path / "parted", stop_at=3)
    torch.manual_seed(77)  # another process would start elsewhere
    assert same(whole, denoiser(tmp_path / "parted"))


def test_interrupted_autoencoder_equals_an_uninterrupted_one(
    tmp_path: Path, assets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after the checkpoint of step 2 and resumed, all weights are the same."""
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    whole.mkdir()
    parted.mkdir()
    expected = train_autoencoder.train(whole, assets, SEED, STEPS)
    with monkeypatch.context() as stop, pytest.raises(KeyboardInterrupt):
        stop.setattr(train_autoencoder, "sheet", _interrupt)
        train_autoencoder.train(parted, assets, SEED, STEPS)
    torch.manual_seed(77)
    assert same(expected, train_autoencoder.train(parted, assets, SEED, STEPS))


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_text_encoder_learns_and_is_loaded_again(tmp_path: Path, assets: Path) -> None:
    """A few steps leave a folder from which the next call takes the same weights."""
    trained = train_text.train(tmp_path, assets, SEED, 3)
    assert same(trained, train_text.train(tmp_path, assets, SEED, 3))


def test_exported_folder_is_loaded_by_the_stock_pipeline(tmp_path: Path) -> None:
    """Saved and loaded, AnimateDiffPipeline makes 16 frames of 128×128 from words alone."""
    torch.manual_seed(SEED)
    text = train_text.make_text_encoder(len(words.tokenizer()))
    made = export.assemble(toy_unet(), train_autoencoder.make_autoencoder(), text)
    made.to(torch.float16).save_pretrained(tmp_path / "model")
    pipe = AnimateDiffPipeline.from_pretrained(tmp_path / "model", dtype=torch.float32)
    assert type(pipe) is AnimateDiffPipeline
    assert type(pipe.unet) is UNetMotionModel
    frames = pipe("a dog runs in the city", num_inference_steps=1, guidance_scale=1.0).frames[0]
    assert len(frames) == clips.FRAMES
    assert {frame.size for frame in frames} == {(clips.SIDE, clips.SIDE)}


def test_motion_modules_get_their_places_back() -> None:
    """Frames are at other places in time within `frames_at` alone."""
    unet = toy_unet()
    before = {name: rows.clone() for name, rows in unet.named_buffers()}
    with train_denoiser.frames_at(unet, torch.tensor([3, 9])):
        inside = dict(unet.named_buffers())
        assert all(torch.equal(inside[name], rows[:, [3, 9]]) for name, rows in before.items())
    assert all(torch.equal(dict(unet.named_buffers())[name], before[name]) for name in before)


def test_training_never_shows_what_is_asked_for() -> None:
    """Evaluation asks for pairs of subject and setting that no training clip has."""
    seen = {(clip.subject, clip.setting) for clip in (clips.clip_of(SEED, k) for k in range(3000))}
    asked = {(each.clip.subject, each.clip.setting) for each in evaluate.combinations(90, 1)}
    assert not seen & asked
    assert all(held_out(*pair) for pair in asked)


def test_captions_leave_room_for_the_places_behind() -> None:
    """Nearly every caption ends before the places that stand for setting, poses and looks."""
    rng, tokenizer = random.Random(SEED), words.tokenizer()
    prompts = [words.caption(rng, clips.clip_of(SEED, k), (True, True, True)) for k in range(300)]
    used = (words.tokens_of(tokenizer, prompts) != 0).sum(1)
    assert used.max() <= words.SPOKEN
    assert words.LOOK_PLACES.stop - words.LOOK_PLACES.start == words.LOOK**2


@pytest.mark.parametrize("motion", clips.MOTIONS)
def test_judge_names_the_motion_of_a_true_track(motion: str) -> None:
    """A track of the very poses of a motion is that motion."""
    x, y, scale, turn = clips.poses_of(motion).T
    angle = turn * np.pi / 180
    track = np.stack([x, y, np.log(scale), np.cos(angle), np.sin(angle)], 1)
    assert judge.nearest_motion(track) == motion


def test_judge_looks_at_a_whole_clip(tmp_path: Path, assets: Path) -> None:
    """Even a judge of two steps names a subject, a setting and a motion."""
    eye = judge.train(tmp_path, assets, SEED, 2)
    frames = clips.draw_clip(assets, Clip("dog", "city", "rises", 1))
    seen = judge.look(eye, frames)
    assert 0 < seen.steady <= 1
    assert evaluate.flicker_of(frames, "rises") == 0
