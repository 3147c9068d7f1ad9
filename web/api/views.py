"""The farm's nouns as JSON. Here GPU-ms become seconds: decimals with at most three places."""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from orchestrator.catalog import ModelCard
from orchestrator.errors import FarmError
from orchestrator.farm import Page
from orchestrator.farm.jobs import Estimate, forecasts
from orchestrator.farm.jobs.forecasts import Forecast
from orchestrator.farm.jobs.keeping import still_ahead
from orchestrator.farm.jobs.quoting import Alternative
from orchestrator.farm.jobs.waiting import Waiting
from orchestrator.farm.leases.fleet import QueueDepth
from orchestrator.model import (
    WHITE,
    Alert,
    Brief,
    Handling,
    Job,
    JobError,
    Json,
    Quote,
    Ruling,
    SceneText,
    Shot,
    Watermark,
    Worker,
)
from orchestrator.states import OnExhausted
from web.api import remedies

T = TypeVar("T")
BASE = "/api/v1"


def seconds(gpu_ms: int | None) -> float | None:
    """Return GPU-ms as GPU-seconds; three places are exact."""
    return None if gpu_ms is None else gpu_ms / 1000


def when(at_ms: int | None) -> str | None:
    """Return a time as ISO 8601 in UTC."""
    if at_ms is None:
        return None
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")


def listed(page: Page[T], view: Callable[[T], Json]) -> Json:
    """Return a part of a list."""
    return {"data": [view(item) for item in page.items], "next_cursor": page.next_cursor}


def alerts(rows: Iterable[Alert]) -> list[Json]:
    """Return alerts of a budget, ascending."""
    return [{"percent": row.percent, "action": row.action.value} for row in rows]


def price(microusd: int) -> Json:
    """Return a price."""
    return {"microusd": microusd, "usd": microusd / 1e6}


UNREAD: Final[Json] = {
    "prompt": None,
    "negative_prompt": None,
    "shots": [],
    "notes": [],
    "origin": None,
    "rulings": {},
    "artifacts": {},
}
"""Fields of a job's view as a key sees them that may not read: no words, no files."""


def without_words(shown: Json) -> Json:
    """Return the view of a job without what the scope `read` is for."""
    told = {name: UNREAD.get(name, value) for name, value in shown.items() if name != "request"}
    if told["error"]:
        told["error"] |= {"message": "A key with the scope read is told what happened."}
    return told


def job(row: Job, how_far: Forecast | None = None) -> Json:
    """Return a job as its owner sees it."""
    quoted, how_far = row.quote, how_far or forecasts.still(row)
    files = {
        name: {"url": f"{BASE}/jobs/{row.id}/{name}", "sha256": file.sha256, "bytes": file.bytes}
        for name, file in row.artifacts.items()
    }
    return {
        "id": row.id,
        "object": "job",
        "state": row.state.value,
        "intent": row.intent.value if row.intent else None,
        "pause_reason": row.pause_reason.value if row.pause_reason else None,
        "session_id": row.session_id,
        "model": row.model,
        "prompt": row.brief.prompt,
        "negative_prompt": row.brief.negative_prompt,
        "seconds": round(row.seconds, 3),
        "fps": row.fps,
        "width": row.width,
        "height": row.height,
        "seed": row.seed,
        "steps": row.steps,
        "interpolate": row.interpolate,
        "upscale": row.upscale,
        "frames_total": row.frames_total,
        "frames_done": row.frames_done,
        "progress": how_far.percent,
        "eta_seconds": seconds(how_far.left_ms),
        "eta_seconds_p90": seconds(how_far.left_p90_ms),
        "shots": [_shot(shot) for shot in row.render_plan.shots],
        "notes": list(row.render_plan.notes),
        "origin": _origin(row),
        "quote": {
            "gpu_seconds_p50": seconds(quoted.p50_gpu_ms),
            "gpu_seconds_p90": seconds(quoted.p90_gpu_ms),
            "gpu_seconds_ceiling": seconds(row.ceiling_gpu_ms),
            "price": price(quoted.price_microusd),
            "rates": quoted.rates,
            "profile": quoted.profile,
            "fitted": quoted.fitted,
        },
        "watermark": _facts(quoted.watermark),
        "usage": {
            "gpu_seconds": seconds(row.spent_gpu_ms),
            "held_gpu_seconds": seconds(row.held_gpu_ms),
            "max_gpu_seconds": seconds(row.cap_gpu_ms),
            "over_quote_gpu_seconds": seconds(row.over_quote_gpu_ms),
        },
        "on_exhausted": row.on_exhausted.value,
        "truncated": row.truncated,
        "webhook_id": row.webhook_id,
        "webhook_events": list(row.webhook_events) if row.webhook_id else None,
        "tags": list(row.tags),
        "metadata": dict(row.metadata),
        "rulings": {name: _ruling(each) for name, each in row.rulings.items()},
        "error": error(row.error),
        "created_at": when(row.created_at_ms),
        "started_at": when(row.started_at_ms),
        "finished_at": when(row.finished_at_ms),
        "expires_in": None if row.keep_ms is None else row.keep_ms // 1000,
        "expires_at": when(row.expires_at_ms or row.keep_until_ms),
        "expired_at": when(row.expired_at_ms),
        "artifacts": files,
    }


