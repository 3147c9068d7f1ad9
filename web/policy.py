"""Asking the operator's policy: a function by its dotted name, or a URL that is posted to.

Both get one question, a JSON object, and say `{"allow": true}` or `{"allow": false, "reason":
"…"}`. They are asked on threads of their own: neither a slow answer nor a hung one keeps a
request from SQL, and after FARM_POLICY_SECONDS it counts as an error.
"""

import base64
import pkgutil
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import PurePath
from typing import Final, cast

import gevent
import httpx
import structlog
from flask import current_app
from gevent.threadpool import ThreadPool

from orchestrator import safe_text
from orchestrator.errors import FarmError
from orchestrator.farm.jobs import policy
from orchestrator.model import Brief, Job, Json, Ruling
from orchestrator.planning.plan_json import brief_json
from orchestrator.remedies import Say
from orchestrator.settings import Settings
from orchestrator.wire import POSTER, SHEET, CompleteRequest
from web.artifacts import UNSTORED
from web.context import artifacts, farm
from web.threads import in_thread

log = structlog.get_logger()

Judge = Callable[[Json], object]

THREADS: Final = 16
REASON_CHARS: Final = 300


class Policies:
    """The operator's policies; each may be absent."""

    def __init__(self, config: Settings) -> None:
        self.prompt = _judge(config.policy_prompt, config.policy_seconds)
        self.frames = _judge(config.policy_frames, config.policy_seconds)
        self.seconds, self.fail_closed = config.policy_seconds, config.policy_fail_closed
        self._threads: ThreadPool | None = None

    def ask(self, judge: Judge, question: Json) -> Ruling:
        """Return what a policy says; an error refuses or allows, as the operator chose."""
        said, error = self._within_time(judge, question)
        allowed, reason = None, ""
        if isinstance(said, bool):
            allowed = said
        elif isinstance(said, Mapping) and isinstance(said.get("allow"), bool):
            allowed, reason = said["allow"], _sentence(said.get("reason") or "")
        elif not error:
            error = "it answered neither true nor false"
        if error:
            log.error("policy failed", stage=question["stage"], error=error)
        elif not allowed:
            log.warning("policy refused", stage=question["stage"], reason=reason)
        return Ruling(
            allowed=not self.fail_closed if allowed is None else allowed,
            reason=reason or ("" if allowed else "no reason was given"),
            error=_sentence(error),
            at_ms=farm().clock(),
        )

    def _within_time(self, judge: Judge, question: Json) -> tuple[object, str]:
        def run() -> tuple[object, str]:
            try:
                return judge(question), ""
            except Exception as error:  # noqa: BLE001 - the operator's code: any error is a ruling
                return None, f"{type(error).__name__}: {error}"

        if self._threads is None:  # after the fork
            self._threads = ThreadPool(THREADS)
        try:
            with gevent.Timeout(self.seconds):
                answer: tuple[object, str] = self._threads.spawn(run).get()
                return answer
        except gevent.Timeout:
            return None, f"no answer within {self.seconds:g} s"


def policies() -> Policies:
    """Return the operator's policies."""
    return cast(Policies, current_app.extensions["policies"])


def _sentence(said: object) -> str:
    """Return what a policy said, which may repeat the prompt, as a line that people are shown."""
    return safe_text.one_line(str(said))[:REASON_CHARS]


def rule_on_prompt(brief: Brief, account_id: str) -> Ruling | None:
    """Return what the policy says of a brief, before anything is planned; None without one."""
    judge = policies().prompt
    if judge is None:
        return None
    facts = brief_json(brief)
    image = facts.pop("image")  # one that no model takes is not kept: the planner refuses it
    pictures = [_picture(image)] if image and image != UNSTORED else []
    facts |= {"stage": "prompt", "account_id": account_id, "images": pictures}
    return policies().ask(judge, facts)


def rule_on_frames(worker_id: str, report: CompleteRequest) -> None:
    """Have the frames of a finished video judged, and keep the ruling for its completion."""
    judge = policies().frames
    found = in_thread(policy.to_judge, farm(), worker_id, report) if judge else None
    if judge is None or found is None:
        return
    job, lease = found
    pictures = [_picture(lease.key(name)) for name in (POSTER, SHEET)]
    ruling = policies().ask(judge, _of_job(job) | {"images": pictures})
    in_thread(policy.keep, farm(), lease, ruling)


def _of_job(job: Job) -> Json:
    facts = {name: value for name, value in brief_json(job.brief).items() if name != "image"}
    about = {"stage": "frames", "job_id": job.id, "account_id": job.account_id}
    return facts | about | {"model": job.model, "frames_total": job.frames_total}


def _picture(key: str) -> Json:
    with artifacts().open(key) as file:
        data = file.read()
    path = PurePath(key)
    kind = {".png": "png", ".webp": "webp"}.get(path.suffix, "jpeg")
    return {
        "name": path.stem,
        "content_type": f"image/{kind}",
        "base64": base64.b64encode(data).decode(),
    }


def _judge(where: str, seconds: float) -> Judge | None:
    if not where:
        return None
    if where.startswith(("https://", "http://")):
        # Reading the authorities' certificates takes longer than asking: once, not each time.
        return partial(_post, where, seconds, httpx.create_ssl_context())
    try:
        found = pkgutil.resolve_name(where)
    except (ImportError, AttributeError, ValueError) as error:
        raise FarmError(
            f"The policy {where} cannot be imported: {error}.",
            Say("FARM_POLICY_PROMPT and FARM_POLICY_FRAMES take package.module:function or a URL."),
        ) from None
    if not callable(found):
        raise FarmError(f"The policy {where} is no function.", Say("Name a function."))
    judge: Judge = found
    return judge


def _post(url: str, seconds: float, authorities: ssl.SSLContext, question: Json) -> object:
    answer = httpx.post(url, json=question, timeout=seconds, verify=authorities)
    if answer.status_code != 200:
        raise FarmError(f"it answered {answer.status_code}")
    return answer.json()
