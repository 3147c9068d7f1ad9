"""Places of subjects in each frame of a shot, for models that take a layout.

A path is a function of the phase (0 first frame, 1 last one) and of the shot's seconds, which
decide how often a periodic motion repeats. Journeys ease in and out (smoothstep); periodic
motions run evenly. The camera is an affine change of all places.

Sizes are those the model was trained with: scale 1.0 is 44 % of the picture's height.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import cos, pi, sin
from typing import Final

from orchestrator.model import Cast, Placement, Scene
from orchestrator.prompting.transformations import split_becoming

DEFAULT: Final = "floats"
"""The path of a subject without a motion, and of a motion without a path."""
CAMERA_TRAVEL: Final = 0.3
"""Parts of the picture that a pan or tilt moves the view by."""
CAMERA_ZOOM: Final = 1.5
"""Factor by which the camera ends, or starts, nearer."""


@dataclass(frozen=True, slots=True)
class Point:
    """A place on a path: centre, scale, clockwise degrees."""

    x: float = 0.5
    y: float = 0.5
    scale: float = 1.0
    turn: float = 0.0


Path = Callable[[float, float], Point]


def ease(phase: float) -> float:
    """Start and stop gently: smoothstep, 3p² - 2p³."""
    return phase * phase * (3.0 - 2.0 * phase)


def cycles(seconds: float, period: float) -> int:
    """Return how often a motion of this period repeats in a shot; at least once, and whole."""
    return max(1, round(seconds / period))


def _wave(phase: float, seconds: float, period: float) -> float:
    """Return a sine that starts at 0 and comes back to it at the end of the shot."""
    return sin(2 * pi * cycles(seconds, period) * phase)


def _moves_right(p: float, s: float) -> Point:
    return Point(x=0.1 + 0.8 * ease(p), y=0.55 - 0.015 * abs(_wave(p, s, 1.0)))


def _moves_left(p: float, s: float) -> Point:
    return Point(x=0.9 - 0.8 * ease(p), y=0.55 - 0.015 * abs(_wave(p, s, 1.0)))


def _rises(p: float, s: float) -> Point:
    return Point(y=0.9 - 0.8 * ease(p))


def _falls(p: float, s: float) -> Point:
    return Point(y=0.1 + 0.8 * ease(p))


def _bounces(p: float, s: float) -> Point:
    hop = abs(sin(pi * cycles(s, 0.7) * p))
    return Point(x=0.15 + 0.7 * p, y=0.75 - 0.5 * hop)


def _spins(p: float, s: float) -> Point:
    return Point(scale=1.1, turn=360.0 * cycles(s, 2.0) * p)


def _rolls_right(p: float, s: float) -> Point:
    return Point(x=0.1 + 0.8 * ease(p), y=0.65, turn=360.0 * ease(p))


def _grows(p: float, s: float) -> Point:
    return Point(scale=0.5 + 1.1 * ease(p))


def _shrinks(p: float, s: float) -> Point:
    return Point(scale=1.6 - 1.1 * ease(p))


def _swings(p: float, s: float) -> Point:
    wave = _wave(p, s, 2.0)
    return Point(x=0.5 + 0.3 * wave, y=0.55 - 0.1 * abs(wave), turn=25.0 * wave)


def _circles(p: float, s: float) -> Point:
    angle = 2 * pi * cycles(s, 2.5) * p
    return Point(x=0.5 + 0.28 * cos(angle), y=0.5 + 0.28 * sin(angle), scale=0.9)


def _zigzags(p: float, s: float) -> Point:
    return Point(x=0.1 + 0.8 * p, y=0.5 + 0.22 * _wave(p, s, 1.0))


def _floats(p: float, s: float) -> Point:
    wave = _wave(p, s, 2.0)
    return Point(y=0.52 + 0.06 * wave, turn=4.0 * wave)


def _pulses(p: float, s: float) -> Point:
    return Point(scale=1.0 + 0.22 * _wave(p, s, 1.0))


PATHS: Final[dict[str, Path]] = {
    "moves_right": _moves_right,
    "moves_left": _moves_left,
    "rises": _rises,
    "falls": _falls,
    "bounces": _bounces,
    "spins": _spins,
    "rolls_right": _rolls_right,
    "grows": _grows,
    "shrinks": _shrinks,
    "swings": _swings,
    "circles": _circles,
    "zigzags": _zigzags,
    "floats": _floats,
    "pulses": _pulses,
}
"""Motion id -> path; the ids of models/tiny_world/vocabulary.toml."""

TRAVELS: Final = frozenset({"moves_right", "moves_left", "rolls_right", "bounces", "zigzags"})
"""Paths that need the picture's whole width."""
PAIR_SCALE: Final = 0.72
"""Two subjects are drawn this much smaller …"""
PAIR_MAX_SCALE: Final = 0.8
"""… and never larger than this, so that 44 % of it fits between their lanes."""

