"""Numbers and states in words for people. Pure; the templates' filters."""

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from orchestrator.model import Json
from orchestrator.states import Intent, JobState, PauseReason, UnitKind

KILO: Final = 1024


def gpu(gpu_ms: int) -> str:
    """Return GPU-seconds at a glance: three digits that matter, `0.84`, `4.2`, `3,600`."""
    seconds = gpu_ms / 1000
    if seconds >= 100 or seconds == 0:
        return f"{seconds:,.0f}"
    return f"{seconds:.1f}" if seconds >= 10 else f"{seconds:.2f}"


def exact(gpu_ms: int) -> str:
    """Return GPU-seconds to the millisecond, as a bill has them."""
    return f"{gpu_ms / 1000:,.3f}"


def price(microusd: int) -> str:
    """Return dollars; under a cent with two digits that matter."""
    dollars = microusd / 1e6
    if microusd == 0:
        return "$0"
    if microusd < 0:
        return "−" + price(-microusd)
    if dollars >= 0.1:
        return f"${dollars:,.2f}"
    decimals = 1 - math.floor(math.log10(dollars))
    return "$" + f"{dollars:.{decimals}f}".rstrip("0")


def lasting(ms: float) -> str:
    """Return a time span, `3 s`, `1 min 20 s`, `2 h 5 min`."""
    seconds = max(0, round(ms / 1000))
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s" if seconds and minutes < 10 else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def length(seconds: float) -> str:
    """Return the length of a clip, `3 s`, `2.5 s`."""
    return plain(round(seconds, 2)) + " s"


def ago(at_ms: int, now_ms: int) -> str:
    """Return how long ago something was."""
    seconds = (now_ms - at_ms) / 1000
    for limit, size, word in (
        (3600, 60, "minute"),
        (86_400, 3600, "hour"),
        (float("inf"), 86_400, "day"),
    ):
        if seconds < 60:
            return "just now"
        if seconds < limit:
            count = int(seconds // size)
            return f"{count} {word}{'s' if count > 1 else ''} ago"
    raise AssertionError("every age is under infinity")


def weight(size: int) -> str:
    """Return a file size, `840 KB`, `1.2 MB`."""
    if size < KILO:
        return f"{size} B"
    if size < KILO**2:
        return f"{size / KILO:.0f} KB"
    return f"{size / KILO**2:.1f} MB"


def frames(first: int, count: int, stride: int = 1) -> str:
    """Return frames as people count them, from one: `1–8`, `9`; apart, `1, 5 … 29`."""
    if stride > 1 and count > 1:
        return f"{first + 1}, {first + stride + 1} … {first + (count - 1) * stride + 1}"
    return f"{first + 1}–{first + count}" if count > 1 else f"{first + 1}"


def line_label(line: Json) -> str:
    """Return what a line of a receipt was for."""
    if line["kind"] != UnitKind.RENDER:
        return "Reading the prompt" if line["kind"] == UnitKind.PARSE else "Encoding the video"
    if not line["frames"]:
        return f"Frames from {line['first_frame'] + 1}"
    return f"Frames {frames(line['first_frame'], line['frames'], line.get('stride', 1))}"


def holders(refused: Json, now_ms: int) -> list[str]:
    """Return what holds of the budget that a refusal met, and until when."""
    found = []
    for each in refused.get("held_by") or ():
        until = each["lease_until_ms"]
        lease = f", by a lease of {lasting(until - now_ms)} more at most" if until else ""
        found.append(f"{exact(each['gpu_ms'])} GPU-s by {each['job_id']} ({each['state']}){lease}")
    return found


def plain(number: float) -> str:
    """Return a number as one would type it, `3`, `2.5`."""
    return f"{number:.3f}".rstrip("0").rstrip(".")


def plain_seconds(gpu_ms: int) -> str:
    """Return GPU-ms as the seconds one would type, `12.345`."""
    return plain(gpu_ms / 1000)


def sentence(words: str) -> str:
    """Return words with a capital letter, whatever the rest has."""
    return words[:1].upper() + words[1:]


def iso(at_ms: int) -> str:
    """Return a moment for `<time datetime>`."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="seconds")


STATE: Final = {
    JobState.QUEUED: "Queued",
    JobState.PARSING: "Reading the prompt",
    JobState.RENDERING: "Rendering",
    JobState.ENCODING: "Encoding",
    JobState.SUCCEEDED: "Done",
    JobState.PAUSED: "Paused",
    JobState.CANCELLED: "Cancelled",
    JobState.FAILED: "Failed",
}
TONE: Final = {
    JobState.SUCCEEDED: "done",
    JobState.PAUSED: "warn",
    JobState.CANCELLED: "",
    JobState.FAILED: "danger",
}
INTENT: Final = {Intent.PAUSE: "Pausing", Intent.CANCEL: "Cancelling"}
PAUSE: Final = {
    PauseReason.BUDGET: "Paused: budget used up",
    PauseReason.USER: "Paused",
}


def state(
    job_state: JobState,
    intent: Intent | None,
    reason: PauseReason | None,
    *,
    truncated: bool = False,
) -> str:
    """Return where a job stands, in a word or three."""
    if job_state is JobState.SUCCEEDED and truncated:
        return "Cut off"
    if intent is not None and not job_state.is_terminal:
        return INTENT[intent]
    if job_state is JobState.PAUSED and reason is not None:
        return PAUSE[reason]
    return STATE[job_state]


def tone(job_state: JobState, *, truncated: bool = False) -> str:
    """Return the colour class of a state."""
    if job_state is JobState.SUCCEEDED and truncated:
        return "warn"
    return TONE.get(job_state, "live")


FILTERS: Final[dict[str, Callable[..., str]]] = {
    "gpu": gpu,
    "exact": exact,
    "price": price,
    "lasting": lasting,
    "length": length,
    "weight": weight,
    "frames": frames,
    "iso": iso,
    "plain": plain,
    "plain_seconds": plain_seconds,
    "sentence": sentence,
    "line_label": line_label,
}
