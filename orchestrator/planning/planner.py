"""From a brief and its screenplay to a plan: sizes, frames, seeds, and the cut into batches.

Everything that decides a pixel is in the plan; `frames` unfolds it per frame, and any range of
frames is the same slice of the whole.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from math import ceil, isfinite
from typing import Final

from orchestrator.catalog import CostPrior, ModelCard
from orchestrator.errors import BadRequest
from orchestrator.model import (
    Brief,
    Cast,
    Frame,
    FrameBatch,
    Origin,
    RenderPlan,
    Scene,
    Screenplay,
    Shot,
    Size,
)
from orchestrator.planning import limits, motion
from orchestrator.planning.limits import MAX_SEED
from orchestrator.prompting.transformations import split_becoming
from orchestrator.remedies import Say
from orchestrator.states import OnExhausted

BATCH_MS: Final = 1000.0
"""A batch lasts at least this on the fastest device the card knows: under it, the overhead of
a unit (claim, upload, settle) shows; see performance.md, row a."""
KEY_FRAMES_FIRST: Final = ((0, 4), (2, 4), (1, 2))
"""Every fourth frame, those half-way between them, the rest: rate doubles with each pass."""
BATCH_CPU_MS: Final = 10_000.0
"""… but no longer than this on a CPU, so that a lost unit is a small loss."""


def plan(brief: Brief, screenplay: Screenplay, card: ModelCard, *, seed: int) -> RenderPlan:
    """Decide everything about a job; the brief's own fields win over the prompt's words.

    Raises:
        BadRequest: a wish lies outside what the model or the farm can do.
    """
    output = brief.size or screenplay.size or card.output
    fps = next(rate for rate in (brief.fps, screenplay.fps, card.fps) if rate is not None)
    steps = card.default_steps if brief.steps is None else brief.steps
    limits.check(brief, card, output=output, fps=fps, steps=steps, seed=seed)
    scenes = tuple(_with_negative(scene, brief.negative_prompt) for scene in screenplay.scenes)
    lead = brief.origin if brief.origin and brief.origin.last else None
    asked = screenplay.seconds if brief.seconds is None else brief.seconds
    seconds = _lengths(scenes, asked, card)
    counts = _frame_counts(seconds, fps // brief.interpolate, card)
    native = _native(card, output, brief.upscale)
    passes = _passes(brief, card)
    notes = (
        *screenplay.notes,
        *_size_notes(native, output),
        *_rate_notes(brief.interpolate, fps),
        *_image_notes(brief, card),
    )
    return RenderPlan(
        model=card.id,
        model_version=card.version,
        native=native,
        output=output,
        fps=fps,
        interpolate=brief.interpolate,
        upscale=brief.upscale,
        steps=steps,
        guidance_scale=card.guidance_scale,
        micro_batch=card.micro_batch,
        seed=seed,
        shots=_shots(scenes, counts, seed, lead),
        batches=_batches(sum(counts), steps, native, card, passes),
        passes=len(passes),
        notes=notes,
        lead=lead,
    )


def shot_seed(seed: int, index: int) -> int:
    """Return the seed of a shot: 31 bits of SHA-256 of `<job's seed>/<shot's index>`."""
    digest = sha256(f"{seed}/{index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") & MAX_SEED


def frames(
    plan: RenderPlan, first: int, count: int, card: ModelCard, stride: int = 1
) -> tuple[Frame, ...]:
    """Return `count` frames from `first` on, each complete in itself.

    Raises:
        BadRequest: the plan has no such frames.
    """
    end = first + (count - 1) * stride + 1 if count else first
    if first < 0 or count < 0 or end > plan.frames_total:
        raise BadRequest(f"Frames {first} to {end} are not in a plan of {plan.frames_total}.")
    starts = [shot.first_frame for shot in plan.shots]
    return tuple(
        _frame(index, plan.shots[bisect_right(starts, index) - 1], plan, card)
        for index in range(first, end, stride)
    )


# --- length -------------------------------------------------------------------------------


def _lengths(scenes: Sequence[Scene], asked: float | None, card: ModelCard) -> list[float]:
    """Return the seconds of each scene.

    Without a length for the whole, each scene has its own or the model's default, and scenes
    without an own length shrink so that the video is not too long. With one, the scenes
    without an own length share what the others leave; where nothing is left to share, all
    scenes are stretched or shrunk alike.
    """
    _check_seconds([scene.seconds for scene in scenes] + [asked], card)
    own = sum(scene.seconds or 0.0 for scene in scenes)
    free = sum(scene.seconds is None for scene in scenes)
    if asked is None:
        room = card.max_seconds - own
        share = min(card.seconds, room / free) if free and room > 0 else card.seconds
    elif free and asked > own:
        share = (asked - own) / free
    else:
        share = own / (len(scenes) - free) if own else 1.0
    seconds = [share if scene.seconds is None else scene.seconds for scene in scenes]
    if asked is None:
        return seconds
    total = sum(seconds)
    return [each * asked / total for each in seconds]


def _check_seconds(wishes: Sequence[float | None], card: ModelCard) -> None:
    for intent in wishes:
        if intent is not None and not (isfinite(intent) and 0 < intent <= card.max_seconds):
            raise BadRequest(
                f"{card.id} cannot make a video of {intent:g} seconds.",
                Say(f"Ask for more than 0 and at most {card.max_seconds:g} seconds."),
            )


def _frame_counts(seconds: Sequence[float], fps: int, card: ModelCard) -> list[int]:
    """Return the frames of each shot: cuts fall on the nearest frame, every shot has one."""
    counts: list[int] = []
    clock, end = 0.0, 0
    for each in seconds:
        clock += each
        count = max(1, round(clock * fps) - end)
        count = -(-count // card.frame_multiple) * card.frame_multiple
        counts.append(count)
        end += count
    total = sum(counts)
    limit = min(card.max_frames, round(card.max_seconds * fps))
    if total > max(limit, len(counts)) or total > card.max_frames:
        raise BadRequest(
            f"This video has {total} frames ({total / fps:g} seconds at {fps} frames per second); "
            f"{card.id} makes at most {limit}.",
            Say(f"Ask for at most {limit / fps:g} seconds in all, or for fewer frames per second."),
        )
    return counts


# --- pictures -----------------------------------------------------------------------------


def _native(card: ModelCard, output: Size, upscale: int) -> Size:
    """Return what the model paints for an output.

    Its own size where the shape is the same, and always for layout models, which know one
    shape only; else sides of the output's shape with as many pixels at most. Sides are so many
    times shorter as `upscale` says.
    """
    own = card.native
    shape = output.width / output.height
    grid = card.size_multiple + card.size_multiple % 2
    if card.uses_layout or abs(shape / (own.width / own.height) - 1) < 0.01:
        if upscale == 1:
            return own
        shape = own.width / own.height
    pixels = own.width * own.height / upscale**2
    width = max(grid, int((pixels * shape) ** 0.5) // grid * grid)
    height = max(grid, int((pixels / shape) ** 0.5) // grid * grid)
    return Size(width=width, height=height)


def _size_notes(native: Size, output: Size) -> Iterator[str]:
    if native != output:
        yield f"The model paints {native}; the video is scaled to {output}."


def _rate_notes(interpolate: int, fps: int) -> Iterator[str]:
    if interpolate > 1:
        painted = fps // interpolate
        yield f"The model paints {painted} frames a second; those between are made of them."


def _image_notes(brief: Brief, card: ModelCard) -> Iterator[str]:
    if brief.image is not None and card.uses_layout:
        yield "The reference image is the setting: it stands still behind the subjects."


def _with_negative(scene: Scene, more: str) -> Scene:
    joined = ", ".join(part for part in (scene.negative_prompt, more.strip()) if part)
    return replace(scene, negative_prompt=joined)


# --- cutting ------------------------------------------------------------------------------


def _shots(
    scenes: Sequence[Scene], counts: Sequence[int], seed: int, lead: Origin | None
) -> tuple[Shot, ...]:
    shots: list[Shot] = []
    first = 0
    for index, (scene, count) in enumerate(zip(scenes, counts, strict=True)):
        noise = shot_seed(seed, index)
        if lead and lead.last and index == 0:
            noise = lead.last.seed  # the same noise: the same look
        shots.append(Shot(first_frame=first, frames=count, seed=noise, scene=scene))
        first += count
    return tuple(shots)


def _passes(brief: Brief, card: ModelCard) -> Sequence[tuple[int, int]]:
    """Return (first frame, stride) of the passes over the video, in the order they are made.

    A job that may end early with what is finished makes the whole story first, at a quarter of
    its frame rate, then fills in; where frames can be painted in any order.
    """
    if brief.on_exhausted is OnExhausted.FINISH and card.kind == "frames":
        return KEY_FRAMES_FIRST
    return ((0, 1),)


def _batches(
    total: int, steps: int, native: Size, card: ModelCard, passes: Sequence[tuple[int, int]]
) -> tuple[FrameBatch, ...]:
    """Cut the frames into batches of whole micro-batches; they may cross a cut between shots."""
    costs = [_micro_batch_ms(prior, steps, native, card) for prior in card.priors.values()]
    long_enough = ceil(BATCH_MS / min(costs))
    short_enough = int(BATCH_CPU_MS / _micro_batch_ms(card.priors["cpu"], steps, native, card))
    size = card.micro_batch * max(1, min(long_enough, short_enough))
    return tuple(
        FrameBatch(first_frame=part[0], frames=len(part), stride=stride)
        for offset, stride in passes
        for first in range(offset, total, size * stride)
        if (part := range(first, min(total, first + size * stride), stride))
    )


def _micro_batch_ms(prior: CostPrior, steps: int, native: Size, card: ModelCard) -> float:
    frame = steps * native.megapixels * prior.ms_per_frame_step_megapixel
    return card.micro_batch * (frame + prior.decode_ms_per_frame)


# --- one frame ----------------------------------------------------------------------------


def _frame(index: int, shot: Shot, plan: RenderPlan, card: ModelCard) -> Frame:
    offset = index - shot.first_frame
    phase = offset / (shot.frames - 1) if shot.frames > 1 else 0.0
    scene = shot.scene
    if card.uses_layout:
        cast, prompt_to = motion.on_stage(scene, phase), ""
        prompt = _caption(cast, scene.setting, card)
        seconds = shot.frames / plan.painted_fps
        layout = motion.layout(scene, phase, seconds)
        if plan.lead and plan.lead.last and shot.first_frame == 0:
            before = plan.lead.last
            there = motion.layout(before.scene, 1.0, before.frames / plan.fps)
            layout = motion.from_there(layout, scene, phase, seconds, there)
    else:
        prompt, prompt_to = split_becoming(scene.prompt)
        layout = ()
    return Frame(
        index=index,
        prompt=prompt,
        negative_prompt=scene.negative_prompt,
        seed=shot.seed,
        phase=phase,
        layout=layout,
        prompt_to=prompt_to,
        blend=round(motion.ease(phase), 6) if prompt_to else 0.0,
    )


def _caption(cast: Sequence[Cast], setting: str | None, card: ModelCard) -> str:
    """Return the frame's prompt for a layout model, in words of its own vocabulary."""
    words = card.vocabulary
    names = [f"a {_first(words.subjects.get(each.subject), each.subject)}" for each in cast]
    parts = [" and ".join(names)] if names else []
    if setting:
        parts.append(_first(words.settings.get(setting), setting))
    return ", ".join(parts)


def _first(phrases: tuple[str, ...] | None, otherwise: str) -> str:
    return phrases[0] if phrases else otherwise
