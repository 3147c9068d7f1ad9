"""The bundled model: what its pipeline promises the engine, on its own weights."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from orchestrator.catalog import load_card
from workers.engines.tiny_world import TinyWorldPipeline

pytestmark = pytest.mark.filterwarnings("default")  # other people's libraries, not ours

MODEL = Path(__file__).parents[2] / "models/tiny_world"
CARD = load_card(MODEL)
BATCH = CARD.micro_batch
ROCKET = {"subject": "rocket", "x": 0.5, "y": 0.5, "scale": 1.0, "turn": 0.0}


@pytest.fixture(scope="module")
def pipe() -> Iterator[TinyWorldPipeline]:
    """The model, loaded without a network, on two threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    with pytest.MonkeyPatch.context() as offline:
        offline.setenv("HF_HUB_OFFLINE", "1")
        loaded = TinyWorldPipeline.from_pretrained(MODEL, dtype=torch.float32)
    loaded.set_progress_bar_config(disable=True)
    yield loaded
    torch.set_num_threads(threads)


def noise(pipe: TinyWorldPipeline, seed: int = 0) -> torch.Tensor:
    """One starting noise at the native size."""
    size = CARD.native
    return pipe.prepare_latents(1, size.height, size.width, torch.Generator().manual_seed(seed))


def shot(pipe: TinyWorldPipeline, frames: list[dict[str, Any]], **asked: Any) -> torch.Tensor:
    """Paint a full micro-batch, frame by frame as described; the last one pads it."""
    rows = [*frames, *[frames[-1]] * (BATCH - len(frames))]
    defaults = {"num_inference_steps": 2, "guidance_scale": 1.0, "output_type": "pt"}
    images: torch.Tensor = pipe(
        prompt=[row.get("prompt", "a rocket in the night sky") for row in rows],
        layout=[row.get("layout", [ROCKET]) for row in rows],
        latents=torch.cat([noise(pipe, row.get("seed", 0)) for row in rows]),
        **defaults | asked,
    ).images
    return images[: len(frames)]


def different_frames() -> list[dict[str, Any]]:
    """Eight frames that share nothing."""
    subjects = ["cat", "car", "whale", "pizza", "owl", "train", "rose", "robot"]
    settings = ["beach", "city", "ocean", "desert", "forest", "snow", "meadow", "space"]
    return [
        {
            "prompt": f"a {subject} in the {setting}",
            "layout": [ROCKET | {"subject": subject, "x": 0.1 * k, "turn": 40.0 * k}],
            "seed": k,
        }
        for k, (subject, setting) in enumerate(zip(subjects, settings, strict=True))
    ]


@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_frame_is_the_same_bits_at_every_place(
    pipe: TinyWorldPipeline, guidance_scale: float
) -> None:
    """A frame has the same bits wherever it stands in the micro-batch and whoever is beside it."""
    frames = different_frames()
    together = shot(pipe, frames, guidance_scale=guidance_scale)
    for shift in (1, 3):
        moved = shot(pipe, frames[shift:] + frames[:shift], guidance_scale=guidance_scale)
        assert torch.equal(torch.roll(moved, shift, 0), together)


def test_any_range_of_frames_is_the_same_bits(pipe: TinyWorldPipeline) -> None:
    """Frames rendered as 3 + 5, each padded to the micro-batch, equal the 8 rendered at once."""
    frames = different_frames()
    split = torch.cat([shot(pipe, frames[:3]), shot(pipe, frames[3:])])
    assert torch.equal(split, shot(pipe, frames))


def test_latents_and_a_decode_later_are_the_same_picture(pipe: TinyWorldPipeline) -> None:
    """Stopping at the latents and decoding them apart gives the bits of the whole call."""
    frames = different_frames()
    latents = shot(pipe, frames, output_type="latent")
    assert latents.shape[1:] == pipe.latent_shape(CARD.native.height, CARD.native.width)
    assert torch.equal(pipe.decode_latents(latents), shot(pipe, frames))


def test_embeddings_stand_for_the_prompt(pipe: TinyWorldPipeline) -> None:
    """Embeddings encoded one prompt at a time give the bits that the prompts give."""
    frames = different_frames()
    embeds = torch.cat([pipe.encode_prompt(row["prompt"])[0] for row in frames])
    latents = torch.cat([noise(pipe, row["seed"]) for row in frames])
    layout = [row["layout"] for row in frames]
    images = pipe(
        prompt_embeds=embeds,
        layout=layout,
        latents=latents,
        num_inference_steps=2,
        output_type="pt",
    ).images
    assert torch.allclose(images, shot(pipe, frames), atol=1e-4)