def error(failed: JobError | None) -> Json | None:
    """Return what a job failed of, and what helps."""
    if failed is None:
        return None
    told = {"code": failed.code, "message": failed.message}
    return told | remedies.shown(failed.remedies)


def waiting(why: Waiting | None) -> Json | None:
    """Return what a job waits for."""
    if why is None:
        return None
    return {
        "code": why.code,
        "message": why.what,
        **remedies.shown(why.remedies),
        "jobs_ahead": why.jobs_ahead,
        "eta_seconds": seconds(why.eta_ms),
    }


def quote(estimate: Estimate) -> Json:
    """Return what a job would cost, and what would fit if it does not."""
    return {
        "object": "quote",
        **_quoted(estimate.quote),
        "gpu_seconds_ceiling": seconds(estimate.ceiling_gpu_ms),
        "gpu_seconds_held": seconds(estimate.hold_gpu_ms),
        "basis": estimate.quote.basis,
        "basis_kind": estimate.quote.basis_kind.value,
        "receipts": estimate.quote.receipts,
        "extrapolated": estimate.quote.extrapolated,
        "fits": estimate.fits,
        "why_not": why_not(estimate.refusal) if estimate.refusal else None,
        "gpu_seconds_least": seconds(estimate.quote.least_gpu_ms),
        "fitted": estimate.fitted,
        "watermark": _facts(estimate.watermark),
        "session_id": estimate.session.id,
        "available_gpu_seconds": seconds(estimate.available_gpu_ms),
        "model": estimate.render_plan.model,
        "width": estimate.render_plan.output.width,
        "height": estimate.render_plan.output.height,
        "fps": estimate.render_plan.fps,
        "steps": estimate.render_plan.steps,
        "interpolate": estimate.render_plan.interpolate,
        "upscale": estimate.render_plan.upscale,
        "seconds": round(estimate.render_plan.seconds, 3),
        "frames_total": estimate.render_plan.frames_total,
        "shots": [_shot(shot) for shot in estimate.render_plan.shots],
        "notes": list(estimate.render_plan.notes),
        "alternatives": [alternative(each) for each in estimate.alternatives],
    }


def why_not(refusal: FarmError) -> Json:
    """Return what a submission would be refused with."""
    return {
        "message": refusal.message,
        **remedies.shown(refusal.remedies),
        **problem_data(refusal.data),
    }


