"""Score tiny_clip on words that never met in training: `python -m tools.tiny_clip.evaluate`.

Subject and setting of a combination were never shown together. The stock pipeline makes each
clip from words alone, and `judge.py` says what is seen in it. The same judge looks at the drawn
clips of the same words first: more than it sees in those, it cannot find in the model's.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from diffusers import LattePipeline
from PIL import Image

from tools.tiny_clip import judge
from tools.tiny_clip.clips import (
    MOTIONS,
    SETTING_NAMES,
    SIDE,
    VIEWS,
    Clip,
    Frames,
    draw_clip,
    squares,
)  # fmt: skip
from tools.tiny_clip.export import FOLDER, MODEL, assemble, load_parts
from tools.tiny_clip.train import STEPS
from tools.tiny_world.captions import vocabulary
from tools.tiny_world.dataset import SUBJECTS, held_out
from tools.tiny_world.world import fetch_sprites

SHEET_COLUMNS, SHEET_ROWS = 4, 6


@dataclass(frozen=True, slots=True)
class Asked:
    """A clip to be made: what it shows, the words for it and the seed of its noise."""

    clip: Clip
    words: str
    seed: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Findings of the judge in it."""

    asked: Asked
    seen: judge.Seen
    flicker: float


def combinations(count: int, seed: int) -> list[Asked]:
    """Draw combinations whose subject never met the setting in training."""
    rng = random.Random(f"evaluate {seed}")
    pairs = [(s, t) for s in SUBJECTS for t in SETTING_NAMES if held_out(s, t)]
    rng.shuffle(pairs)
    book, drawn = vocabulary(), []
    for number in range(count):
        subject, setting = pairs[number % len(pairs)]
        motion = MOTIONS[number % len(MOTIONS)]
        words = " ".join(
            [
                rng.choice(("a", "the", "one")),
                rng.choice(book["subjects"][subject]["words"][:2]),
                rng.choice(book["motions"][motion]["words"][:2]),
                rng.choice(("in the", "at the", "in")),
                rng.choice(book["settings"][setting]["words"][:2]),
            ]
        )
        clip = Clip(subject, setting, motion, rng.randrange(VIEWS))
        drawn.append(Asked(clip, words, rng.randrange(2**31)))
    return drawn


def flicker_of(frames: Frames, motion: str) -> float:
    """Mean absolute change between successive frames, in 8-bit steps, outside the subject."""
    there = squares(motion, SIDE) == 0
    changes = [
        float(abs(frames[b].astype(np.float32) - frames[a])[there[a] & there[b]].mean())
        for a, b in pairwise(range(len(frames)))
        if (there[a] & there[b]).any()
    ]
    return float(np.mean(changes))


def verdicts(
    wanted: Sequence[Asked], make: Callable[[Asked], Frames], eye: judge.Judge
) -> tuple[list[Verdict], list[Frames]]:
    """Make and judge every clip; return the first of them for a sheet, too."""
    found, shown = [], []
    for asked in wanted:
        frames = make(asked)
        flicker = flicker_of(frames, asked.clip.motion)
        found.append(Verdict(asked, judge.look(eye, frames), flicker))
        if len(shown) < SHEET_COLUMNS * SHEET_ROWS:
            shown.append(frames)
    return found, shown


def scores(found: Sequence[Verdict]) -> dict[str, float]:
    """Shares of right answers in percent, flicker, and how steady the subject is."""

    def share(part: str) -> float:
        right = [getattr(v.seen, part) == getattr(v.asked.clip, part) for v in found]
        return round(100 * float(np.mean(right)), 1)

    return {
        "setting_right_percent": share("setting"),
        "subject_right_percent": share("subject"),
        "motion_right_percent": share("motion"),
        "flicker": round(float(np.mean([v.flicker for v in found])), 2),
        "same_subject_percent": round(100 * float(np.mean([v.seen.steady for v in found])), 1),
    }


def confusions(found: Sequence[Verdict]) -> str:
    """Return the confusions, most frequent first."""
    lines = []
    for part in ("setting", "subject", "motion"):
        pairs = ((getattr(v.asked.clip, part), getattr(v.seen, part)) for v in found)
        wrong = Counter(f"{asked} → {seen}" for asked, seen in pairs if asked != seen)
        lines.append(f"{part}: {', '.join(f'{k} ({n})' for k, n in wrong.most_common(12))}")
    return "\n".join(lines)


def contact_sheet(shown: Sequence[Frames], path: Path) -> None:
    """Save four frames of each clip, at half their size."""
    rows = [
        np.concatenate([clip[k, ::2, ::2] for clip in shown[row : row + SHEET_COLUMNS]
                        for k in (1, 5, 9, 13)], 1)
        for row in range(0, len(shown), SHEET_COLUMNS)
        if len(shown[row : row + SHEET_COLUMNS]) == SHEET_COLUMNS
    ]  # fmt: skip
    Image.fromarray(np.concatenate(rows)).save(path, optimize=True)


def load(model: Path | None, folder: Path) -> LattePipeline:
    """The exported model, or what the training folder holds now."""
    if model is None:
        return assemble(*load_parts(folder)[:3])
    pipe = LattePipeline.from_pretrained(model, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def main() -> None:
    """Train the judge where it is missing, then evaluate for one or more step counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where train.py worked")
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--training", action="store_true", help="the checkpoint, not the model")
    parser.add_argument("--count", type=int, default=240)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, nargs="+", default=[STEPS])
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--judge-steps", type=int, default=1500)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    assets = fetch_sprites(asked.folder)
    eye = judge.train(asked.folder, assets, 7, asked.judge_steps)
    pipe = load(None if asked.training else asked.model, asked.folder)
    wanted = combinations(asked.count, asked.seed)

    def say(name: str, found: Sequence[Verdict], spent: float) -> None:
        lines = [f"{name}, {len(found)} clips, {spent:.0f} s", json.dumps(scores(found))]
        sys.stdout.write("\n".join([*lines, confusions(found)]) + "\n\n")
        sys.stdout.flush()

    start = time.perf_counter()
    found, shown = verdicts(wanted, lambda each: draw_clip(assets, each.clip), eye)
    say("drawn", found, time.perf_counter() - start)
    for steps in asked.steps:

        def make(each: Asked, steps: int = steps) -> Frames:
            made = pipe(
                each.words, num_inference_steps=steps, guidance_scale=asked.guidance,
                generator=torch.Generator().manual_seed(each.seed), output_type="np",
                height=SIDE, width=SIDE, clean_caption=False,
            ).frames[0]  # fmt: skip
            return (made * 255).round().astype(np.uint8)

        start = time.perf_counter()
        found, shown = verdicts(wanted, make, eye)
        say(f"steps {steps}, guidance {asked.guidance}", found, time.perf_counter() - start)
        contact_sheet(shown, asked.folder / f"contact-{steps}.png")


if __name__ == "__main__":
    main()
