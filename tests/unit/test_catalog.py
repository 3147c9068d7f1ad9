"""Model cards: what is read, and how a fault is named."""

import pickle
from pathlib import Path

import pytest

from orchestrator import catalog
from orchestrator.errors import BadRequest
from orchestrator.model import Size

CARD = """
version = "1"
title = "A model"
pipeline = "StableDiffusionPipeline"
licence = "CC0-1.0"
parameters = 1_000
native = "64x32"
output = "128x64"
default_steps = 4
min_steps = 1
max_steps = 8
guidance_scale = 3.0
micro_batch = 2
fps = 12
seconds = 2.0
max_seconds = 10.0
max_frames = 100
memory_mb = 100
domains = ["animals"]

[priors.cpu]
ms_per_frame_step_megapixel = 10.0
decode_ms_per_frame = 1.5
startup_ms = 100

[digests]
"unet/model.safetensors" = "00"
"""
WORDS = '[subjects]\ndog = { words = ["dog", "puppy"] }\n'


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A models folder with one model, and one folder that is none."""
    model = tmp_path / "little"
    model.mkdir()
    (model / "card.toml").write_text(CARD)
    (model / "vocabulary.toml").write_text(WORDS)
    (tmp_path / "notes").mkdir()
    return tmp_path


def test_a_folder_is_a_model(models: Path) -> None:
    """The card has the folder's name and place, and the words beside it."""
    card = catalog.load(models).card("little")
    assert (card.id, card.path) == ("little", str((models / "little").resolve()))
    assert card.native == Size(width=64, height=32)
    assert card.vocabulary.subjects == {"dog": ("dog", "puppy")}
    assert card.prior("nvidia-h100") == card.prior("cpu") == card.priors["cpu"]
    assert pickle.loads(pickle.dumps(card)) == card


def test_a_request_without_a_model_gets_the_default(models: Path) -> None:
    """tiny_world where it is there, else the first one; never the fake one unasked."""
    assert catalog.load(models).default.id == "little"
    (models / "tiny_world").mkdir()
    (models / "tiny_world" / "card.toml").write_text(CARD)
    found = catalog.load(models, fake=True)
    assert found.card(None).id == "tiny_world"
    assert list(found.cards) == ["little", "tiny_world", "fake"]


def test_an_unknown_model_is_told_the_known_ones(models: Path) -> None:
    """The error's next step names the models there are."""
    with pytest.raises(BadRequest) as refused:
        catalog.load(models).card("sora")
    assert "'sora'" in refused.value.message
    assert "little" in refused.value.advice


def test_a_farm_without_models_says_so(tmp_path: Path) -> None:
    """An empty catalogue is no crash."""
    with pytest.raises(BadRequest, match="no model"):
        catalog.load(tmp_path / "nowhere").card(None)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('version = "1"', "", "version"),
        ("micro_batch = 2", "micro_batch = 0", "micro_batch must be at least 1"),
        ("micro_batch = 2", 'micro_batch = "two"', "micro_batch"),
        ("StableDiffusionPipeline", "os.system", "'os.system' is not one of"),
        ('native = "64x32"', 'native = "64"', 'native must look like "256x256"'),
        ('native = "64x32"', 'native = "65x32"', "even sides"),
        ('native = "64x32"', 'native = "66x32"', "multiples of 8"),
        ("default_steps = 4", "default_steps = 9", "min_steps"),
        ("seconds = 2.0", "seconds = 20.0", "max_seconds"),
        ("fps = 12", "fps = 12\nprofiles = { fast = 9 }", "profiles.fast must lie between"),
        ("fps = 12", "fps = 12\nprofiles = { a = 2, b = 2 }", "differ in their steps"),
        ("[priors.cpu]", "[priors.gpu]", "priors.cpu is missing"),
        ("decode_ms_per_frame = 1.5", "decode_ms_per_frame = -1", "priors.cpu"),
        ("fps = 12", "fps = 12\nimage_strength = 1.5", "image_strength must be 0"),
        (
            'pipeline = "StableDiffusionPipeline"',
            'pipeline = "FluxPipeline"\nimage_strength = 0.7',
            "FluxPipeline cannot take an image",
        ),
        ("fps = 12", "fps = 12\nuses_layout = true\nimage_strength = 0.5", "must be 0 or 1"),
        ("fps = 12", "fps = 12\nfsp = 13", "fsp: there is no such field"),
        ('version = "1"', 'version = "1"\nsource = "hub"\npath = "a/b"', "pinned to a commit"),
        ('version = "1"', 'version = "1"\nid = "big"', "the folder is named 'little'"),
        ('version = "1"', "version = ", "line 2"),
    ],
)
def test_a_fault_in_a_card_is_named(models: Path, old: str, new: str, says: str) -> None:
    """The error has the file, the field and what is wrong with it."""
    assert old in CARD
    (models / "little" / "card.toml").write_text(CARD.replace(old, new, 1))
    with pytest.raises(BadRequest) as refused:
        catalog.load(models)
    assert says in refused.value.message
    assert "card.toml" in refused.value.message


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("[subjects]\ndog = {}", "subjects.dog needs words"),
        ('[subjects]\ndog = { words = ["Dog"] }', "lower case"),
        ('[animals]\ndog = { words = ["dog"] }', "animals"),
        ("subjects = 3", "subjects must be a table"),
    ],
)
def test_a_fault_in_a_vocabulary_is_named(models: Path, words: str, says: str) -> None:
    """A row without words, or a table nobody reads, is an error and not silence."""
    (models / "little" / "vocabulary.toml").write_text(words)
    with pytest.raises(BadRequest) as refused:
        catalog.load(models)
    assert says in refused.value.message


def test_the_bundled_models_can_be_read() -> None:
    """All that comes with Framefarm loads: cards where there are weights, and the words."""
    catalog.load(catalog.bundled_models())
    words = catalog.load_vocabulary(catalog.bundled_models() / "tiny_world" / "vocabulary.toml")
    assert "rocket" in words.subjects
