"""Look at what tiny_world painted and say what is seen, against the drawn world (`world.py`).

No other network judges: candidates are painted from the sprites and backdrops that the world is
made of, at the places that were asked for, and the nearest one is what is seen.

- setting: nearest of all drawn backdrops, outside the subjects;
- motion: nearest of all motions, the right sprite painted along their paths over the model's
  own backdrop (so that direction, size and turn all count);
- subject: nearest of all sprites, painted at the asked poses over the model's own backdrop;
- error: mean absolute difference, in 8-bit steps, from the right sprites painted at the asked
  poses over the model's own backdrop, inside the subjects' squares: how clearly they are painted;
- flicker: mean absolute change between successive judged frames outside the subjects, in
  8-bit steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from orchestrator.catalog import ModelCard
from orchestrator.model import Brief, Cast, Frame, Placement, Scene
from orchestrator.planning import motion as paths
from orchestrator.planning.planner import frames as unfold
from orchestrator.planning.planner import plan
from orchestrator.prompting.parser import parse
from tools.tiny_world.dataset import SUBJECTS
from tools.tiny_world.world import SETTINGS, UNIT, VIEWS, Pose, backdrop, paint
from workers.engines.tiny_world import TinyWorldPipeline

Picture = NDArray[np.float32]
SIDE = 128
"""Pictures are judged at half their size."""
JUDGED_FRAMES = (1, 6, 11, 16, 21, 26, 31)
"""Of the 36 frames of a shot of 3 s at 12 fps."""
COMPARED = slice(1, None, 2)
"""Of those, on which sprites are compared: painting 64 each takes time."""
SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Combination:
    """One shot to be judged, and the words it is asked for in."""

    subjects: tuple[str, ...]
    setting: str
    motion: str
    """Of the first subject."""
    seed: int
    words: str


@dataclass(frozen=True, slots=True)
class Shot:
    """The model's answer to a combination: frames, their empty backdrop, the poses asked."""

    frames: Picture
    plate: Picture
    poses: list[list[Pose]]
    """By frame, one for each subject asked."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Measurements of a combination."""

    asked: Combination
    setting: str
    motion: str
    """Empty where two subjects are shown: their motions share the picture."""
    subjects: tuple[str, ...]
    error: float
    flicker: float


def shoot(
    pipe: TinyWorldPipeline,
    card: ModelCard,
    asked: Combination,
    steps: int,
    guidance: float,
    upscale: int = 1,
) -> Shot:
    """Render a shot as the farm would."""
    screenplay = parse(asked.words, vocabulary=card.vocabulary)
    brief = Brief(prompt=asked.words, seconds=SECONDS, upscale=upscale)
    whole = plan(brief, screenplay, card, seed=asked.seed)
    chosen: list[Frame] = [unfold(whole, k, 1, card)[0] for k in JUDGED_FRAMES]
    size = whole.native
    generator = torch.Generator().manual_seed(chosen[0].seed)
    noise = pipe.prepare_latents(1, size.height, size.width, generator)
    layouts = [list(frame.layout) for frame in chosen]
    images = pipe(
        prompt=[*(frame.prompt for frame in chosen), chosen[0].prompt],
        layout=[*layouts, []],
        latents=noise.repeat(len(layouts) + 1, 1, 1, 1),
        height=size.height,
        width=size.width,
        num_inference_steps=steps,
        guidance_scale=guidance,
        output_type="pt",
    ).images
    small = torch.nn.functional.interpolate(images, size=(SIDE, SIDE), mode="area")
    frames = (small * 255).permute(0, 2, 3, 1).numpy()
    return Shot(frames[:-1], frames[-1], [_poses(asked, layout) for layout in layouts])


def _poses(asked: Combination, layout: Sequence[Placement]) -> list[Pose]:
    """Placements as poses; where the parser found fewer than asked, the asked ones, far off."""
    found = [Pose(subject=p.subject, x=p.x, y=p.y, scale=p.scale, turn=p.turn) for p in layout]
    missed = [Pose(subject=name, x=-9.0, y=-9.0) for name in asked.subjects[len(found) :]]
    return [*found, *missed]


