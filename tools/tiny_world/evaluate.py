"""Score tiny_world on combinations it never saw: `python -m tools.tiny_world.evaluate`.

Subject and setting of a combination never met in training. Each is asked for in words, goes
through the farm's own parser and planner, and `judge.py` says what is then seen in the frames.
Shots of two subjects are a set of their own: they are right where both subjects are.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from orchestrator.catalog import ModelCard, load_card
from tools.tiny_world.dataset import SUBJECTS, held_out
from tools.tiny_world.export import write_table
from tools.tiny_world.judge import SIDE, Combination, Picture, Verdict, judge, shoot
from tools.tiny_world.world import SETTINGS, fetch_sprites
from workers.engines.tiny_world import TinyWorldPipeline

SHEET_COLUMNS, SHEET_ROWS = 4, 6
MODEL = Path(__file__).parents[2] / "models/tiny_world"
ARTICLES = ("a", "the", "a little", "one")


def combinations(count: int, seed: int, card: ModelCard) -> list[Combination]:
    """Draw shots of one subject that never met its setting in training."""
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
                rng.choice(ARTICLES),
                rng.choice(book.subjects[subject]),
                rng.choice(book.motions[motion][:3]),
                rng.choice(("in the", "at the", "in")),
                rng.choice(book.settings[setting]),
            ]
        )
        drawn.append(Combination((subject,), setting, motion, rng.randrange(2**31), words))
    return drawn


def pair_combinations(count: int, seed: int, card: ModelCard) -> list[Combination]:
    """Draw shots of two subjects, neither of which met the setting in training.

    Every other one says one motion for both, the rest a motion for each.
    """
    rng = random.Random(f"pairs {seed}")
    book = card.vocabulary
    drawn = []
    for number in range(count):
        setting = list(SETTINGS)[number % len(SETTINGS)]
        first, second = rng.sample([s for s in SUBJECTS if held_out(s, setting)], 2)
        motion, other = rng.sample(list(book.motions), 2)
        one, two = (
            f"{rng.choice(ARTICLES)} {rng.choice(book.subjects[subject])}"
            for subject in (first, second)
        )
        moves, also = (rng.choice(book.motions[name][:3]) for name in (motion, other))
        place = f"in the {rng.choice(book.settings[setting])}"
        words = (
            f"{one} and {two} {moves} {place}"
            if number % 2
            else f"{one} {moves} and {two} {also} {place}"
        )
        drawn.append(Combination((first, second), setting, motion, rng.randrange(2**31), words))
    return drawn


def scores(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Shares of right answers in percent, and the mean flicker, of shots of one subject."""
    return {
        "setting_right_percent": _share(v.setting == v.asked.setting for v in verdicts),
        "motion_right_percent": _share(v.motion == v.asked.motion for v in verdicts),
        "subject_right_percent": _share(v.subjects == v.asked.subjects for v in verdicts),
        "subject_error": round(float(np.mean([v.error for v in verdicts])), 2),
        "flicker": _flicker(verdicts),
    }


def pair_scores(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """The same of shots of two subjects; their motions are not judged."""
    return {
        "pair_setting_right_percent": _share(v.setting == v.asked.setting for v in verdicts),
        "pair_both_right_percent": _share(v.subjects == v.asked.subjects for v in verdicts),
        "pair_flicker": _flicker(verdicts),
    }


def _share(right: Iterable[bool]) -> float:
    return round(100 * float(np.mean(list(right))), 1)


def _flicker(verdicts: Sequence[Verdict]) -> float:
    return round(float(np.mean([v.flicker for v in verdicts])), 2)


def confusions(verdicts: Sequence[Verdict]) -> str:
    """Return what was taken for what, most frequent first, and where it flickers most."""
    wrong: dict[str, Counter[str]] = {
        "setting": Counter(),
        "motion": Counter(),
        "subject": Counter(),
    }
    for v in verdicts:
        seen = [("setting", v.asked.setting, v.setting)]
        if v.motion:
            seen.append(("motion", v.asked.motion, v.motion))
        seen += [("subject", a, b) for a, b in zip(v.asked.subjects, v.subjects, strict=True)]
        wrong_here = [(kind, f"{asked} → {found}") for kind, asked, found in seen if asked != found]
        for kind, text in wrong_here:
            wrong[kind][text] += 1
    lines = [
        f"{kind} confused: {', '.join(f'{k} ({n})' for k, n in found.most_common()) or 'never'}"
        for kind, found in wrong.items()
    ]
    worst = sorted(verdicts, key=lambda v: -v.flicker)[:5]
    places = (f"{'+'.join(v.asked.subjects)}/{v.asked.setting} {v.flicker:.1f}" for v in worst)
    return "\n".join([*lines, f"most flicker: {', '.join(places)}"])


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
    parser.add_argument("--pairs", type=int, default=120, help="shots of two subjects")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, nargs="+", default=[2])
    parser.add_argument("--guidance", type=float, default=1.0)
    parser.add_argument("--upscale", type=int, default=1, help="paint so many times smaller")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="the last scores into the card")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    assets = fetch_sprites(asked.folder)
    pipe = TinyWorldPipeline.from_pretrained(asked.model, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    card = load_card(asked.model)
    sets = {
        "contact": (combinations(asked.count, asked.seed, card), scores),
        "contact-pairs": (pair_combinations(asked.pairs, asked.seed, card), pair_scores),
    }
    reached: dict[str, float] = {}
    for steps in asked.steps:
        reached = {}
        for name, (wanted, measure) in sets.items():
            if not wanted:
                continue
            start = time.perf_counter()
            verdicts, shown = [], []
            for each in wanted:
                shot = shoot(pipe, card, each, steps, asked.guidance, asked.upscale)
                verdicts.append(judge(shot, assets, each))
                shown.append(shot.frames)
            spent = time.perf_counter() - start
            reached |= (found := measure(verdicts))
            lines = [
                f"steps {steps}, guidance {asked.guidance}, upscale {asked.upscale}, "
                f"{len(wanted)} shots, {spent:.0f} s"
            ]
            lines += [f"{score} {value}" for score, value in found.items()]
            sys.stdout.write("\n".join([*lines, confusions(verdicts)]) + "\n\n")
            sys.stdout.flush()
            contact_sheet(shown, asked.folder / f"{name}-{steps}.png")
    if asked.write:
        write_table(asked.model, "scores", reached)


if __name__ == "__main__":
    main()
