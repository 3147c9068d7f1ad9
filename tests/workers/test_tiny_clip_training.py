"""Training of the bundled video model: interruptions change nothing, stock classes load it."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderDC, LattePipeline, LatteTransformer3DModel
from PIL import Image
from transformers import T5EncoderModel

from tools.tiny_clip import (
    clips,
    evaluate,
    export,
    judge,
    states,
    train_autoencoder,
    train_denoiser,
    train_text,
    words,
)  # fmt: skip
from tools.tiny_clip.clips import Clip
from tools.tiny_world.dataset import held_out, to_batch
from tools.tiny_world.world import SPRITES

pytestmark = [
    pytest.mark.slow(5),
    pytest.mark.filterwarnings("default"),  # other people's libraries, not ours
]

SEED, STEPS = 5, 4


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small batches, few layers and frequent checkpoints."""
    for module in (train_autoencoder, train_denoiser, train_text, judge):
        monkeypatch.setattr(module, "BATCH", 2)
        monkeypatch.setattr(module, "SAVE_EVERY", 2)
    monkeypatch.setattr(train_autoencoder, "FITTED", 8)
    monkeypatch.setattr(train_denoiser, "SEEN", 2)
    monkeypatch.setattr(train_denoiser, "CHOSEN", 10)
    monkeypatch.setattr(train_denoiser, "WHOLE_BATCH", 1)
    monkeypatch.setattr(train_denoiser, "SHOW_EVERY", 3)
    monkeypatch.setattr(train_denoiser, "LAYERS", 2)
    monkeypatch.setattr(train_denoiser, "READS", 0)
    monkeypatch.setattr(train_denoiser, "KNOWS", 0)
    monkeypatch.setattr(train_denoiser, "SKETCHES", 1)
    monkeypatch.setattr(train_denoiser, "POINTS", {1: ((0.0, 0.0),) * 4})
    monkeypatch.setattr(judge, "TRACKED", 2)
    monkeypatch.setattr(judge, "READ_STEPS", 2)


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    """Plain squares in the place of the emoji that training fetches."""
    folder = tmp_path / "package" / "assets"
    folder.mkdir(parents=True)
    for number, name in enumerate(SPRITES.values()):
        Image.new("RGBA", (32, 32), (4 * number, 90, 160, 255)).save(folder / f"{name}.webp")
    return folder


def autoencoder(assets: Path) -> AutoencoderDC:
    """An autoencoder fitted to a few pictures."""
    rng, model = random.Random(SEED), train_autoencoder.make_autoencoder()
    train_autoencoder.fit(model, np.stack([clips.draw_still(assets, rng) for _ in range(8)]))
    return model.eval()


def text_encoder() -> T5EncoderModel:
    """A text encoder that has learnt nothing."""
    torch.manual_seed(SEED)
    return train_text.make_text_encoder(len(words.tokenizer()))


def denoiser(folder: Path, assets: Path, *, stop_at: int = 0) -> LatteTransformer3DModel:
    """Train the denoiser; the look at its samples after step `stop_at` interrupts it."""
    folder.mkdir(exist_ok=True)

    def look(_: LatteTransformer3DModel, step: int) -> None:
        if step == stop_at:
            raise KeyboardInterrupt

    data = train_denoiser.load_data(assets, SEED, autoencoder(assets), text_encoder())
    return train_denoiser.train(folder, data, SEED, STEPS, look)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Tell whether all weights and buffers have the same bits."""
    ours, theirs = one.state_dict(), other.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_interrupted_denoiser_equals_an_uninterrupted_one(tmp_path: Path, assets: Path) -> None:
    """Stopped after step 3 and resumed from the checkpoint of step 2, all weights are the same."""
    whole = denoiser(tmp_path / "whole", assets)
    with pytest.raises(KeyboardInterrupt):
        denoiser(tmp_path / "parted", assets, stop_at=3)
    torch.manual_seed(77)  # another process would start elsewhere
    assert same(whole, denoiser(tmp_path / "parted", assets))


def test_interrupted_autoencoder_equals_an_uninterrupted_one(
    tmp_path: Path, assets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after the checkpoint of step 2 and resumed, all weights are the same."""
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    whole.mkdir()
    parted.mkdir()
    expected = train_autoencoder.train(whole, assets, SEED, STEPS)
    saved = train_autoencoder.save_checkpoint
    with monkeypatch.context() as stop, pytest.raises(KeyboardInterrupt):

        def save_and_stop(path: Path, step: int, **rest: torch.nn.Module) -> None:
            saved(path, step, **rest)
            raise KeyboardInterrupt

        stop.setattr(train_autoencoder, "save_checkpoint", save_and_stop)
        train_autoencoder.train(parted, assets, SEED, STEPS)
    torch.manual_seed(77)
    assert same(expected, train_autoencoder.train(parted, assets, SEED, STEPS))


