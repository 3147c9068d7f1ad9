"""Words for a terminal, of quotes and jobs."""

from orchestrator.cli import output
from orchestrator.model import Json


def fits(told: Json) -> str:
    """Say whether a quoted video would be taken: with what is left, or which limit it meets."""
    limit = (told["why_not"] or {}).get("limit", "session")
    if not told["fits"] and limit not in ("session", "month"):
        return f"no: {limit.replace('_', ' ')}"
    there = output.seconds(told["available_gpu_seconds"])
    return f"{'yes' if told['fits'] else 'no'}: {there} available"


def cut_off(job: Json) -> str:
    """Say that a video has not all of its frames; nothing where it has."""
    if not job["truncated"]:
        return ""
    return f"Cut off at {job['frames_done']} of {job['frames_total']} frames"


def video(told: Json) -> str:
    """Say which video a quote is for."""
    steps = "1 step" if told["steps"] == 1 else f"{told['steps']} steps"
    profile = f" (profile {told['profile']})" if told["profile"] else ""
    return (
        f"{told['width']}x{told['height']}, {told['seconds']:g} s, {told['fps']} frames a second, "
        f"{told['frames_total']} to paint, {steps}{profile}, model {told['model']}"
    )
