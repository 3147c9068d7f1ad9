"""The little world that tiny_world is trained on: sprites, backdrops, poses.

Everything is drawn from seeds, so that a picture can be drawn again from its
description alone: training, evaluation and the tests share this module.
"""

from __future__ import annotations

import math
import random
import subprocess
import tarfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFilter

PACKAGE: Final = "@lobehub/fluent-emoji-3d@1.1.0"
SIZE: Final = 256
"""Side of a training picture in pixels."""
UNIT: Final = 0.44
"""Height of a subject at scale 1.0, as a share of the picture's height."""
VIEWS: Final = 16
"""Distinct backdrops drawn per setting."""

SPRITES: Final = {
    "rocket": "1f680", "dog": "1f415", "cat": "1f408", "horse": "1f40e", "fish": "1f420",
    "whale": "1f433", "dolphin": "1f42c", "octopus": "1f419", "butterfly": "1f98b", "bee": "1f41d",
    "bird": "1f426", "owl": "1f989", "eagle": "1f985", "duck": "1f986", "penguin": "1f427",
    "fox": "1f98a", "lion": "1f981", "tiger": "1f405", "elephant": "1f418", "giraffe": "1f992",
    "rabbit": "1f407", "turtle": "1f422", "snail": "1f40c", "dragon": "1f409",
    "dinosaur": "1f996", "unicorn": "1f984", "car": "1f697", "taxi": "1f695", "bus": "1f68c",
    "train": "1f682", "bicycle": "1f6b2", "airplane": "2708-fe0f", "helicopter": "1f681",
    "ufo": "1f6f8", "sailboat": "26f5", "ship": "1f6a2", "balloon": "1f388", "moon": "1f319",
    "star": "2b50", "football": "26bd", "basketball": "1f3c0", "apple": "1f34e",
    "banana": "1f34c", "strawberry": "1f353", "pizza": "1f355", "burger": "1f354",
    "donut": "1f369", "cake": "1f370", "sunflower": "1f33b", "rose": "1f339", "tree": "1f333",
    "cactus": "1f335", "mushroom": "1f344", "gift": "1f381", "crown": "1f451",
    "guitar": "1f3b8", "robot": "1f916", "ghost": "1f47b", "alien": "1f47d", "snowman": "26c4",
    "heart": "2764-fe0f", "diamond": "1f48e", "umbrella": "2602-fe0f", "house": "1f3e0",
}  # fmt: skip
"""Subject id to the emoji's code point, which is its file name in the package."""

Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """The place of a subject: centre in 0..1 (x right, y down), size, clockwise degrees."""

    subject: str
    x: float
    y: float
    scale: float = 1.0
    turn: float = 0.0


