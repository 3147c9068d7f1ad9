"""Score tiny_world on combinations it never saw: `python -m tools.tiny_world.evaluate`.

Subject and setting of a combination never met in training. What is seen in the frames
is judged against the drawn world (`world.py`), not by another network:

- setting: nearest of all drawn backdrops, outside the subject;
- motion: nearest of all motions' paths to the measured centroid and size of the subject;
  a spin must also look more like the turned sprite than like an upright one;
- subject: nearest of all sprites, painted at the asked poses over the model's own backdrop;
- flicker: mean absolute change between frames outside the subject, in 8-bit steps.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from tools.tiny_world.captions import caption
from tools.tiny_world.dataset import SUBJECTS, held_out
from tools.tiny_world.world import (
    MOTION_PATHS,
    SETTINGS,
    UNIT,
    VIEWS,
    Pose,
    backdrop,
    fetch_sprites,
    paint,
    path_pose,
)
from workers.engines.tiny_world import TinyWorldPipeline

Picture = NDArray[np.float32]
SIDE = 128
"""Pictures are judged at half their size."""
PHASES = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)
JUDGED = slice(1, None, 2)
"""Frames on which sprites are compared: a few are enough, and painting 64 each takes time."""
SHEET_COLUMNS, SHEET_ROWS = 4, 6
MODEL = Path(__file__).parents[2] / "models/tiny_world"


@dataclass(frozen=True, slots=True)
class Combination:
    """One shot to be judged."""

    subject: str
    setting: str
    motion: str
    seed: int

    @property
    def poses(self) -> list[Pose]:
        """The subject's pose in every frame."""
        return [path_pose(self.subject, self.motion, phase) for phase in PHASES]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was seen of a combination."""

    asked: Combination
    setting: str
    motion: str
    subject: str
    flicker: float


def combinations(count: int, seed: int) -> list[Combination]:
    """Draw combinations whose subject and setting never met in training."""
    rng = random.Random(seed)
    pairs = [(s, t) for s in SUBJECTS for t in SETTINGS if held_out(s, t)]
    motions = list(MOTION_PATHS)
    drawn = []
    for number in range(count):
        subject, setting = pairs[number % len(pairs)]
        drawn.append(Combination(subject, setting, rng.choice(motions), rng.randrange(2**31)))
    return drawn


def shoot(
    pipe: TinyWorldPipeline, asked: Combination, steps: int, guidance: float
) -> tuple[Picture, Picture]:
    """Render the shot's frames (N, S, S, 3) and its empty backdrop (S, S, 3), 0..255."""
    said = caption(random.Random(asked.seed), [asked.subject], asked.setting)
    noise = pipe.prepare_latents(1, 256, 256, torch.Generator().manual_seed(asked.seed))
    layouts: list[list[dict[str, Any]]] = [
        [{"subject": p.subject, "x": p.x, "y": p.y, "scale": p.scale, "turn": p.turn}]
        for p in asked.poses
    ]
    images = pipe(
        prompt=[said] * (len(layouts) + 1),
        layout=[*layouts, []],
        latents=noise.repeat(len(layouts) + 1, 1, 1, 1),
        num_inference_steps=steps,
        guidance_scale=guidance,
        output_type="pt",
    ).images
    small = torch.nn.functional.interpolate(images, size=(SIDE, SIDE), mode="area")
    frames = (small * 255).permute(0, 2, 3, 1).numpy()
    return frames[:-1], frames[-1]


def outside(pose: Pose) -> NDArray[np.bool_]:
    """Where the subject's square, with a margin, is not."""
    rows, columns = (np.mgrid[:SIDE, :SIDE] + 0.5) / SIDE
    reach = UNIT * pose.scale * 0.5 * 1.5 + 0.03
    return (abs(columns - pose.x) > reach) | (abs(rows - pose.y) > reach)


def see_setting(frames: Picture, poses: Sequence[Pose]) -> str:
    """The setting whose nearest drawn backdrop differs least."""
    books = _backdrops()
    scores = np.zeros(len(SETTINGS) * VIEWS)
    for frame, pose in zip(frames[JUDGED], poses[JUDGED], strict=True):
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


