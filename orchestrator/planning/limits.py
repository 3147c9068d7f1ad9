"""Wishes that no plan can meet: each is refused by name, with what can be met."""

from typing import Final

from orchestrator.catalog import ModelCard
from orchestrator.errors import BadRequest
from orchestrator.model import Brief, Size
from orchestrator.remedies import Listing, LookAt, Say

MAX_FPS: Final = 60
MAX_INTERPOLATE: Final = 4
"""Further apart, frames say too little of what moved between them."""
MIN_SIDE_PX: Final = 16
MAX_SIDE_PX: Final = 4096
MAX_SEED: Final = 2**31 - 1
"""Seeds are SQL integers and every generator takes them."""


def check(brief: Brief, card: ModelCard, *, output: Size, fps: int, steps: int, seed: int) -> None:
    """Refuse what the model or the farm cannot do; size, rate, steps and seed as decided.

    Raises:
        BadRequest: says what cannot be, and what can.
    """
    _check_image(brief, card)
    _check_size(output)
    _check_fps(fps)
    _check_interpolate(brief.interpolate, fps)
    _check_upscale(brief.upscale, card)
    _check_steps(steps, card)
    _check_seed(seed)


# --- inside -------------------------------------------------------------------------------


def _check_image(brief: Brief, card: ModelCard) -> None:
    if brief.image is not None and not card.takes_image:
        raise BadRequest(
            f"{card.id} takes no reference image.",
            LookAt(Listing.MODELS, "Leave the image out, or choose a model that takes one."),
        )


def _check_size(size: Size) -> None:
    if not (MIN_SIDE_PX <= size.width <= MAX_SIDE_PX and MIN_SIDE_PX <= size.height <= MAX_SIDE_PX):
        raise BadRequest(
            f"A video of {size} pixels cannot be made.",
            Say(f"Ask for sides from {MIN_SIDE_PX} to {MAX_SIDE_PX} pixels, as in 1280x720."),
        )
    if size.width % 2 or size.height % 2:
        even = Size(width=size.width // 2 * 2, height=size.height // 2 * 2)
        raise BadRequest(
            f"The size {size} has an odd side, which H.264 video cannot have.",
            Say(f"Ask for {even}."),
        )


def _check_fps(fps: int) -> None:
    if not 1 <= fps <= MAX_FPS:
        raise BadRequest(
            f"A video of {fps} frames per second cannot be made.",
            Say(f"Ask for 1 to {MAX_FPS} frames per second."),
        )


def _check_interpolate(interpolate: int, fps: int) -> None:
    if interpolate in _painted_every(fps):
        return
    if not 1 <= interpolate <= MAX_INTERPOLATE:
        raise BadRequest(
            f"A farm cannot make {interpolate - 1} frames between two painted ones.",
            Say(f"Ask for `interpolate` from 1 (none) to {MAX_INTERPOLATE}."),
        )
    raise BadRequest(
        f"{fps} frames per second cannot be painted every {interpolate} frames.",
        Say(f"Ask for `interpolate` {', '.join(map(str, _painted_every(fps)))}, or another fps."),
    )


def _painted_every(fps: int) -> list[int]:
    """Return how far apart painted frames may lie at a rate: so that theirs is a whole number."""
    return [each for each in range(1, MAX_INTERPOLATE + 1) if fps % each == 0]


def _check_upscale(upscale: int, card: ModelCard) -> None:
    if not 1 <= upscale <= card.most_upscale:
        raise BadRequest(
            f"{card.id} cannot paint with sides {upscale} times shorter.",
            Say(
                f"Ask for `upscale` from 1 (none) to {card.most_upscale}."
                if card.most_upscale > 1
                else f"Leave `upscale` out: {card.id} paints at its own size alone."
            ),
        )


def _check_steps(steps: int, card: ModelCard) -> None:
    if not card.min_steps <= steps <= card.max_steps:
        raise BadRequest(
            f"{card.id} cannot take {steps} steps.",
            Say(
                f"Ask for {card.min_steps} to {card.max_steps} steps; "
                f"{card.default_steps} is its default."
            ),
        )


def _check_seed(seed: int) -> None:
    if not 0 <= seed <= MAX_SEED:
        raise BadRequest(
            f"The seed {seed} is out of range.", Say(f"Take a seed from 0 to {MAX_SEED}.")
        )