def alternative(other: Alternative) -> Json:
    """Return a variant that would fit, and the files that have to come with its request again."""
    handling = other.handling
    return {
        "label": other.label,
        **_quoted(other.quote),
        "request": {
            **brief(other.brief),
            "session_id": other.session_id,
            **handling_of(handling),
        },
        "files": list(handling.files),
    }


def handling_of(asked: Handling) -> Json:
    """Return what a request says beside its brief, where it says something."""
    said = {
        "tags": list(asked.tags),
        "metadata": dict(asked.metadata),
        "webhook_url": asked.webhook_url,
        "webhook_events": list(asked.webhook_events),
        "expires_in": asked.expires_in_ms and asked.expires_in_ms // 1000,
        "expires_at": when(asked.expires_at_ms),
        "image_of": asked.image_of,
    }
    return {name: value for name, value in said.items() if value}


def brief(row: Brief) -> Json:
    """Return a brief as the body of a request that would ask for it."""
    asked = {
        "prompt": row.prompt,
        "negative_prompt": row.negative_prompt or None,
        "storyboard": [_scene(each) for each in row.scenes] or None,
        "model": row.model,
        "seconds": row.seconds,
        "fps": row.fps,
        "size": str(row.size) if row.size else None,
        "steps": row.steps,
        "interpolate": None if row.interpolate == 1 else row.interpolate,
        "upscale": None if row.upscale == 1 else row.upscale,
        "seed": row.seed,
        "image_background": None if row.image_background == WHITE else row.image_background,
        "max_gpu_seconds": None if row.max_gpu_ms is None else row.max_gpu_ms / 1000,
        "extends": row.origin.job_id if row.before and row.origin else None,
        "written_out": row.written_out or None,
        "on_exhausted": None if row.on_exhausted is OnExhausted.PAUSE else row.on_exhausted,
    }
    said: Json = {name: value for name, value in asked.items() if value is not None}
    if row.before:  # what is not said would be as it was in the video before
        said |= {
            "negative_prompt": row.negative_prompt,
            "max_gpu_seconds": asked["max_gpu_seconds"],
            "on_exhausted": row.on_exhausted,
        }
    return said


def request_of(job: Job, now_ms: int) -> Json:
    """Return the body that asks for a job again: as it was asked, on its model, with its seed."""
    own: Json = {"session_id": job.session_id, "model": job.model, "seed": job.seed}
    return (
        brief(job.brief) | own | handled(job, now_ms) | ({"image_of": job.id} if job.image else {})
    )


def handled(job: Job, now_ms: int) -> Json:
    """Return how a job is labelled and kept, as another request would ask for it.

    A moment that a new job could not name any more is left out.
    """
    asked = {
        "tags": list(job.tags),
        "metadata": dict(job.metadata),
        "expires_in": job.keep_ms // 1000 if job.keep_ms and job.keep_asked else None,
        "expires_at": when(job.keep_until_ms) if still_ahead(job, now_ms) else None,
    }
    return {name: value for name, value in asked.items() if value}


def model(card: ModelCard) -> Json:
    """Return a model of the catalogue, without where its weights lie."""
    return {
        "id": card.id,
        "object": "model",
        "version": card.version,
        "title": card.title,
        "kind": card.kind,
        "licence": card.licence,
        "parameters": card.parameters,
        "native_size": str(card.native),
        "output_size": str(card.output),
        "profiles": dict(card.profiles),
        "most_upscale": card.most_upscale,
        "steps": {"min": card.min_steps, "default": card.default_steps, "max": card.max_steps},
        "fps": card.fps,
        "seconds": card.seconds,
        "max_seconds": card.max_seconds,
        "max_frames": card.max_frames,
        "memory_mb": card.memory_mb,
        "takes_image": card.takes_image,
        "domains": list(card.domains),
        "scores": dict(card.scores),
        "vocabulary": {
            "subjects": sorted(card.vocabulary.subjects),
            "settings": sorted(card.vocabulary.settings),
            "motions": sorted(card.vocabulary.motions),
            "styles": sorted(card.vocabulary.styles),
        },
    }


