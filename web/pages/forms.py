"""The upload form: what was typed, and the brief it means.

A form that cannot be understood keeps everything that was typed and says beside each field
what is wrong with it; nothing here touches the farm.
"""

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Annotated, Final
from urllib.parse import parse_qsl, urlencode

from pydantic import Field, TypeAdapter, ValidationError
from werkzeug.datastructures import MultiDict

from orchestrator.errors import BadRequest
from orchestrator.farm.jobs.keeping import still_ahead
from orchestrator.farm.jobs.labelling import MOST_LABELS
from orchestrator.model import WHITE, Brief, Handling, Job, SceneText, Size
from orchestrator.prompting import storyboard
from orchestrator.safe_text import MetadataKey, MetadataValue, Tag
from orchestrator.states import OnExhausted
from web.pages.words import plain

FIELDS: Final = (
    "prompt", "negative_prompt", "seconds", "size", "seed", "model", "steps", "fps",
    "interpolate", "upscale", "max_gpu_seconds", "on_exhausted", "session", "tags", "extends",
    "written_out", "metadata", "expires_in", "expires_at", "told_like", "image_background",
)  # fmt: skip
HIDDEN: Final = frozenset(
    {"extends", "written_out", "metadata", "expires_in", "expires_at", "told_like"}
)
"""Fields that come from another job or an alternative, and nobody types."""
ALWAYS: Final = {"prompt", "negative_prompt", "seconds", "size", "seed", "image_background"}
MORE: Final = frozenset(FIELDS) - HIDDEN - ALWAYS
"""Fields that start folded away."""
KEPT: Final = re.compile(r"inputs/[0-9a-f]{64}/[\w.-]{1,80}")
COLOUR: Final = re.compile(r"#[0-9a-f]{6}")
SIZE: Final = re.compile(r"\s*(\d{1,5})\s*[x×*]\s*(\d{1,5})\s*", re.IGNORECASE)
EXPIRES: Final = re.compile(r"[0-9]{1,10}")
MOMENT: Final = re.compile(r"[0-9]{1,15}")
TAGS: Final[TypeAdapter[list[str]]] = TypeAdapter(list[Tag])
METADATA: Final[TypeAdapter[dict[str, str]]] = TypeAdapter(
    Annotated[dict[MetadataKey, MetadataValue], Field(max_length=MOST_LABELS)]
)
OVER: Final = (
    "The time until which that video was to be kept is over; this one is kept as the plan says."
)
STORYBOARDS: Final = ".json,.yaml,.yml,.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file that came with the form."""

    name: str
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Everything typed into the upload form, and what was wrong with it."""

    values: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    """Field -> what to change."""
    image: str = ""
    """Artifact key of the reference image that was sent before."""
    storyboard: str = ""
    """Artifact key of the storyboard that was sent before."""
    scenes: tuple[SceneText, ...] = ()

    def __getitem__(self, name: str) -> str:
        """Return the text typed into a field, empty when nothing."""
        return self.values.get(name, "")

    @property
    def more_open(self) -> bool:
        """Tell whether a folded field has something to show."""
        return any(self[name] or name in self.wrong for name in MORE)

    @property
    def is_blank(self) -> bool:
        """Nothing to quote yet."""
        return not self["prompt"].strip() and not self.scenes and not self.wrong

    def found_wrong(self, name: str, sentence: str) -> "Form":
        """Return the form with a fault marked at one of its fields."""
        return replace(self, wrong={**self.wrong, name: sentence})


def read(form: MultiDict[str, str]) -> Form:
    """Take what was typed; an alternative that was chosen overrules the fields it names."""
    values = {name: form.get(name, "").strip() for name in FIELDS}
    chosen = MultiDict(_pairs(form.get("alternative", "")))
    values |= {name: chosen[name] for name in FIELDS if name in chosen}
    kept = {name: form.get(f"kept_{name}", "") for name in ("image", "storyboard")}
    return Form(
        values={name: value for name, value in values.items() if value},
        image=kept["image"] if KEPT.fullmatch(kept["image"]) else "",
        storyboard=kept["storyboard"] if KEPT.fullmatch(kept["storyboard"]) else "",
    )


def with_storyboard(form: Form, upload: Upload) -> Form:
    """Read the scenes of a storyboard file into the form."""
    try:
        scenes = storyboard.load(upload.data, upload.name)
    except BadRequest as error:
        return form.found_wrong("storyboard", f"{error.message} {error.advice}")
    title = form["prompt"] or PurePath(upload.name).stem.replace("_", " ").replace("-", " ")
    return replace(form, scenes=scenes, values={**form.values, "prompt": title})


def brief(form: Form) -> tuple[Form, Brief | None]:
    """Return the brief that the form means, or None and the form with its faults marked."""
    reader = _Reader(form)
    asked = Brief(
        prompt=form["prompt"],
        negative_prompt=form["negative_prompt"],
        scenes=form.scenes,
        model=form["model"] or None,
        seconds=reader.number("seconds", "a length in seconds, such as 3 or 2.5"),
        fps=reader.whole("fps", "frames per second, such as 12"),
        size=reader.size(),
        steps=reader.whole("steps", "a whole number of denoising steps, such as 8"),
        interpolate=reader.times("interpolate"),
        upscale=reader.times("upscale"),
        seed=reader.whole("seed", "a whole number, or nothing for a chance one"),
        image=form.image or None,
        image_background=reader.colour("image_background"),
        max_gpu_ms=reader.thousandths("max_gpu_seconds", "GPU-seconds, such as 30 or 4.5"),
        on_exhausted=reader.on_exhausted(),
        written_out=form["written_out"] == "yes",
    )
    reader.labels()
    if not form["prompt"] and not form.scenes and not form.wrong:
        reader.wrong["prompt"] = "Describe the video: one sentence is enough."
    if reader.wrong:
        return replace(form, wrong=reader.wrong), None
    return form, asked


def handling(form: Form) -> Handling:
    """Return how the video of a form without faults is to be labelled and kept."""
    expires, moment = form["expires_in"], form["expires_at"]
    return Handling(
        tags=_tags(form["tags"]),
        metadata=METADATA.validate_json(form["metadata"] or "{}"),
        expires_in_ms=int(expires) * 1000 if EXPIRES.fullmatch(expires) else None,
        expires_at_ms=int(moment) if MOMENT.fullmatch(moment) else None,
    )


def labelled_like(form: Form, job: Job, now_ms: int) -> Form:
    """Return a form with the labels, the time and the webhook that a job was asked with.

    A moment that is over is left out, and said beside the tags.
    """
    if job.keep_until_ms and not still_ahead(job, now_ms):
        form = form.found_wrong("tags", OVER)
    kept = job.keep_ms // 1000 if job.keep_ms and job.keep_asked else ""
    values = {
        "tags": " ".join(job.tags),
        "metadata": json.dumps(dict(job.metadata), ensure_ascii=False) if job.metadata else "",
        "expires_in": str(kept),
        "expires_at": str(job.keep_until_ms) if still_ahead(job, now_ms) else "",
        "told_like": job.id if job.webhook_id else "",
    }
    return replace(form, values=form.values | {k: v for k, v in values.items() if v})


def from_brief(asked: Brief) -> Form:
    """Return the form that means a brief, for making a variation of a job."""
    values = {
        "prompt": asked.prompt,
        "negative_prompt": asked.negative_prompt,
        **overrides(asked),
        "seed": "" if asked.seed is None else str(asked.seed),
        "on_exhausted": asked.on_exhausted.value,
        "max_gpu_seconds": "" if asked.max_gpu_ms is None else plain(asked.max_gpu_ms / 1000),
        "extends": asked.origin.job_id if asked.before and asked.origin else "",
        "image_background": asked.image_background if asked.image else "",
    }
    return Form(
        values={name: value for name, value in values.items() if value},
        image=asked.image or "",
        scenes=asked.scenes,
    )


def overrides(asked: Brief) -> dict[str, str]:
    """Return the fields in which an alternative differs from what was asked."""
    return {
        "steps": str(asked.steps or ""),
        "seconds": "" if asked.seconds is None else plain(asked.seconds),
        "size": str(asked.size or ""),
        "fps": str(asked.fps or ""),
        "interpolate": str(asked.interpolate),
        "upscale": str(asked.upscale),
        "model": asked.model or "",
        "written_out": "yes" if asked.written_out else "",
    }


def choice(asked: Brief) -> str:
    """Return an alternative as the value of its button."""
    return urlencode(overrides(asked))


# --- inside -------------------------------------------------------------------------------


class _Reader:
    """Reads fields into numbers and collects what is wrong with them."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self.wrong = dict(form.wrong)

    def number(self, name: str, wanted: str) -> float | None:
        text = self.form[name].replace(",", ".")
        if not text:
            return None
        if re.fullmatch(r"\d{1,9}(\.\d{1,6})?", text):
            return float(text)
        self.wrong[name] = f"This must be {wanted}."
        return None

    def whole(self, name: str, wanted: str) -> int | None:
        text = self.form[name]
        if not text:
            return None
        if re.fullmatch(r"-?\d{1,18}", text):
            return int(text)
        self.wrong[name] = f"This must be {wanted}."
        return None

    def times(self, name: str) -> int:
        value = self.whole(name, "a whole number, such as 2")
        return 1 if value is None else value

    def thousandths(self, name: str, wanted: str) -> int | None:
        value = self.number(name, wanted)
        return None if value is None else round(value * 1000)

    def on_exhausted(self) -> OnExhausted:
        text = self.form["on_exhausted"] or OnExhausted.PAUSE
        if text in set(OnExhausted):
            return OnExhausted(text)
        self.wrong["on_exhausted"] = f"This must be one of {', '.join(OnExhausted)}."
        return OnExhausted.PAUSE

    def labels(self) -> None:
        try:
            if len(_tags(self.form["tags"])) > MOST_LABELS:
                self.wrong["tags"] = f"There are at most {MOST_LABELS} tags."
        except ValidationError:
            self.wrong["tags"] = "A tag is a visible word of at most 40 letters."
        try:
            METADATA.validate_json(self.form["metadata"] or "{}")
        except ValidationError:
            self.wrong["tags"] = "The metadata that came with this form is none."

    def colour(self, name: str) -> str:
        text = (self.form[name] or WHITE).lower()
        if COLOUR.fullmatch(text):
            return text
        self.wrong[name] = "This must be a colour, such as #ffffff."
        return WHITE

    def size(self) -> Size | None:
        text = self.form["size"]
        if not text:
            return None
        found = SIZE.fullmatch(text)
        if found:
            return Size(width=int(found[1]), height=int(found[2]))
        self.wrong["size"] = "This must be width x height in pixels, such as 512x512."
        return None


def _tags(typed: str) -> tuple[str, ...]:
    """Return the words of the field, each once.

    Raises:
        ValidationError: one is no tag.
    """
    return tuple(dict.fromkeys(TAGS.validate_python(typed.replace(",", " ").split())))


def _pairs(query: str) -> list[tuple[str, str]]:
    return parse_qsl(query[:500], max_num_fields=10, keep_blank_values=True)
