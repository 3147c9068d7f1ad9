"""Remedies in the API: a code, a sentence, its data, and the call that does it."""

from collections.abc import Iterable, Mapping
from typing import Final, assert_never

from orchestrator import remedies
from orchestrator.device_classes import CPU
from orchestrator.model import Json
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
    best_first,
)

BASE: Final = "/api/v1"
LISTS: Final[Mapping[Listing, str | None]] = {
    Listing.JOBS: "/jobs",
    Listing.SESSIONS: "/sessions",
    Listing.ACCOUNTS: "/accounts",
    Listing.PLANS: "/plans",
    Listing.PEOPLE: "/people",
    Listing.KEYS: "/keys",
    Listing.LINKS: "/links",
    Listing.FILES: "/files",
    Listing.CHARACTERS: "/characters",
    Listing.WEBHOOKS: "/webhooks",
    Listing.DELIVERIES: "/webhooks/{id}/deliveries",
    Listing.MODELS: "/models",
    Listing.WORKERS: "/workers",
    Listing.CHECKS: "/checks",
    Listing.LOGS: None,
}


def shown(helping: Iterable[Remedy]) -> Json:
    """Return `next`, what helps best, and `also`, the others, if there are any."""
    return best_first([_shown(each) for each in helping])


def call(remedy: Remedy) -> Json | None:
    """Return the call that does it; None where no call does."""
    if isinstance(remedy, AboutSession):
        return _of_session(remedy)
    if isinstance(remedy, AboutBudget):
        return _of_budget(remedy)
    if isinstance(remedy, AboutJob):
        return _of_job(remedy)
    return _of_farm(remedy)


def _shown(remedy: Remedy) -> Json:
    told = remedies.shown(remedy)
    if isinstance(remedy, UseKey):
        told["text"] = "Send a valid key: `Authorization: Bearer farm_…`."
    return told | {"call": call(remedy)}


def _of_session(remedy: AboutSession) -> Json | None:
    match remedy:
        case TopUp(session_id, _, gpu_ms):
            body = None if gpu_ms is None else {"gpu_seconds": gpu_ms / 1000}
            return _call("POST", f"/sessions/{session_id}/top-ups", body=body)
        case OpenSession():
            return _call("POST", "/sessions", body=None)
        case Reopen(session_id):
            return _call("POST", f"/sessions/{session_id}/reopen")
        case MoveDefault(session_id):
            return _call("POST", f"/sessions/{session_id}/default")
        case ChangeAlerts(session_id):
            return _call("PUT", f"/sessions/{session_id}/alerts", body=None)
        case UseSession():
            return None  # its request, with that session
    assert_never(remedy)


def _of_budget(remedy: AboutBudget) -> Json | None:
    match remedy:
        case SeeAlternatives():
            return _call("POST", "/quotes", body=None)
        case RaiseAllowance(key_id, gpu_ms):
            return _call("PUT", f"/keys/{key_id}/limit", body={"gpu_seconds": gpu_ms / 1000})
        case ChangePlan(account_id):
            return _call("PUT", f"/accounts/{account_id}/plan", body=None)
        case ChangeMonthAlerts(account_id):
            return _call("PUT", f"/accounts/{account_id}/alerts", body=None)
        case RaiseLimit() | AskForLess() | TakeAlternative() | WaitForMonth() | WaitForHolders():
            return None
    assert_never(remedy)


def _of_job(remedy: AboutJob) -> Json | None:
    match remedy:
        case Resume(job_id):
            return _call("POST", f"/jobs/{job_id}/resume")
        case Pause(job_id):
            return _call("POST", f"/jobs/{job_id}/pause")
        case FinishEarly(job_id):
            return _call("POST", f"/jobs/{job_id}/finish")
        case Cancel(job_id):
            return _call("POST", f"/jobs/{job_id}/cancel")
        case Watch(job_id):
            return _call("GET", f"/jobs/{job_id}")
        case EndAJob():
            return _call("GET", "/jobs")
        case Rerun():
            return None  # its request again
    assert_never(remedy)


def _of_farm(remedy: AboutFarm) -> Json | None:
    match remedy:
        case LiftFreeze():
            return _call("PUT", "/freeze", body={"frozen": False})
        case CreateKey("join", device_class):
            enrols = {"device_classes": [device_class or CPU]}
            return _call("POST", "/keys", body={"kind": "join", "name": "join"} | enrols)
        case CreateKey(kind):
            return _call("POST", "/keys", body={"kind": kind, "name": kind})
        case AddPerson(name):
            return _call("POST", "/people", body={"name": name})
        case RegisterWebhook():
            return _call("POST", "/webhooks", body=None)
        case EnableWebhook(webhook_id):
            return _call("POST", f"/webhooks/{webhook_id}/enable")
        case LookAt(what, _, of):
            path = LISTS[what]
            return _call("GET", path.format(id=of)) if path else None
        case StartWorker() | UseKey() | GetLink() | FreeRoom() | Say():
            return None
    assert_never(remedy)


def _call(method: str, path: str, **body: Json | None) -> Json:
    """Return a call; a body of None is for the caller to write, no body is none."""
    return {"method": method, "path": f"{BASE}{path}", **body}