def worker(row: Worker) -> Json:
    """Return a worker as its operator sees it."""
    return {
        "id": row.id,
        "object": "worker",
        "name": row.name,
        "host": row.host,
        "device": row.device,
        "device_class": row.device_class,
        "memory_mb": row.memory_mb,
        "kinds": list(row.kinds),
        "models": list(row.models),
        "polls": row.polls,
        "state": row.state.value,
        "flags": row.flags,
        "versions": dict(row.versions),
        "seen_at": when(row.seen_at_ms),
    }


def queue(depth: QueueDepth) -> Json:
    """Return how long a queue is."""
    return {
        "queue": depth.queue,
        "ready": depth.ready,
        "leased": depth.leased,
        "idle_workers": depth.idle_workers,
    }


def problem_data(data: Json) -> Json:
    """Return an error's data as JSON: seconds for GPU-ms, alternatives as requests."""
    others = data.get("alternatives")
    shown: Json = in_seconds({k: v for k, v in data.items() if k != "alternatives"})
    if others is not None:
        shown["alternatives"] = [alternative(each) for each in others]
    return shown


def _quoted(cost: Quote) -> Json:
    return {
        "gpu_seconds_p50": seconds(cost.p50_gpu_ms),
        "gpu_seconds_p90": seconds(cost.p90_gpu_ms),
        "price": price(cost.price_microusd),
        "rates": cost.rates,
        "profile": cost.profile,
        "startup": {"gpu_seconds": seconds(cost.startup_gpu_ms), "charged": False},
        "stages": [
            {
                "stage": line.stage.value,
                "gpu_seconds_p50": seconds(line.p50_gpu_ms),
                "gpu_seconds_p90": seconds(line.p90_gpu_ms),
                "price": price(line.price_microusd),
            }
            for line in cost.stages
        ],
    }


def _facts(noun: Watermark | None) -> Json | None:
    return None if noun is None else asdict(noun)


def _scene(scene: SceneText) -> Json:
    asked = {
        "prompt": scene.prompt,
        "seconds": scene.seconds,
        "negative_prompt": scene.negative_prompt or None,
    }
    return {name: value for name, value in asked.items() if value is not None}


def _ruling(ruling: Ruling) -> Json:
    return {
        "allowed": ruling.allowed,
        "reason": ruling.reason,
        "judged": not ruling.error,
        "at": when(ruling.at_ms),
    }


def _shot(shot: Shot) -> Json:
    return {
        "first_frame": shot.first_frame,
        "frames": shot.frames,
        "prompt": shot.scene.prompt,
        "negative_prompt": shot.scene.negative_prompt,
        "understood": shot.scene.understood,
        "camera": shot.scene.camera,
    }


def _origin(row: Job) -> Json | None:
    """Return which job this one is made from, and how."""
    made_from = row.brief.origin
    if made_from is None:
        return None
    return {"job_id": made_from.job_id, "how": made_from.how, "frames": made_from.frames}


def in_seconds(value: Any) -> Any:
    """Rename every `…gpu_ms` of nested JSON to `…gpu_seconds` and divide it by 1,000."""
    if isinstance(value, list):
        return [in_seconds(item) for item in value]
    if not isinstance(value, dict):
        return value
    shown: Json = {}
    for name, item in value.items():
        if name.endswith("gpu_ms"):
            shown[name.replace("gpu_ms", "gpu_seconds")] = seconds(item)
        elif name.endswith("until_ms"):
            shown[name.removesuffix("_ms")] = when(item)
        elif name == "report":  # as it was digested
            shown[name] = item
        elif name == "by_stage":
            shown[name] = {stage: seconds(ms) for stage, ms in item.items()}
        else:
            shown[name] = in_seconds(item)
    return shown