BECOMING_SCALE: Final = 0.45
"""Size of a subject at the moment it becomes another."""


def on_stage(scene: Scene, phase: float) -> tuple[Cast, ...]:
    """Return who is seen at a phase: everybody, or one of two where the first becomes the other."""
    if _becomes(scene):
        return scene.cast[1:] if phase > 0.5 else scene.cast[:1]
    return scene.cast


def layout(scene: Scene, phase: float, seconds: float) -> tuple[Placement, ...]:
    """Return where the scene's subjects are at a phase of its shot."""
    cast = on_stage(scene, phase)
    motions = [each.motion or DEFAULT for each in cast]
    points = [PATHS.get(name, PATHS[DEFAULT])(phase, seconds) for name in motions]
    if len(points) == 2:
        points = _apart(points, motions)
    if _becomes(scene):
        swell = BECOMING_SCALE + (1 - BECOMING_SCALE) * abs(2 * phase - 1) ** 0.5
        points = [replace(point, scale=point.scale * swell) for point in points]
    seen = [_through(scene.camera, point, phase) for point in points]
    return tuple(
        Placement(
            subject=each.subject,
            x=round(point.x, 5),
            y=round(point.y, 5),
            scale=round(point.scale, 5),
            turn=round(point.turn, 3),
        )
        for each, point in zip(cast, seen, strict=True)
    )


def from_there(
    now: tuple[Placement, ...],
    scene: Scene,
    phase: float,
    seconds: float,
    there: tuple[Placement, ...],
) -> tuple[Placement, ...]:
    """Return a layout that begins where each subject was before, and ends where it would."""
    begin = {each.subject: each for each in layout(scene, 0.0, seconds)}
    before = {each.subject: each for each in there}
    left = 1.0 - ease(phase)

    def moved(each: Placement) -> Placement:
        if each.subject not in begin or each.subject not in before:
            return each
        start, was = begin[each.subject], before[each.subject]
        turn = (was.turn - start.turn + 180.0) % 360.0 - 180.0
        return replace(
            each,
            x=round(each.x + left * (was.x - start.x), 5),
            y=round(each.y + left * (was.y - start.y), 5),
            scale=round(each.scale + left * (was.scale - start.scale), 5),
            turn=round(each.turn + left * turn, 3),
        )

    return tuple(moved(each) for each in now)


def _becomes(scene: Scene) -> bool:
    return len(scene.cast) == 2 and bool(split_becoming(scene.prompt)[1])


def _apart(points: Sequence[Point], motions: Sequence[str]) -> list[Point]:
    """Give two subjects a lane each, so that they never overlap.

    One motion: side by side, on one path. A journey to the side and something else: one above
    the other. Else: left and right.
    """
    small = [replace(p, scale=min(p.scale * PAIR_SCALE, PAIR_MAX_SCALE)) for p in points]
    sides = (-0.24, 0.24)
    if motions[0] == motions[1]:
        return [
            replace(p, x=0.5 + (p.x - 0.5) * 0.5 + side)
            for p, side in zip(small, sides, strict=True)
        ]
    if TRAVELS.intersection(motions):
        return [
            replace(p, y=0.52 + (p.y - 0.5) * 0.15 + side)
            for p, side in zip(small, sides, strict=True)
        ]
    return [
        replace(p, x=0.5 + (p.x - 0.5) * 0.15 + side) for p, side in zip(small, sides, strict=True)
    ]


def _through(camera: str | None, point: Point, phase: float) -> Point:
    """Return the point as a moving camera sees it: the picture moves against the camera."""
    swing = CAMERA_TRAVEL * (ease(phase) - 0.5)
    match camera:
        case "pan_left":
            return replace(point, x=point.x + swing)
        case "pan_right":
            return replace(point, x=point.x - swing)
        case "tilt_up":
            return replace(point, y=point.y + swing)
        case "tilt_down":
            return replace(point, y=point.y - swing)
        case "zoom_in" | "zoom_out":
            nearness = ease(phase) if camera == "zoom_in" else 1.0 - ease(phase)
            zoom = 1.0 + (CAMERA_ZOOM - 1.0) * nearness
            return replace(
                point,
                x=0.5 + (point.x - 0.5) * zoom,
                y=0.5 + (point.y - 0.5) * zoom,
                scale=point.scale * zoom,
            )
        case _:
            return point