def test_fitted_autoencoder_gives_pictures_back(assets: Path) -> None:
    """Principal components alone are worth 30 dB; the short way to latents is the model's own."""
    model = autoencoder(assets)
    frames = clips.draw_clip(assets, Clip("dog", "city", "rises", 0), range(0, 16, 5))
    pixels = to_batch(frames)
    latents = train_autoencoder.encode(model, pixels)
    with torch.inference_mode():
        own = model.encode(pixels).latent * model.config.scaling_factor
    assert torch.allclose(latents, own, atol=1e-4)
    error = np.square(frames.astype(np.float32) - train_autoencoder.decode(model, latents)).mean()
    assert 10 * np.log10(255**2 / error) > 30


def test_text_encoder_learns_and_is_loaded_again(tmp_path: Path, assets: Path) -> None:
    """A few steps leave a folder from which the next call takes the same weights."""
    trained = train_text.train(tmp_path, assets, SEED, 3)
    assert same(trained, train_text.train(tmp_path, assets, SEED, 3))


def test_exported_folder_is_loaded_by_the_stock_pipeline(tmp_path: Path, assets: Path) -> None:
    """Saved and loaded, LattePipeline makes 16 frames of 128×128 from words alone."""
    torch.manual_seed(SEED)
    made = export.assemble(train_denoiser.make_transformer(), autoencoder(assets), text_encoder())
    made.to(torch.float16).save_pretrained(tmp_path / "model")
    pipe = LattePipeline.from_pretrained(tmp_path / "model", dtype=torch.float32)
    assert type(pipe) is LattePipeline
    assert type(pipe.transformer) is LatteTransformer3DModel
    frames = pipe(
        "a dog runs in the city", num_inference_steps=1, guidance_scale=1.0, height=128, width=128
    ).frames[0]
    assert len(frames) == clips.FRAMES
    assert {frame.size for frame in frames} == {(clips.SIDE, clips.SIDE)}


@torch.inference_mode()
def test_forward_is_the_transformers_own() -> None:
    """Over all frames and cells it gives what the stock class does; some cells are those cells."""
    torch.manual_seed(SEED)
    model = train_denoiser.make_transformer().eval()
    latents, times = torch.randn(2, 32, 16, 16, 16), torch.tensor([999, 300])
    prompts = torch.randn(2, 9, states.WIDTH)
    own = model(latents, timestep=times, encoder_hidden_states=prompts).sample[:, :32]
    every = torch.arange(64).expand(2, -1)
    found, _ = train_denoiser.forward(model, latents, times, prompts, list(range(16)), every)
    assert torch.allclose(found, train_denoiser.in_cells(own.transpose(1, 2)), atol=1e-4)
    some, _ = train_denoiser.forward(model, latents, times, prompts, list(range(16)), every.flip(1))
    assert torch.allclose(some, found.flip(2), atol=1e-4)