def fetch_sprites(folder: Path) -> Path:
    """Download the sprite package with npm unless it is there; return its assets folder."""
    assets = folder / "package" / "assets"
    if not assets.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        packed = subprocess.run(
            ["npm", "pack", "--silent", PACKAGE],
            cwd=folder, check=True, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        with tarfile.open(folder / packed.stdout.strip().splitlines()[-1]) as archive:
            archive.extractall(folder, filter="data")
    return assets


@lru_cache(maxsize=128)
def sprite(assets: Path, subject: str) -> Image.Image:
    """The transparent render of a subject, trimmed to a square around its centre."""
    return Image.open(assets / f"{SPRITES[subject]}.webp").convert("RGBA")


@lru_cache(maxsize=1024)
def _resized(assets: Path, subject: str, pixels: int) -> Image.Image:
    return sprite(assets, subject).resize((pixels, pixels), Image.Resampling.LANCZOS)


def random_poses(rng: random.Random, subjects: list[str]) -> list[Pose]:
    """Poses for a training picture: 0 (4 %), 1 (72 %) or 2 (24 %) subjects."""
    count = rng.choices((0, 1, 2), (4, 72, 24))[0]
    poses = []
    for subject in rng.sample(subjects, count):
        turn = rng.choices((0.0, rng.gauss(0, 15), rng.uniform(-180, 180)), (45, 20, 35))[0]
        scale = rng.choices((rng.uniform(0.8, 1.3), rng.uniform(0.4, 1.9)), (60, 40))[0]
        poses.append(
            Pose(
                subject=subject,
                x=rng.uniform(-0.1, 1.1),
                y=rng.uniform(-0.1, 1.1),
                scale=scale,
                turn=turn,
            )
        )
    return poses


def paint(assets: Path, backdrop: Image.Image, poses: list[Pose]) -> Image.Image:
    """Paint subjects over a backdrop, the last one in front."""
    side = backdrop.width
    picture = backdrop.copy()
    for pose in poses:
        pixels = max(8, round(UNIT * side * pose.scale))
        figure = _resized(assets, pose.subject, pixels)
        if pose.turn:
            figure = figure.rotate(-pose.turn, Image.Resampling.BICUBIC, expand=True)
        corner = (
            round(pose.x * side - figure.width / 2),
            round(pose.y * side - figure.height / 2),
        )
        picture.paste(figure, corner, figure)
    return picture


class Canvas:
    """A backdrop in the making, drawn at twice its size, in units of 0..1."""

    def __init__(self, top: Colour, bottom: Colour, seed: str) -> None:
        self.rng = random.Random(seed)
        self.side = 2 * SIZE
        ramp = Image.linear_gradient("L").resize((self.side, self.side))
        solid = [Image.new("RGB", (self.side, self.side), c) for c in (bottom, top)]
        self.image = Image.composite(solid[0], solid[1], ramp)
        self.draw = ImageDraw.Draw(self.image)

    def oval(self, x0: float, y0: float, x1: float, y1: float, fill: Colour) -> None:
        """Fill an ellipse in the box."""
        s = self.side
        self.draw.ellipse((x0 * s, y0 * s, x1 * s, y1 * s), fill=fill)

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: Colour) -> None:
        """Fill a rectangle."""
        s = self.side
        self.draw.rectangle((x0 * s, y0 * s, x1 * s, y1 * s), fill=fill)

    def shape(self, points: list[tuple[float, float]], fill: Colour) -> None:
        """Fill a polygon."""
        self.draw.polygon([(x * self.side, y * self.side) for x, y in points], fill=fill)

    def glow(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """Lay a soft halo around a point."""
        mask = Image.new("L", self.image.size)
        s = self.side
        box = ((x - radius) * s, (y - radius) * s, (x + radius) * s, (y + radius) * s)
        ImageDraw.Draw(mask).ellipse(box, fill=130)
        mask = mask.filter(ImageFilter.GaussianBlur(radius * s / 2.5))
        self.image.paste(Image.new("RGB", self.image.size, colour), (0, 0), mask)

    def dots(self, count: int, band: tuple[float, float], sizes: tuple[float, float],
             colours: list[Colour]) -> None:  # fmt: skip
        """Scatter round dots in a horizontal band."""
        for _ in range(count):
            x, y, r = self.rng.random(), self.rng.uniform(*band), self.rng.uniform(*sizes)
            self.oval(x - r, y - r, x + r, y + r, self.rng.choice(colours))

    def clouds(self, count: int, lowest: float) -> None:
        """Puffy white clouds above `lowest`."""
        for _ in range(count):
            x, y, w = self.rng.random(), self.rng.uniform(0.04, lowest), self.rng.uniform(0.7, 1.3)
            for dx, dy, r in (
                (-0.09, 0.01, 0.045),
                (-0.03, -0.02, 0.06),
                (0.05, 0, 0.052),
                (0.11, 0.015, 0.035),
            ):
                self.oval(
                    x + (dx - r) * w,
                    y + (dy - r) * w,
                    x + (dx + r) * w,
                    y + (dy + r) * w,
                    (255, 255, 255),
                )

    def hills(self, top: float, colours: tuple[Colour, Colour]) -> None:
        """Two overlapping round hills that reach the bottom."""
        lean = self.rng.uniform(-0.25, 0.25)
        self.oval(-0.5 + lean, top, 0.8 + lean, 1.6, colours[0])
        self.oval(0.25 + lean, top + 0.06, 1.6 + lean, 1.7, colours[1])

    def done(self) -> Image.Image:
        """The finished backdrop at its own size."""
        return self.image.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def _sky(c: Canvas) -> None:
    c.glow(c.rng.uniform(0.15, 0.85), 0.15, 0.16, (255, 250, 215))
    c.clouds(4, 0.9)


def _night(c: Canvas) -> None:
    c.dots(45, (0, 0.8), (0.002, 0.006), [(255, 255, 255), (255, 240, 190), (190, 210, 255)])
    x = c.rng.uniform(0.12, 0.88)
    c.glow(x, 0.17, 0.14, (120, 120, 170))
    c.oval(x - 0.06, 0.11, x + 0.06, 0.23, (250, 244, 205))
    c.hills(0.82, ((22, 30, 66), (16, 22, 52)))


def _space(c: Canvas) -> None:
    c.glow(c.rng.random(), c.rng.random(), 0.3, (70, 25, 110))
    c.glow(c.rng.random(), c.rng.random(), 0.25, (20, 50, 120))
    c.dots(55, (0, 1), (0.002, 0.005), [(255, 255, 255), (255, 220, 190), (170, 200, 255)])
    x, y, r = c.rng.uniform(0.12, 0.88), c.rng.uniform(0.12, 0.88), c.rng.uniform(0.06, 0.1)
    c.oval(x - r, y - r, x + r, y + r, (205, 120, 85))
    c.oval(x - 1.8 * r, y - 0.25 * r, x + 1.8 * r, y + 0.4 * r, (235, 205, 155))
    c.oval(x - 1.5 * r, y - 0.14 * r, x + 1.5 * r, y + 0.26 * r, (205, 120, 85))


def _sunset(c: Canvas) -> None:
    x = c.rng.uniform(0.2, 0.8)
    c.glow(x, 0.6, 0.3, (255, 215, 120))
    c.oval(x - 0.12, 0.48, x + 0.12, 0.72, (255, 232, 150))
    for _ in range(3):
        y, left = c.rng.uniform(0.12, 0.45), c.rng.uniform(-0.2, 0.8)
        c.oval(left, y, left + 0.45, y + 0.035, (255, 170, 150))
    c.box(0, 0.68, 1, 1, (92, 48, 98))
    for k in range(4):
        c.box(
            x - 0.14 + 0.02 * k,
            0.71 + 0.06 * k,
            x + 0.14 - 0.02 * k,
            0.725 + 0.06 * k,
            (255, 180, 120),
        )


def _meadow(c: Canvas) -> None:
    c.clouds(2, 0.35)
    c.hills(0.58, ((112, 196, 84), (84, 174, 70)))
    c.dots(
        26,
        (0.78, 1),
        (0.007, 0.014),
        [(255, 240, 110), (255, 150, 175), (255, 255, 255), (190, 130, 240)],
    )


def _beach(c: Canvas) -> None:
    c.clouds(2, 0.3)
    c.box(0, 0.5, 1, 0.74, (38, 158, 205))
    c.box(0, 0.5, 1, 0.54, (70, 182, 220))
    shore = c.rng.uniform(-0.04, 0.04)
    c.shape([(0, 0.72 + shore), (1, 0.72 - shore), (1, 1), (0, 1)], (255, 255, 255))
    c.shape([(0, 0.745 + shore), (1, 0.745 - shore), (1, 1), (0, 1)], (246, 222, 160))
    c.dots(10, (0.84, 1), (0.006, 0.012), [(228, 196, 130), (255, 240, 200)])


def _ocean(c: Canvas) -> None:
    for _ in range(3):
        x = c.rng.random()
        c.shape([(x, 0), (x + 0.08, 0), (x - 0.1, 0.85), (x - 0.28, 0.85)], (52, 150, 212))
    c.box(0, 0.88, 1, 1, (196, 174, 122))
    for _ in range(4):
        x = c.rng.random()
        for dx in (-0.03, 0, 0.03):
            c.oval(x + dx - 0.014, 0.72 + abs(dx) * 3, x + dx + 0.014, 0.95, (46, 150, 104))
    c.dots(14, (0.05, 0.8), (0.008, 0.02), [(126, 200, 240), (170, 222, 250)])


def _desert(c: Canvas) -> None:
    x = c.rng.uniform(0.15, 0.85)
    c.glow(x, 0.16, 0.16, (255, 245, 200))
    c.oval(x - 0.06, 0.1, x + 0.06, 0.22, (255, 246, 190))
    c.hills(0.6, ((232, 178, 96), (216, 156, 78)))
    c.oval(c.rng.uniform(-0.4, 0.4), 0.84, c.rng.uniform(0.7, 1.4), 1.5, (202, 138, 66))


def _snow(c: Canvas) -> None:
    c.hills(0.62, ((244, 249, 255), (226, 237, 249)))
    for _ in range(3):
        x, y = c.rng.random(), c.rng.uniform(0.62, 0.72)
        for k in range(3):
            w = 0.035 + 0.018 * k
            c.shape(
                [
                    (x - w, y - 0.06 + 0.06 * k),
                    (x + w, y - 0.06 + 0.06 * k),
                    (x, y - 0.15 + 0.06 * k),
                ],
                (70, 122, 112),
            )
    c.dots(40, (0, 1), (0.005, 0.01), [(255, 255, 255)])


def _city(c: Canvas) -> None:
    c.clouds(1, 0.2)
    x = -0.03
    while x < 1:
        w, h = c.rng.uniform(0.11, 0.2), c.rng.uniform(0.25, 0.62)
        tone = c.rng.choice([(104, 118, 160), (128, 108, 140), (90, 104, 138), (146, 122, 128)])
        c.box(x, 0.86 - h, x + w, 0.86, tone)
        for row in range(int(h / 0.075)):
            for col in range(int((w - 0.02) / 0.045)):
                wx, wy = x + 0.018 + 0.045 * col, 0.885 - h + 0.075 * row
                c.box(wx, wy, wx + 0.024, wy + 0.036, (255, 232, 160))
        x += w + 0.008
    c.box(0, 0.86, 1, 1, (84, 86, 100))
    for k in range(5):
        c.box(0.04 + 0.21 * k, 0.925, 0.14 + 0.21 * k, 0.94, (240, 224, 150))


def _forest(c: Canvas) -> None:
    c.box(0, 0.78, 1, 1, (74, 128, 62))
    for depth, leaf in ((0, (66, 132, 84)), (1, (40, 104, 62))):
        for k in range(5 - depth):
            x, y = (k + c.rng.uniform(0.2, 0.8)) / (5 - depth), 0.8 + 0.05 * depth
            c.box(x - 0.018, y - 0.25, x + 0.018, y, (104, 74, 50))
            for row in range(3):
                w, top = 0.07 + 0.025 * row, y - 0.56 + 0.12 * row
                c.shape([(x - w, top + 0.2), (x + w, top + 0.2), (x, top)], leaf)


def _mountains(c: Canvas) -> None:
    c.clouds(1, 0.25)
    for k in range(3):
        x, top, w = (
            (k + c.rng.uniform(0.1, 0.9)) / 3,
            c.rng.uniform(0.24, 0.42),
            c.rng.uniform(0.3, 0.42),
        )
        c.shape([(x - w, 0.86), (x + w, 0.86), (x, top)], (108 + 14 * k, 116 + 12 * k, 150 + 8 * k))
        cap = 0.3 * w
        drop = (0.86 - top) * 0.3
        c.shape(
            [
                (x - cap, top + drop),
                (x - cap / 3, top + drop * 0.8),
                (x, top + drop * 1.1),
                (x + cap / 2, top + drop * 0.8),
                (x + cap, top + drop),
                (x, top),
            ],
            (250, 252, 255),
        )
    c.hills(0.8, ((110, 160, 104), (92, 144, 92)))


SETTINGS: Final = {
    "sky": (_sky, (78, 164, 245), (206, 236, 255)),
    "night": (_night, (8, 10, 44), (52, 54, 116)),
    "space": (_space, (6, 3, 20), (22, 8, 44)),
    "sunset": (_sunset, (98, 56, 140), (255, 156, 92)),
    "meadow": (_meadow, (112, 194, 250), (216, 242, 255)),
    "beach": (_beach, (108, 200, 250), (222, 244, 255)),
    "ocean": (_ocean, (36, 138, 206), (8, 52, 116)),
    "desert": (_desert, (250, 192, 112), (255, 238, 196)),
    "snow": (_snow, (140, 176, 218), (228, 238, 248)),
    "city": (_city, (136, 160, 214), (248, 208, 184)),
    "forest": (_forest, (160, 214, 190), (214, 238, 200)),
    "mountains": (_mountains, (124, 180, 236), (230, 240, 250)),
}
"""Setting id to what is drawn and its sky's colours (top, bottom)."""


@lru_cache(maxsize=1024)
def backdrop(setting: str, view: int) -> Image.Image:
    """The backdrop of a setting; the same picture for the same view, always."""
    draw, top, bottom = SETTINGS[setting]
    canvas = Canvas(top, bottom, f"{setting} {view}")
    draw(canvas)
    return canvas.done()


MOTION_PATHS: Final = {
    "moves_right": lambda p: (0.1 + 0.8 * p, 0.55, 1.0, 0.0),
    "moves_left": lambda p: (0.9 - 0.8 * p, 0.55, 1.0, 0.0),
    "rises": lambda p: (0.5, 0.9 - 0.8 * p, 1.0, 0.0),
    "falls": lambda p: (0.5, 0.1 + 0.8 * p, 1.0, 0.0),
    "bounces": lambda p: (0.15 + 0.7 * p, 0.75 - 0.5 * abs(math.sin(3 * math.pi * p)), 1.0, 0.0),
    "spins": lambda p: (0.5, 0.5, 1.1, 360 * p),
    "grows": lambda p: (0.5, 0.5, 0.5 + 1.1 * p, 0.0),
    "shrinks": lambda p: (0.5, 0.5, 1.6 - 1.1 * p, 0.0),
    "swings": lambda p: (
        0.5 + 0.3 * math.sin(2 * math.pi * p),
        0.55 - 0.1 * abs(math.sin(2 * math.pi * p)), 1.0, 25 * math.sin(2 * math.pi * p),
    ),
    "circles": lambda p: (
        0.5 + 0.28 * math.cos(2 * math.pi * p), 0.5 + 0.28 * math.sin(2 * math.pi * p), 0.9, 0.0,
    ),
}  # fmt: skip
"""Motion id to (x, y, scale, turn) at phase p in 0..1, for sample sheets and evaluation."""


def path_pose(subject: str, motion: str, phase: float) -> Pose:
    """The subject's pose at a phase of a motion."""
    x, y, scale, turn = MOTION_PATHS[motion](phase)
    return Pose(subject=subject, x=x, y=y, scale=scale, turn=turn)
