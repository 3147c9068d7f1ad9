"""Briefs as the bodies of requests that would ask for them."""

from orchestrator.model import Brief, Json, SceneText
from orchestrator.states import OnExhausted


def request(brief: Brief) -> Json:
    """Return a brief as the body that would ask for it."""
    asked = {
        "prompt": brief.prompt,
        "negative_prompt": brief.negative_prompt or None,
        "storyboard": [_scene(each) for each in brief.scenes] or None,
        "model": brief.model,
        "seconds": brief.seconds,
        "fps": brief.fps,
        "size": str(brief.size) if brief.size else None,
        "steps": brief.steps,
        "interpolate": None if brief.interpolate == 1 else brief.interpolate,
        "upscale": None if brief.upscale == 1 else brief.upscale,
        "seed": brief.seed,
        "max_gpu_seconds": None if brief.max_gpu_ms is None else brief.max_gpu_ms / 1000,
        "extends": brief.origin.job_id if brief.before and brief.origin else None,
        "on_exhausted": None if brief.on_exhausted is OnExhausted.PAUSE else brief.on_exhausted,
    }
    return {name: value for name, value in asked.items() if value is not None}


def _scene(scene: SceneText) -> Json:
    asked = {
        "prompt": scene.prompt,
        "seconds": scene.seconds,
        "negative_prompt": scene.negative_prompt or None,
    }
    return {name: value for name, value in asked.items() if value is not None}