def track(frames: Picture, plate: Picture) -> NDArray[np.float64]:
    """The subject's centroid and size (x, y, side of a square of its area), by frame."""
    rows, columns = (np.mgrid[:SIDE, :SIDE] + 0.5) / SIDE
    seen = []
    for frame in frames:
        there = abs(frame - plate).mean(-1) > 24
        weight = max(1, there.sum())
        seen.append(
            (columns[there].sum() / weight, rows[there].sum() / weight, np.sqrt(there.mean()))
        )
    return np.array(seen)


def see_motion(frames: Picture, plate: Picture, assets: Path, asked: Combination) -> str:
    """The motion whose path is nearest to the measured one."""
    seen = track(frames, plate)
    canvas = Image.fromarray(plate.astype(np.uint8))
    distances = {}
    for motion in MOTION_PATHS:
        poses = replace(asked, motion=motion).poses
        drawn = np.stack([_painted(assets, canvas, [pose]) for pose in poses])
        path = track(drawn, plate)
        size = seen[:, 2] / max(1e-3, seen[:, 2].mean()) - path[:, 2] / path[:, 2].mean()
        distances[motion] = abs(seen[:, :2] - path[:, :2]).mean() + 0.3 * abs(size).mean()
    best = min(distances, key=lambda motion: distances[motion])
    if best == "spins" and not _turns(frames, canvas, assets, asked):
        return "stands upright"
    return best


def _turns(frames: Picture, canvas: Image.Image, assets: Path, asked: Combination) -> bool:
    spinning = replace(asked, motion="spins").poses
    upright = [replace(pose, turn=0.0) for pose in spinning]
    far = [
        sum(
            float(abs(_painted(assets, canvas, [p]) - f).mean())
            for p, f in zip(poses, frames, strict=True)
        )
        for poses in (spinning, upright)
    ]
    return far[0] < far[1]


def see_subject(frames: Picture, plate: Picture, assets: Path, asked: Combination) -> str:
    """The sprite that, painted at the asked poses, differs least."""
    canvas = Image.fromarray(plate.astype(np.uint8))
    poses = asked.poses[JUDGED]
    distances = {
        subject: sum(
            float(abs(_painted(assets, canvas, [replace(pose, subject=subject)]) - frame).mean())
            for pose, frame in zip(poses, frames[JUDGED], strict=True)
        )
        for subject in SUBJECTS
    }
    return min(distances, key=lambda subject: distances[subject])


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


def judge(frames: Picture, plate: Picture, assets: Path, asked: Combination) -> Verdict:
    """Look at one shot."""
    return Verdict(
        asked=asked,
        setting=see_setting(frames, asked.poses),
        motion=see_motion(frames, plate, assets, asked),
        subject=see_subject(frames, plate, assets, asked),
        flicker=flicker_of(frames, asked.poses),
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
    strips = [
        np.concatenate(list(frames[1:6:2]), 1) for frames in shots[: SHEET_COLUMNS * SHEET_ROWS]
    ]
    rows = [
        np.concatenate(strips[k : k + SHEET_COLUMNS], 1)
        for k in range(0, len(strips), SHEET_COLUMNS)
    ]
    Image.fromarray(np.concatenate(rows).round().clip(0, 255).astype(np.uint8)).save(path)


def main() -> None:
    """Evaluate a model folder, for one or more step counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--folder", type=Path, required=True, help="where train.py keeps sprites")
    parser.add_argument("--count", type=int, default=240)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, nargs="+", default=[8])
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    assets = fetch_sprites(asked.folder)
    pipe = TinyWorldPipeline.from_pretrained(asked.model, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    for steps in asked.steps:
        verdicts, shown = [], []
        for wanted in combinations(asked.count, asked.seed):
            frames, plate = shoot(pipe, wanted, steps, asked.guidance)
            verdicts.append(judge(frames, plate, assets, wanted))
            shown.append(frames) if len(shown) < SHEET_COLUMNS * SHEET_ROWS else None
        sys.stdout.write(f"steps {steps}, guidance {asked.guidance}\n{report(verdicts)}\n\n")
        sys.stdout.flush()
        contact_sheet(shown, asked.folder / f"contact-{steps}.png")


if __name__ == "__main__":
    main()
