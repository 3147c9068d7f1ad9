"""The cost law: what a micro-batch of so many megapixels costs, on one class of devices.

A step costs ``a·m + b·m²`` for a micro-batch of m megapixels (frames · pixels): convolutions and
projections grow with what there is, attention with its square. Decoding costs ``c + d·m``. All four
are at least nothing, so a law that was fitted never grows slower than its shape says. Fitted by
least squares of the *relative* error, since noise is a share of the work, over the median of each
shape, since a machine that hung is no law. Of two unknowns non-negative least squares has a
closed form: the free optimum, or the better of the two edges (Lawson and Hanson, 1974, ch. 23).
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

SHAPES: Final = 3
"""Of receipts: fewer than the unknowns and one to spare scale the law that was there."""
PACED_SHAPES: Final = 2
"""Of paces, which were measured one after the other on an idle device."""
APART: Final = 1.05
"""Sizes nearer than that, by share, are one shape: noise between them would be a slope."""
ALIKE: Final = 1e-12
"""A determinant below that share says that both columns point the same way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """GPU-ms of one micro-batch as a function of its megapixels."""

    linear: float
    """Of a step, per megapixel."""
    square: float = 0.0
    """Of a step, per megapixel squared."""
    decode: float = 0.0
    """Of decoding, whatever the size."""
    decode_linear: float = 0.0
    """Of decoding, per megapixel."""

    def step_ms(self, megapixels: float) -> float:
        """Return the cost of one denoising step."""
        return megapixels * (self.linear + self.square * megapixels)

    def decode_ms(self, megapixels: float) -> float:
        """Return the cost of decoding."""
        return self.decode + self.decode_linear * megapixels

    def times(self, step: float, decode: float) -> "Law":
        """Return the law of a device that takes so many times as long for each."""
        return Law(
            linear=self.linear * step,
            square=self.square * step,
            decode=self.decode * decode,
            decode_linear=self.decode_linear * decode,
        )


@dataclass(frozen=True, slots=True)
class Point:
    """A measurement of one shape: a step, and the decode of a micro-batch."""

    megapixels: float
    step_ms: float
    decode_ms: float


def through(law: Law, points: Sequence[Point]) -> Law:
    """Return the law, scaled so that it is right of the median point."""
    if not points:
        return law
    step = median(p.step_ms / law.step_ms(p.megapixels) for p in points)
    decodes = [(p.decode_ms, law.decode_ms(p.megapixels)) for p in points]
    decode = median(seen / said for seen, said in decodes) if all(s for _, s in decodes) else 1.0
    return law.times(step, decode)


def fitted(points: Iterable[Point], least: int = SHAPES) -> Law | None:
    """Return the law of what was measured; None where that has fewer than so many shapes."""
    shapes = _by_shape(points)
    if len(shapes) < least:
        return None
    steps, decodes = [], []
    for some in shapes:
        size = median(p.megapixels for p in some)
        step = median(p.step_ms for p in some)
        decode = median(p.decode_ms for p in some)
        steps.append((size / step, size * size / step, float(len(some))))
        decodes.append((1 / decode, size / decode, float(len(some))))
    linear, square = _least_squares(steps)
    fixed, grows = _least_squares(decodes)
    return Law(linear=linear, square=square, decode=fixed, decode_linear=grows)


def _by_shape(points: Iterable[Point]) -> list[list[Point]]:
    """Return points in groups of one shape each, the small ones first."""
    shapes: defaultdict[float, list[Point]] = defaultdict(list)
    smallest = 0.0
    for point in sorted(points, key=lambda p: p.megapixels):
        if point.step_ms <= 0 or point.decode_ms <= 0 or point.megapixels <= 0:
            continue
        if point.megapixels > smallest * APART:
            smallest = point.megapixels
        shapes[smallest].append(point)
    return list(shapes.values())


def _least_squares(rows: Sequence[tuple[float, float, float]]) -> tuple[float, float]:
    """Return p, q ≥ 0 with u·p + v·q nearest to 1 over rows (u, v, weight), u and v positive."""
    uu = sum(w * u * u for u, _, w in rows)
    uv = sum(w * u * v for u, v, w in rows)
    vv = sum(w * v * v for _, v, w in rows)
    u1 = sum(w * u for u, _, w in rows)
    v1 = sum(w * v for _, v, w in rows)
    determinant = uu * vv - uv * uv
    if determinant > ALIKE * uu * vv:
        p, q = (u1 * vv - v1 * uv) / determinant, (v1 * uu - u1 * uv) / determinant
        if p >= 0 and q >= 0:
            return p, q
    # The free optimum is outside, so the best is on an edge: the one that explains more.
    return (u1 / uu, 0.0) if u1 * u1 * vv >= v1 * v1 * uu else (0.0, v1 / vv)