def outside(poses: Sequence[Pose]) -> NDArray[np.bool_]:
    """Return where the subjects' squares, with a margin, are not."""
    rows, columns = (np.mgrid[:SIDE, :SIDE] + 0.5) / SIDE
    there = np.ones((SIDE, SIDE), bool)
    for pose in poses:
        reach = UNIT * pose.scale * 0.5 * 1.5 + 0.03
        there &= (abs(columns - pose.x) > reach) | (abs(rows - pose.y) > reach)
    return there


def see_setting(shot: Shot) -> str:
    """The setting whose nearest drawn backdrop differs least."""
    books = _backdrops()
    scores = np.zeros(len(SETTINGS) * VIEWS)
    for frame, poses in zip(shot.frames[COMPARED], shot.poses[COMPARED], strict=True):
        there = outside(poses)[::4, ::4]
        if there.any():
            scores += abs(books[:, there] - frame[::4, ::4][None, there]).mean((1, 2))
    return list(SETTINGS)[int(scores.argmin()) // VIEWS]


_BOOKS: list[Picture] = []


def _backdrops() -> Picture:
    if not _BOOKS:
        drawn = [backdrop(s, v).resize((SIDE, SIDE)) for s in SETTINGS for v in range(VIEWS)]
        _BOOKS.append(np.stack([np.asarray(b, np.float32)[::4, ::4] for b in drawn]))
    return _BOOKS[0]


def see_motion(shot: Shot, assets: Path, subject: str) -> str:
    """The motion along whose path the right sprite differs least."""
    canvas = Image.fromarray(shot.plate.astype(np.uint8))

    def distance(motion: str) -> float:
        drawn = np.stack([_painted(assets, canvas, pose) for pose in path_of(subject, motion)])
        return float(abs(drawn - shot.frames).mean())

    return min(paths.PATHS, key=distance)


def path_of(subject: str, motion: str) -> list[Pose]:
    """The poses that the planner gives a motion at the judged frames."""
    scene = Scene(prompt=subject, cast=(Cast(subject=subject, motion=motion),))
    last = round(SECONDS * 12) - 1
    placed = [paths.layout(scene, k / last, SECONDS)[0] for k in JUDGED_FRAMES]
    return [Pose(subject=subject, x=p.x, y=p.y, scale=p.scale, turn=p.turn) for p in placed]


def see_subject(shot: Shot, assets: Path, place: int) -> str:
    """The sprite that, painted at the poses asked of one subject, differs least.

    Another subject of the shot has a lane of its own, where every candidate differs alike.
    """
    canvas = Image.fromarray(shot.plate.astype(np.uint8))
    pairs = list(zip(shot.poses[COMPARED], shot.frames[COMPARED], strict=True))

    def distance(subject: str) -> float:
        return sum(
            float(abs(_painted(assets, canvas, replace(poses[place], subject=subject)) - f).mean())
            for poses, f in pairs
        )

    return min(SUBJECTS, key=distance)


def _painted(assets: Path, canvas: Image.Image, pose: Pose) -> Picture:
    return np.asarray(paint(assets, canvas, [pose]), np.float32)


def error_of(shot: Shot, assets: Path) -> float:
    """Mean absolute difference from the drawn subjects, where they are."""
    canvas = Image.fromarray(shot.plate.astype(np.uint8))
    errors = []
    for frame, poses in zip(shot.frames, shot.poses, strict=True):
        here = ~outside(poses)
        if here.any():
            drawn = np.asarray(paint(assets, canvas, poses), np.float32)
            errors.append(float(abs(drawn - frame)[here].mean()))
    return float(np.mean(errors)) if errors else 0.0


def flicker_of(shot: Shot) -> float:
    """Mean absolute change between successive frames outside the subjects."""
    changes = []
    for (a, before), (b, after) in pairwise(zip(shot.frames, shot.poses, strict=True)):
        there = outside([*before, *after])
        if there.any():
            changes.append(float(abs(b - a)[there].mean()))
    return float(np.mean(changes)) if changes else 0.0


def judge(shot: Shot, assets: Path, asked: Combination) -> Verdict:
    """Look at one shot."""
    alone = len(asked.subjects) == 1
    return Verdict(
        asked=asked,
        setting=see_setting(shot),
        motion=see_motion(shot, assets, asked.subjects[0]) if alone else "",
        subjects=tuple(see_subject(shot, assets, k) for k in range(len(asked.subjects))),
        error=error_of(shot, assets),
        flicker=flicker_of(shot),
    )
