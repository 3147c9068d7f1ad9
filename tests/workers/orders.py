"""Orders as a farm would grant them, for the fake engine."""

from hashlib import sha256
from itertools import count
from typing import Any

from orchestrator.model import Brief
from orchestrator.states import UnitKind
from orchestrator.wire import EncodeWork, FrameSpec, Order, ParseWork, RenderWork, SegmentRef

_numbers = count(1)


def order(work: ParseWork | RenderWork | EncodeWork, **facts: int) -> Order:
    """Return an order with a lease of its own."""
    number = next(_numbers)
    ids = {"lease_id": f"l{number}", "unit_id": f"u{number}", "job_id": "j1"}
    terms = {"fence": 1, "epoch": 1, "gpu_ms_limit": 600_000, "expires_in_ms": 3000, **facts}
    return Order.model_validate({**ids, **terms, "work": work})


def render_order(frames: int = 8, *, prompt: str = "a dog", steps: int = 2, **facts: int) -> Order:
    """Return a render unit; a micro-batch of the fake engine takes about 80 ms a step."""
    work = RenderWork(
        model="fake",
        model_version="1",
        width=64,
        height=64,
        output_width=64,
        output_height=64,
        fps=12,
        steps=steps,
        guidance_scale=1.0,
        micro_batch=4,
        frames=tuple(
            FrameSpec(index=i, prompt=prompt, negative_prompt="", seed=7, phase=i / frames)
            for i in range(frames)
        ),
        step_gpu_ms_prior=1,
        decode_gpu_ms_prior=1,
    )
    return order(work, **facts)


def plan_order(prompt: str = "a rocket rises", **brief: Any) -> Order:
    """Return a parse unit of the fake model."""
    asked = Brief(prompt=prompt, model="fake", **brief)
    return order(ParseWork(kind=UnitKind.PARSE, brief=asked, seed=11))


def encode_order(parts: dict[str, bytes], frames: int, **facts: object) -> Order:
    """Return an encode unit over segments of `frames` frames each."""
    segments = tuple(
        SegmentRef(first_frame=n * frames, frames=frames, key=key, sha256=sha256(body).hexdigest())
        for n, (key, body) in enumerate(parts.items())
    )
    total = frames * len(parts)
    size = {"width": 64, "height": 64, "fps": 12, "title": "a film"}
    return order(EncodeWork(frames_total=total, segments=segments, **{**size, **facts}))  # type: ignore[arg-type]
