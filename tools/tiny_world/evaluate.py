"""Score tiny_world on combinations it never saw: `python -m tools.tiny_world.evaluate`.

Subject and setting of a combination never met in training. Each is asked for in words, goes
through the farm's own parser and planner, and what is then seen in the frames is judged
against the drawn world (`world.py`), not by another network:

- setting: nearest of all drawn backdrops, outside the subject;
- motion: nearest of all motions, the right sprite painted along their paths over the model's
  own backdrop (so that direction, size and turn all count);
- subject: nearest of all sprites, painted at the asked poses over the model's own backdrop;
- flicker: mean absolute change between successive judged frames outside the subject, in
  8-bit steps.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from orchestrator import motion as paths
from orchestrator.catalog import ModelCard, load_card
from orchestrator.model import Brief, Cast, Frame, Placement, Scene
from orchestrator.planner import frames as unfold
from orchestrator.planner import plan
from orchestrator.prompt import parse
from tools.tiny_world.dataset import SUBJECTS, held_out
from tools.tiny_world.export import write_table
from tools.tiny_world.world import (
    SETTINGS,
    UNIT,
    VIEWS,
    Pose,
    backdrop,
    fetch_sprites,
    paint,
)
from workers.engines.tiny_world import TinyWorldPipeline

Picture = NDArray[np.float32]
SIDE = 128
"""Pictures are judged at half their size."""
JUDGED_FRAMES = (1, 6, 11, 16, 21, 26, 31)
"""Of the 36 frames of a shot of 3 s at 12 fps."""
COMPARED = slice(1, None, 2)
"""Of those, on which sprites are compared: painting 64 each takes time."""
SECONDS = 3.0
SHEET_COLUMNS, SHEET_ROWS = 4, 6
MODEL = Path(__file__).parents[2] / "models/tiny_world"


@dataclass(frozen=True, slots=True)
class Combination:
    """One shot to be judged, and the words it is asked for in."""

    subject: str
    setting: str
    motion: str
    seed: int
    words: str


@dataclass(frozen=True, slots=True)
class Shot:
    """What the model made of a combination: frames, their empty backdrop, the poses asked."""

    frames: Picture
    plate: Picture
    poses: list[Pose]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was seen of a combination."""

    asked: Combination
    setting: str
    motion: str
    subject: str
    flicker: float


def combinations(count: int, seed: int, card: ModelCard) -> list[Combination]:
    """Draw combinations whose subject and setting never met in training."""
    rng = random.Random(seed)
    pairs = [(s, t) for s in SUBJECTS for t in SETTINGS if held_out(s, t)]
    rng.shuffle(pairs)
    book = card.vocabulary
    drawn = []
    for number in range(count):
        subject, setting = pairs[number % len(pairs)]
        motion = rng.choice(list(book.motions))
        words = " ".join(
            [
                rng.choice(("a", "the", "a little", "one")),
                rng.choice(book.subjects[subject]),
                rng.choice(book.motions[motion][:3]),
                rng.choice(("in the", "at the", "in")),
                rng.choice(book.settings[setting]),
            ]
        )
        drawn.append(Combination(subject, setting, motion, rng.randrange(2**31), words))
    return drawn


def shoot(
    pipe: TinyWorldPipeline, card: ModelCard, asked: Combination, steps: int, guidance: float
) -> Shot:
    """Render a shot as the farm would."""
    screenplay = parse(asked.words, vocabulary=card.vocabulary)
    whole = plan(Brief(prompt=asked.words, seconds=SECONDS), screenplay, card, seed=asked.seed)
    chosen: list[Frame] = [unfold(whole, k, 1, card)[0] for k in JUDGED_FRAMES]
    size = card.native
    generator = torch.Generator().manual_seed(chosen[0].seed)
    noise = pipe.prepare_latents(1, size.height, size.width, generator)
    layouts = [list(frame.layout) for frame in chosen]
    images = pipe(
        prompt=[*(frame.prompt for frame in chosen), chosen[0].prompt],
        layout=[*layouts, []],
        latents=noise.repeat(len(layouts) + 1, 1, 1, 1),
        num_inference_steps=steps,
        guidance_scale=guidance,
        output_type="pt",
    ).images
    small = torch.nn.functional.interpolate(images, size=(SIDE, SIDE), mode="area")
    frames = (small * 255).permute(0, 2, 3, 1).numpy()
    poses = [_pose(asked, layout) for layout in layouts]
    return Shot(frames[:-1], frames[-1], poses)