def test_states_tell_clips_apart(assets: Path) -> None:
    """All states are equally long, and a clip's differ from another's where the clips do."""
    known = states.states(assets)
    one = known.of(Clip("dog", "city", "rises", 0))
    other = known.of(Clip("dog", "city", "falls", 0))
    differs = (one - other).abs().amax(1) > 0.1
    assert one.square().mean(1) == pytest.approx(1.0, abs=1e-3)
    assert differs[words.POSE_PLACES].sum() > 12
    assert not differs[words.SETTING_PLACE]
    assert not differs[words.LOOK_PLACES].any()


def test_cells_lie_where_the_subject_is(assets: Path) -> None:
    """The cell under a subject's middle is at (0, 0) of its own axes."""
    features, _ = train_denoiser.cell_features()
    motion = clips.MOTIONS.index("moves_right")
    x, y, *_ = clips.poses_of("moves_right")[8]
    side = train_denoiser.CELLS
    cell = int(y * side) * side + int(x * side)
    inside, u, v = (features[motion, 8, cell, column] for column in (0, 1, 8))
    assert inside > 0.9
    assert max(abs(u), abs(v)) < 0.3
    looking = train_denoiser.where_to_look()
    assert set(looking[train_denoiser.READS][motion, 8, cell].tolist()) == {
        words.POSE_PLACES.start + 8
    }
    row, column = divmod(int(looking[1][motion, 8, cell, 0]) - words.LOOK_PLACES.start, words.LOOK)
    assert {row, column} <= {2, 3}
    assert looking[1][motion, 0, -1, 0] == words.SETTING_PLACE


def test_training_never_shows_what_is_asked_for() -> None:
    """Evaluation asks for pairs of subject and setting that no training clip has."""
    seen = {(clip.subject, clip.setting) for clip in (clips.clip_of(SEED, k) for k in range(3000))}
    asked = {(each.clip.subject, each.clip.setting) for each in evaluate.combinations(90, 1)}
    assert not seen & asked
    assert all(held_out(*pair) for pair in asked)


def test_captions_follow_the_places() -> None:
    """No caption is cut, and each place stands where the text encoder is asked for it."""
    rng, tokenizer = random.Random(SEED), words.tokenizer()
    prompts = [words.caption(rng, clips.clip_of(SEED, k), (True, True, True)) for k in range(300)]
    ids, mask = words.tokens_of(tokenizer, prompts)
    assert mask.sum(1).max() < words.LENGTH
    first = tokenizer.convert_ids_to_tokens(ids[0].tolist())
    assert first[words.SETTING_PLACE] == "<setting>"
    assert first[words.POSE_PLACES] == [f"<pose{k}>" for k in range(clips.FRAMES)]
    assert first[words.LOOK_PLACES] == [f"<look{k}>" for k in range(words.LOOK**2)]


def test_reader_names_the_motions_of_true_tracks() -> None:
    """A reader that learnt from the very poses of each motion knows them again, shaken a little."""
    torch.manual_seed(SEED)
    x, y, scale, turn = np.stack([clips.poses_of(m) for m in clips.MOTIONS]).transpose(2, 0, 1)
    angle = turn * np.pi / 180
    track = np.stack([x, y, np.log(scale), np.cos(angle), np.sin(angle)], -1)
    tracks, motions = torch.from_numpy(track), torch.arange(len(clips.MOTIONS))
    reader = judge.Reader()
    judge.learn_to_read(reader, tracks, motions, 60)
    seen = reader(tracks + 0.01 * torch.randn_like(tracks)).argmax(1)
    assert torch.equal(seen, motions)


def test_judge_looks_at_a_whole_clip(tmp_path: Path, assets: Path) -> None:
    """Even a judge of two steps names a subject, a setting and a motion."""
    eye = judge.train(tmp_path, assets, SEED, 2)
    frames = clips.draw_clip(assets, Clip("dog", "city", "rises", 1))
    seen = judge.look(eye, frames)
    assert 0 < seen.steady <= 1
    assert evaluate.flicker_of(frames, "rises") == 0
