"""Remedies on the command line: a sentence, and the command that does it."""

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any, Final, assert_never

from orchestrator import remedies
from orchestrator.device_classes import CPU
from orchestrator.remedies import (
    AboutBudget,
    AboutFarm,
    AboutJob,
    AboutSession,
    AddPerson,
    AskForLess,
    Cancel,
    ChangeAlerts,
    ChangeMonthAlerts,
    ChangePlan,
    CreateKey,
    EnableWebhook,
    EndAJob,
    FinishEarly,
    FreeRoom,
    GetLink,
    LiftFreeze,
    Listing,
    LookAt,
    MoveDefault,
    OpenSession,
    Pause,
    RaiseAllowance,
    RaiseLimit,
    RegisterWebhook,
    Remedy,
    Reopen,
    Rerun,
    Resume,
    Say,
    SeeAlternatives,
    StartWorker,
    TakeAlternative,
    TopUp,
    UseKey,
    UseSession,
    WaitForHolders,
    WaitForMonth,
    Watch,
)

NO_KEY: Final = "Set FARM_API_KEY to a key of that farm; `farm keys create` there makes one."
MOST: Final = 10**10
"""GPU-seconds that no budget reaches."""
PLAIN: Final = re.compile(r"\w[\w.-]*")
LISTS: Final[Mapping[Listing, str]] = {
    Listing.JOBS: "farm jobs ls",
    Listing.SESSIONS: "farm session ls",
    Listing.ACCOUNTS: "farm account ls",
    Listing.PLANS: "farm account plans",
    Listing.PEOPLE: "farm people ls",
    Listing.KEYS: "farm keys ls",
    Listing.LINKS: "farm jobs links",
    Listing.FILES: "farm files ls",
    Listing.CHARACTERS: "farm characters ls",
    Listing.WEBHOOKS: "farm webhooks ls",
    Listing.DELIVERIES: "farm webhooks deliveries",
    Listing.MODELS: "farm models ls",
    Listing.WORKERS: "farm worker ls",
    Listing.CHECKS: "farm doctor",
    Listing.LOGS: "farm logs",
}


def as_json(helping: Iterable[Remedy]) -> dict[str, Any]:
    """Return what to do next for programs: each with its command, or null."""
    told = [remedies.shown(each) | {"command": command(each)} for each in helping]
    return remedies.best_first(told)


def told(answer: Mapping[str, Any]) -> tuple[Remedy, ...]:
    """Return what helps by an answer of the API; a farm of an older version has words alone."""
    best = answer.get("next")
    if isinstance(best, str) and best:
        return (Say(best),)
    others = answer.get("also")
    sent = [best, *(others if isinstance(others, list) else [])]
    return tuple(_read(each) for each in sent if isinstance(each, dict))


def said(remedy: Remedy) -> str:
    """Return what helps as a sentence, with its command."""
    if isinstance(remedy, UseKey):
        return NO_KEY
    typed = command(remedy)
    return f"{remedy.text.rstrip('.')}: `{typed}`." if typed else remedy.text


def command(remedy: Remedy) -> str | None:
    """Return what to type; None where typing does not help."""
    if isinstance(remedy, AboutSession):
        return _of_session(remedy)
    if isinstance(remedy, AboutBudget):
        return _of_budget(remedy)
    if isinstance(remedy, AboutJob):
        return _of_job(remedy)
    return _of_farm(remedy)


def _of_session(remedy: AboutSession) -> str:
    match remedy:
        case TopUp(session_id, session, gpu_ms):
            amount = "GPU_SECONDS" if gpu_ms is None else remedies.seconds(gpu_ms)
            return f"farm session topup {_name(session, session_id)} {amount}"
        case OpenSession():
            return "farm session create NAME"
        case Reopen(session_id, session):
            return f"farm session reopen {_name(session, session_id)}"
        case MoveDefault(session_id, session):
            return f"farm session default {_name(session, session_id)}"
        case UseSession(session_id, session):
            return f"--session {_name(session, session_id)}"
        case ChangeAlerts(session_id, session):
            return f"farm session alerts {_name(session, session_id)}"
    assert_never(remedy)


def _of_budget(remedy: AboutBudget) -> str | None:
    match remedy:
        case RaiseLimit(gpu_ms):
            return f"--max-gpu-seconds {remedies.seconds(gpu_ms)}"
        case RaiseAllowance(key_id, gpu_ms):
            return f"farm keys limit {shlex.quote(key_id)} {remedies.seconds(gpu_ms)}"
        case TakeAlternative():
            return "--fit"
        case SeeAlternatives():
            return "farm quote PROMPT"
        case ChangePlan(account_id):
            return f"farm account set-plan {shlex.quote(account_id)} PLAN"
        case ChangeMonthAlerts(account_id):
            return f"farm account alerts {shlex.quote(account_id)}"
        case AskForLess() | WaitForMonth() | WaitForHolders():
            return None
    assert_never(remedy)


def _of_job(remedy: AboutJob) -> str:
    match remedy:
        case Resume(job_id):
            return f"farm jobs resume {shlex.quote(job_id)}"
        case Pause(job_id):
            return f"farm jobs pause {shlex.quote(job_id)}"
        case FinishEarly(job_id):
            return f"farm jobs finish {shlex.quote(job_id)}"
        case Cancel(job_id):
            return f"farm jobs cancel {shlex.quote(job_id)}"
        case Rerun(job_id):
            return f"farm jobs rerun {shlex.quote(job_id)}"
        case Watch(job_id):
            return f"farm jobs watch {shlex.quote(job_id)}"
        case EndAJob():
            return "farm jobs ls"
    assert_never(remedy)


def _key_making(kind: str, device_class: str) -> str:
    which = f" --device-class {shlex.quote(device_class or CPU)}" if kind == "join" else ""
    return f"farm keys create --kind {shlex.quote(kind)}{which}"


def _of_farm(remedy: AboutFarm) -> str | None:
    match remedy:
        case LiftFreeze():
            return "farm freeze --off"
        case StartWorker():
            return "farm worker run"
        case UseKey():
            return "farm keys create"
        case CreateKey(kind, device_class):
            return _key_making(kind, device_class)
        case GetLink():
            return "farm up"
        case AddPerson(name):
            return f"farm people add {shlex.quote(name)} --sso"
        case RegisterWebhook():
            return "farm webhooks create URL"
        case EnableWebhook(webhook_id):
            return f"farm webhooks enable {shlex.quote(webhook_id)}"
        case FreeRoom():
            return "farm jobs rm JOB"
        case LookAt(what, _, of):
            return f"{LISTS[what]} {shlex.quote(of)}" if of else LISTS[what]
        case Say():
            return None
    assert_never(remedy)


def _name(name: str, its_id: str) -> str:
    """Return a session as it is typed: by name where a shell takes that as it is."""
    return name if PLAIN.fullmatch(name) else shlex.quote(its_id)


def _read(sent: Mapping[str, Any]) -> Remedy:
    data = sent.get("data")
    amount = data.get("gpu_seconds") if isinstance(data, dict) else None
    if isinstance(data, dict) and isinstance(amount, int | float) and 0 < amount < MOST:
        data = data | {"gpu_ms": round(amount * 1000)}
    return remedies.from_json({**sent, "data": data})