def _pose(asked: Combination, layout: Sequence[Placement]) -> Pose:
    """The first placement as a pose; where the parser found nobody, the asked one, far off."""
    if not layout:
        return Pose(subject=asked.subject, x=-9.0, y=-9.0)
    first = layout[0]
    return Pose(subject=first.subject, x=first.x, y=first.y, scale=first.scale, turn=first.turn)


def path_of(asked: Combination, motion: str) -> list[Pose]:
    """The poses that the planner gives a motion at the judged frames."""
    scene = Scene(prompt=asked.words, cast=(Cast(subject=asked.subject, motion=motion),))
    last = round(SECONDS * 12) - 1
    layouts = [paths.layout(scene, k / last, SECONDS) for k in JUDGED_FRAMES]
    return [_pose(asked, layout) for layout in layouts]


def outside(pose: Pose) -> NDArray[np.bool_]:
    """Where the subject's square, with a margin, is not."""
    rows, columns = (np.mgrid[:SIDE, :SIDE] + 0.5) / SIDE
    reach = UNIT * pose.scale * 0.5 * 1.5 + 0.03
    return (abs(columns - pose.x) > reach) | (abs(rows - pose.y) > reach)


def see_setting(frames: Picture, poses: Sequence[Pose]) -> str:
    """The setting whose nearest drawn backdrop differs least."""
    books = _backdrops()
    scores = np.zeros(len(SETTINGS) * VIEWS)
    for frame, pose in zip(frames[COMPARED], poses[COMPARED], strict=True):
        there = outside(pose)[::4, ::4]
        if there.any():
            scores += abs(books[:, there] - frame[::4, ::4][None, there]).mean((1, 2))
    return list(SETTINGS)[int(scores.argmin()) // VIEWS]


_BOOKS: list[Picture] = []


def _backdrops() -> Picture:
    if not _BOOKS:
        drawn = [backdrop(s, v).resize((SIDE, SIDE)) for s in SETTINGS for v in range(VIEWS)]
        _BOOKS.append(np.stack([np.asarray(b, np.float32)[::4, ::4] for b in drawn]))
    return _BOOKS[0]


def see_motion(shot: Shot, assets: Path, asked: Combination) -> str:
    """The motion along whose path the right sprite differs least."""
    canvas = Image.fromarray(shot.plate.astype(np.uint8))

    def distance(motion: str) -> float:
        poses = path_of(asked, motion)
        drawn = np.stack([_painted(assets, canvas, [pose]) for pose in poses])
        return float(abs(drawn - shot.frames).mean())

    return min(paths.PATHS, key=distance)


def see_subject(shot: Shot, assets: Path) -> str:
    """The sprite that, painted at the asked poses, differs least."""
    canvas = Image.fromarray(shot.plate.astype(np.uint8))

    def distance(subject: str) -> float:
        return sum(
            float(abs(_painted(assets, canvas, [replace(pose, subject=subject)]) - frame).mean())
            for pose, frame in zip(shot.poses[COMPARED], shot.frames[COMPARED], strict=True)
        )

    return min(SUBJECTS, key=distance)


def _painted(assets: Path, canvas: Image.Image, poses: list[Pose]) -> Picture:
    return np.asarray(paint(assets, canvas, poses), np.float32)


def flicker_of(frames: Picture, poses: Sequence[Pose]) -> float:
    """Mean absolute change between successive frames outside the subject."""
    changes = []
    for k in range(len(frames) - 1):
        there = outside(poses[k]) & outside(poses[k + 1])
        if there.any():
            changes.append(float(abs(frames[k + 1] - frames[k])[there].mean()))
    return float(np.mean(changes)) if changes else 0.0


def judge(shot: Shot, assets: Path, asked: Combination) -> Verdict:
    """Look at one shot."""
    return Verdict(
        asked=asked,
        setting=see_setting(shot.frames, shot.poses),
        motion=see_motion(shot, assets, asked),
        subject=see_subject(shot, assets),
        flicker=flicker_of(shot.frames, shot.poses),
    )


def scores(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Shares of right answers in percent, and the mean flicker."""
    total = len(verdicts)
    shares = {
        f"{name}_right_percent": round(
            100 * sum(getattr(v, name) == getattr(v.asked, name) for v in verdicts) / total, 1
        )
        for name in ("setting", "motion", "subject")
    }
    return shares | {"flicker": round(float(np.mean([v.flicker for v in verdicts])), 2)}


def report(verdicts: Sequence[Verdict]) -> str:
    """Scores with the confusions behind them, most frequent first."""
    lines = [f"{name} {value}" for name, value in scores(verdicts).items()]
    for name in ("setting", "motion", "subject"):
        wrong = Counter(
            f"{getattr(v.asked, name)} → {getattr(v, name)}"
            for v in verdicts
            if getattr(v, name) != getattr(v.asked, name)
        )
        lines.append(
            f"{name} confused: "
            + (", ".join(f"{k} ({n})" for k, n in wrong.most_common()) or "never")
        )
    worst = sorted(verdicts, key=lambda v: -v.flicker)[:5]
    lines.append(
        "most flicker: "
        + ", ".join(f"{v.asked.subject}/{v.asked.setting} {v.flicker:.1f}" for v in worst)
    )
    return "\n".join(lines)


def contact_sheet(shots: Sequence[Picture], path: Path) -> None:
    """Save the first 24 shots, three frames of each."""
    few = shots[: SHEET_COLUMNS * SHEET_ROWS]
    sheet = np.zeros((SHEET_ROWS * SIDE, SHEET_COLUMNS * 3 * SIDE, 3), np.uint8)
    for number, frames in enumerate(few):
        row, column = divmod(number, SHEET_COLUMNS)
        strip = np.concatenate(list(frames[1:6:2]), 1).round().clip(0, 255)
        top, left = row * SIDE, column * 3 * SIDE
        sheet[top : top + SIDE, left : left + 3 * SIDE] = strip.astype(np.uint8)
    Image.fromarray(sheet).save(path)


def main() -> None:
    """Evaluate a model folder, for one or more step counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--folder", type=Path, required=True, help="where train.py keeps sprites")
    parser.add_argument("--count", type=int, default=240)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, nargs="+", default=[2])
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="the last scores into the card")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    assets = fetch_sprites(asked.folder)
    pipe = TinyWorldPipeline.from_pretrained(asked.model, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    card = load_card(asked.model)
    verdicts: list[Verdict] = []
    for steps in asked.steps:
        verdicts, shown = [], []
        start = time.perf_counter()
        for wanted in combinations(asked.count, asked.seed, card):
            shot = shoot(pipe, card, wanted, steps, asked.guidance)
            verdicts.append(judge(shot, assets, wanted))
            shown.append(shot.frames)
        sys.stdout.write(f"steps {steps}, guidance {asked.guidance}, {asked.count} combinations, ")
        sys.stdout.write(f"{time.perf_counter() - start:.0f} s\n{report(verdicts)}\n\n")
        sys.stdout.flush()
        contact_sheet(shown, asked.folder / f"contact-{steps}.png")
    if asked.write:
        write_table(asked.model, "scores", scores(verdicts))


if __name__ == "__main__":
    main()