def test_callback_sees_every_step(pipe: TinyWorldPipeline) -> None:
    """The callback gets (pipe, index, time, latents) after each step, in order."""
    seen: list[tuple[int, torch.Size]] = []

    def look(_: Any, index: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append((index, tensors["latents"].shape))
        return tensors

    shot(pipe, [{}], num_inference_steps=3, callback_on_step_end=look)
    assert seen == [(k, (BATCH, *pipe.latent_shape(256, 256))) for k in range(3)]


def test_callback_stops_the_loop(pipe: TinyWorldPipeline) -> None:
    """An exception raised by the callback leaves the pipeline at once."""
    steps = []

    def refuse(_: Any, index: int, *__: Any) -> dict[str, Any]:
        steps.append(index)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        shot(pipe, [{}], num_inference_steps=4, callback_on_step_end=refuse)
    assert steps == [0]


def test_prompt_changes_the_backdrop(pipe: TinyWorldPipeline) -> None:
    """A beach has a brighter ground than outer space, from the same noise and layout."""
    beach, space = shot(
        pipe, [{"prompt": "the sandy beach", "layout": []}, {"prompt": "outer space", "layout": []}]
    )
    assert beach[:, -40:].mean() > space[:, -40:].mean() + 0.2


def test_word_order_and_unknown_words_are_forgiven(pipe: TinyWorldPipeline) -> None:
    """Synonyms in odd order among unknown words paint the same setting."""
    plain, odd, other = shot(
        pipe,
        [
            {"prompt": "at the beach", "layout": []},
            {"prompt": "seashore, zorbly frumious!", "layout": []},
            {"prompt": "in the forest", "layout": []},
        ],
    )
    assert (plain - odd).abs().mean() < 0.5 * (plain - other).abs().mean()


def test_layout_moves_the_subject(pipe: TinyWorldPipeline) -> None:
    """The centre of what differs from the empty backdrop follows x and y of the layout."""
    places = [(0.25, 0.4), (0.5, 0.5), (0.75, 0.6)]
    frames = [{"layout": [ROCKET | {"x": x, "y": y}]} for x, y in places] + [{"layout": []}]
    *painted, empty = shot(pipe, frames, num_inference_steps=4)
    axis = (torch.arange(256) + 0.5) / 256
    for picture, (x, y) in zip(painted, places, strict=True):
        there = ((picture - empty).abs().mean(0) > 0.1).float()
        assert ((there.sum(0) * axis).sum() / there.sum()).item() == pytest.approx(x, abs=0.08)
        assert ((there.sum(1) * axis).sum() / there.sum()).item() == pytest.approx(y, abs=0.08)


def test_backdrop_holds_still(pipe: TinyWorldPipeline) -> None:
    """While the subject crosses the upper half, the ground changes by less than 4 of 255."""
    frames = [{"layout": [ROCKET | {"x": 0.1 * k, "y": 0.25}]} for k in range(1, 9)]
    ground = shot(pipe, frames, num_inference_steps=4)[:, :, 180:]
    changes = [(b - a).abs().mean().item() * 255 for a, b in pairwise(ground)]
    assert max(changes) < 4


def test_a_backdrop_is_what_subjects_move_before(pipe: TinyWorldPipeline) -> None:
    """Around the subject the picture is the backdrop's bits, in its middle the model's own."""
    frames = [{"layout": [ROCKET]}, {"layout": []}, {"layout": [ROCKET | {"x": 0.9, "turn": 30}]}]
    own = torch.linspace(-1, 1, 3 * 256 * 256).reshape(1, 3, 256, 256)
    laid, empty, beside = shot(pipe, frames, backdrop=own)
    behind = own[0] / 2 + 0.5
    assert torch.equal(empty, behind)
    assert torch.equal(beside[..., :150], behind[..., :150])
    assert torch.equal(laid[:, :64], behind[:, :64])
    middle = slice(120, 136)
    painted = shot(pipe, frames[:1])[0]
    assert torch.allclose(laid[:, middle, middle], painted[:, middle, middle], atol=1e-6)
    assert not torch.allclose(laid[:, middle, middle], behind[:, middle, middle], atol=0.1)


def test_unknown_subject_is_refused(pipe: TinyWorldPipeline) -> None:
    """A subject outside the vocabulary is an error, not a blank picture."""
    with pytest.raises(ValueError, match="never seen"):
        shot(pipe, [{"layout": [ROCKET | {"subject": "zeppelin"}]}])


def test_vocabulary_and_model_agree(pipe: TinyWorldPipeline) -> None:
    """Every subject that the vocabulary promises has a code in the model, and no other."""
    assert set(CARD.vocabulary.subjects) == set(pipe.layout_encoder.config.subjects)


def test_weights_are_those_of_the_card() -> None:
    """The digests in the card are those of the weight files, all safetensors, under 60 MB."""
    import hashlib

    files = {p.relative_to(MODEL).as_posix(): p for p in MODEL.rglob("*.safetensors")}
    assert {n: hashlib.sha256(p.read_bytes()).hexdigest() for n, p in files.items()} == dict(
        CARD.digests
    )
    assert sum(path.stat().st_size for path in files.values()) < 60e6
    assert not list(MODEL.rglob("*.bin"))
