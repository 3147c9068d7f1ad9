"""The models a farm offers: cards read from TOML files.

A model is a folder `<models folder>/<id>/` with

- `card.toml`: the fields of `ModelCard`, sizes written as `"256x256"`, cost priors as
  tables `[priors.<device class>]` (one of them `cpu`); `id` is the folder's name, and the
  `path` of a local model is the folder itself;
- `vocabulary.toml` (optional): `[subjects]`, `[settings]`, `[motions]`, `[styles]`, each
  with rows `dog = { words = ["dog", "puppy"] }`.

Nothing here opens weights: whether their digests hold is the worker's to say.
"""

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Final, Literal

from pydantic import TypeAdapter, ValidationError

from orchestrator.errors import BadRequest
from orchestrator.model import Json, Size, Vocabulary
from orchestrator.remedies import Listing, LookAt, Say

CARD: Final = "card.toml"
VOCABULARY: Final = "vocabulary.toml"
DEFAULT_MODEL: Final = "tiny_world"
"""The model of a request that names none, where it is there; else the first card."""
PIPELINES: Final = frozenset(
    {
        "FluxPipeline",
        "PixArtSigmaPipeline",
        "SanaPipeline",
        "StableDiffusionPipeline",
        "StableDiffusionXLPipeline",
        "TinyWorldPipeline",
    }
)
"""Pipeline classes a card may name; a request can never name one."""
IMAGE_PIPELINES: Final = PIPELINES - {"FluxPipeline", "SanaPipeline"}
"""Those that can start from a reference image: their autoencoder has the mode of a posterior or
none, and their schedule is one that `scheduler.add_noise` can enter in the middle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CostPrior:
    """Cost of a model on one class of device, until this farm has measured it."""

    ms_per_frame_step_megapixel: float
    """Denoising: device ms per frame, step and native megapixel."""
    decode_ms_per_frame: float
    """Latents to pixels at the card's native size."""
    startup_ms: int
    """Load and warm-up: the farm's, never in a quote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """Everything the farm knows of a model without opening its weights."""

    id: str
    version: str
    title: str
    kind: Literal["frames"] = "frames"
    engine: Literal["diffusers", "fake"] = "diffusers"
    pipeline: str
    """Class name, one of `PIPELINES`; empty for the fake engine."""
    source: Literal["local", "hub"] = "local"
    path: str
    """Folder of a local model (absolute), or the repository id of a hub model."""
    revision: str = ""
    """Commit of a hub model; empty for a local one."""
    licence: str
    parameters: int
    native: Size
    """The size that the model paints best."""
    output: Size
    """The size of a request that names none."""
    default_steps: int
    min_steps: int
    max_steps: int
    profiles: Mapping[str, int] = field(default_factory=dict)
    """Name -> denoising steps: the speeds that were measured, such as `fast` and `best`."""
    guidance_scale: float
    micro_batch: int
    """Frames per call of the pipeline; fixed, because pixels depend on it."""
    fps: int
    seconds: float
    """Length of a shot that names none."""
    max_seconds: float
    max_frames: int
    memory_mb: int
    domains: tuple[str, ...] = ()
    uses_layout: bool = False
    """Takes subjects with places (`model.Placement`) beside the prompt."""
    image_strength: float = 0.0
    """The part of the schedule that is run from a reference image (SDEdit's noise); 0: takes none.

    A layout model runs all of it (1) and lays the image behind its subjects.
    """
    frame_multiple: int = 1
    size_multiple: int = 8
    """Sides of a native picture are multiples of this."""
    most_upscale: int = 1
    """Times by which sides may be shorter than `native` and still show what was asked."""
    priors: Mapping[str, CostPrior]
    """By device class; `cpu` is always there."""
    vocabulary: Vocabulary = field(default_factory=Vocabulary)
    digests: Mapping[str, str] = field(default_factory=dict)
    """File under the model's folder -> SHA-256."""
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def takes_image(self) -> bool:
        """Tell whether a video may start from a reference image, or have it behind its subjects."""
        return self.image_strength > 0

    @property
    def starts_from_image(self) -> bool:
        """Tell whether frames show a reference image, so that its subjects go on in them."""
        return self.takes_image and not self.uses_layout

    def steps_of(self, profile: str) -> int:
        """Return the steps of a profile.

        Raises:
            BadRequest: this model has none of that name; the message names those it has.
        """
        if profile not in self.profiles:
            raise BadRequest(
                f"{self.id} has no profile {profile[:40]!r}.",
                Say(f"Take one of these: {', '.join(self.profiles) or 'none'}; or name the steps."),
            )
        return self.profiles[profile]

    def profile_of(self, steps: int) -> str | None:
        """Return the profile with so many steps; None: steps of somebody's own."""
        return next((name for name, each in self.profiles.items() if each == steps), None)

    def prior(self, device_class: str) -> CostPrior:
        """Return the cost prior of a device class; an unknown one costs what a CPU does."""
        return self.priors.get(device_class, self.priors["cpu"])


FAKE: Final = ModelCard(
    id="fake",
    version="1",
    title="No model at all: moving gradients for tests of the farm",
    engine="fake",
    pipeline="",
    path="",
    licence="Apache-2.0",
    parameters=0,
    native=Size(width=64, height=64),
    output=Size(width=64, height=64),
    default_steps=4,
    min_steps=1,
    max_steps=1000,
    guidance_scale=1.0,
    micro_batch=4,
    fps=12,
    seconds=2.0,
    max_seconds=600.0,
    max_frames=7200,
    memory_mb=1,
    priors={
        "cpu": CostPrior(ms_per_frame_step_megapixel=5000.0, decode_ms_per_frame=1.0, startup_ms=0)
    },
)
"""The card of the fake engine; a farm offers it only under FARM_FAKE_MODEL=1."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """The models on offer, by id."""

    cards: Mapping[str, ModelCard]

    @property
    def default(self) -> ModelCard:
        """The model of a request that names none.

        Raises:
            BadRequest: there is no model at all.
        """
        if not self.cards:
            raise BadRequest(
                "This farm has no model.",
                LookAt(
                    Listing.CHECKS, "Put a model folder into FARM_MODELS_PATH, and have it checked."
                ),
            )
        return self.cards.get(DEFAULT_MODEL) or next(iter(self.cards.values()))

    def card(self, model_id: str | None) -> ModelCard:
        """Return the card of a model, or the default one.

        Raises:
            BadRequest: no model has this id; the message names those there are.
        """
        if model_id is None:
            return self.default
        if model_id not in self.cards:
            known = ", ".join(sorted(self.cards)) or "none"
            raise BadRequest(
                f"There is no model {model_id[:60]!r}.",
                LookAt(Listing.MODELS, f"Take one of these: {known}."),
                models=sorted(self.cards),
            )
        return self.cards[model_id]


def bundled_models() -> Path:
    """Return the folder of the models that come with Framefarm."""
    return Path(__file__).resolve().parent.parent / "models"


def load(*folders: Path, fake: bool = False) -> Catalog:
    """Read the cards of all models in the folders; a later folder wins over an earlier one.

    Raises:
        BadRequest: a card or vocabulary cannot be used; names file, field and fault.
    """
    cards: dict[str, ModelCard] = {}
    for folder in folders:
        for path in sorted(folder.glob(f"*/{CARD}")):
            card = load_card(path.parent)
            cards[card.id] = card
    if fake:
        cards[FAKE.id] = FAKE
    return Catalog(cards)


def load_card(folder: Path) -> ModelCard:
    """Read the card, and the vocabulary where there is one, of one model folder.

    Raises:
        BadRequest: as `load`.
    """
    file = folder / CARD
    facts = _read_toml(file)
    given = facts.get("id", folder.name)
    if given != folder.name:
        raise _unusable(file, f"id is {given!r}, but the folder is named {folder.name!r}")
    for side in ("native", "output"):
        if isinstance(facts.get(side), str):
            facts[side] = _size(file, side, facts[side])
    facts["id"] = folder.name
    if facts.get("source", "local") == "local":
        facts["path"] = str(folder.resolve())
    words = folder / VOCABULARY
    facts["vocabulary"] = load_vocabulary(words) if words.exists() else Vocabulary()
    unknown = facts.keys() - {each.name for each in fields(ModelCard)}
    if unknown:
        raise _unusable(file, f"{_names(unknown)}: there is no such field in a card")
    try:
        card = _adapter().validate_python(facts)
    except ValidationError as error:
        raise _unusable(file, _first_fault(error)) from None
    fault = next(_faults(card), None)
    if fault:
        raise _unusable(file, fault)
    return card


def load_vocabulary(file: Path) -> Vocabulary:
    """Read the words a model knows.

    Raises:
        BadRequest: the file is not TOML, or a row has no words.
    """
    tables = _read_toml(file)
    names = tuple(each.name for each in fields(Vocabulary))
    unknown = tables.keys() - set(names)
    if unknown:
        raise _unusable(file, f"{_names(unknown)}: tables are {', '.join(names)}")
    return Vocabulary(**{name: _rows(file, name, tables.get(name, {})) for name in names})


# --- inside -------------------------------------------------------------------------------


def _rows(file: Path, table: str, rows: object) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    if not isinstance(rows, dict):
        raise _unusable(file, f"{table} must be a table")
    for row, content in rows.items():
        words = content.get("words") if isinstance(content, dict) else None
        if not (isinstance(words, list) and words and all(_is_phrase(word) for word in words)):
            raise _unusable(file, f'{table}.{row} needs words = ["…"] in lower case')
        found[row] = tuple(words)
    return found


def _is_phrase(word: object) -> bool:
    return isinstance(word, str) and bool(word.strip()) and word == word.lower()


def _read_toml(file: Path) -> Json:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _unusable(file, str(error)) from error


def _size(file: Path, name: str, text: str) -> Size:
    width, cross, height = text.partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise _unusable(file, f'{name} must look like "256x256"')
    return Size(width=int(width), height=int(height))


def _faults(card: ModelCard) -> Iterator[str]:
    """Yield what is wrong with a card whose types are right."""
    if card.engine == "diffusers" and card.pipeline not in PIPELINES:
        yield f"pipeline {card.pipeline!r} is not one of {_names(PIPELINES)}"
    if card.source == "hub" and not card.revision:
        yield "revision is missing: a hub model is pinned to a commit"
    yield from _image_faults(card)
    if "cpu" not in card.priors:
        yield "priors.cpu is missing"
    yield from _step_faults(card)
    if not 0 < card.seconds <= card.max_seconds:
        yield "seconds must be more than 0 and at most max_seconds"
    for name in (
        "micro_batch",
        "fps",
        "max_frames",
        "frame_multiple",
        "size_multiple",
        "most_upscale",
    ):
        if getattr(card, name) < 1:
            yield f"{name} must be at least 1"
    for name in ("native", "output"):
        size: Size = getattr(card, name)
        if min(size.width, size.height) < 2 or size.width % 2 or size.height % 2:
            yield f"{name} must have even sides"
    if card.native.width % card.size_multiple or card.native.height % card.size_multiple:
        yield f"native must have sides that are multiples of {card.size_multiple}"
    for device, prior in card.priors.items():
        if prior.ms_per_frame_step_megapixel <= 0 or prior.decode_ms_per_frame < 0:
            yield f"priors.{device} must be more than nothing"


def _step_faults(card: ModelCard) -> Iterator[str]:
    if not 1 <= card.min_steps <= card.default_steps <= card.max_steps:
        yield "steps must be 1 <= min_steps <= default_steps <= max_steps"
    for name, steps in card.profiles.items():
        if not card.min_steps <= steps <= card.max_steps:
            yield f"profiles.{name} must lie between min_steps and max_steps"
    if len(set(card.profiles.values())) < len(card.profiles):
        yield "profiles must differ in their steps"


def _image_faults(card: ModelCard) -> Iterator[str]:
    if not 0 <= card.image_strength <= 1:
        yield "image_strength must be 0 (takes no image) to 1 (nothing of it is left)"
    if card.uses_layout and card.image_strength not in (0, 1):
        yield "image_strength must be 0 or 1: a layout model lays the image behind its subjects"
    if card.image_strength and card.pipeline not in IMAGE_PIPELINES:
        yield f"image_strength must be 0: {card.pipeline or card.engine} cannot take an image"


def _first_fault(error: ValidationError) -> str:
    fault = error.errors()[0]
    return f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"


def _unusable(file: Path, fault: str) -> BadRequest:
    return BadRequest(
        f"The model file {file} cannot be used: {fault}.",
        LookAt(Listing.CHECKS, "Mend that line, or take the folder away; then have all checked."),
    )


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


@cache
def _adapter() -> TypeAdapter[ModelCard]:
    return TypeAdapter(ModelCard)
