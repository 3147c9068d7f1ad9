"""Remedies on a page: a sentence, a button or a link."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias, assert_never

from flask import url_for

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
    seconds,
)
from web.pages.budget import Budget


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Somewhere to go."""

    label: str
    href: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Button:
    """Something to press: a form of its own, or one that the page has."""

    label: str
    action: str = ""
    """Address that a form of its own is posted to."""
    form: str = ""
    """The page's form that it sends; empty: the one it stands in, if `action` is empty too."""
    name: str = ""
    value: str = ""


Action: TypeAlias = Link | Button


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A remedy on a page: words, something to press, or both."""

    text: str = ""
    action: Action | None = field(default=None)


TEXTS_WITH_ACTION: Final = (RaiseLimit, RaiseAllowance, Rerun, Cancel, LookAt, EndAJob, Watch)
"""Remedies whose button does not say all that their sentence does."""


def steps(helping: Iterable[Remedy], budget: Budget | None = None) -> tuple[Step, ...]:
    """Return what a page says, the best first; `budget`: of the session that the page tops up."""
    return tuple(_step(each, budget) for each in helping)


def action(remedy: Remedy, budget: Budget | None) -> Action | None:
    """Return what to press; None where no page does it."""
    if isinstance(remedy, AboutSession):
        return _of_session(remedy, budget)
    if isinstance(remedy, AboutBudget):
        return _of_budget(remedy)
    if isinstance(remedy, AboutJob):
        return _of_job(remedy)
    return _of_farm(remedy)


def _step(remedy: Remedy, budget: Budget | None) -> Step:
    pressed = action(remedy, budget)
    if pressed is None or isinstance(remedy, TEXTS_WITH_ACTION):
        return Step(text=remedy.text, action=pressed)
    if isinstance(remedy, TopUp) and remedy.goes_on:
        return Step(text="A top-up likely is enough, and it goes on by itself:", action=pressed)
    return Step(action=pressed)


def _of_session(remedy: AboutSession, budget: Budget | None) -> Action | None:
    match remedy:
        case TopUp(session_id, session, gpu_ms):
            if gpu_ms is None or not _gives(budget, session_id, gpu_ms):
                return None
            typed = seconds(gpu_ms)
            label = f"Top up session {session} by {typed} GPU-seconds"
            return Button(label=label, form="top-up", name="exactly", value=typed)
        case Reopen(session_id, session):
            return _change("reopen", session_id, f"Reopen session {session}")
        case MoveDefault(session_id, session):
            return _change("default", session_id, f"Make session {session} the default")
        case OpenSession() | UseSession() | ChangeAlerts():
            return None
    assert_never(remedy)


def _of_budget(remedy: AboutBudget) -> Action | None:
    match remedy:
        case RaiseLimit(gpu_ms):
            typed = seconds(gpu_ms)
            allow = f"max_gpu_seconds={typed}"
            return Button(label=f"Allow {typed} GPU-seconds", name="alternative", value=allow)
        case RaiseAllowance(key_id):
            return Link(label="Keys", href=url_for("pages.account", _anchor=key_id))
        case (
            AskForLess()
            | TakeAlternative()
            | SeeAlternatives()
            | WaitForMonth()
            | WaitForHolders()
            | ChangePlan()
            | ChangeMonthAlerts()
        ):
            return None
    assert_never(remedy)


def _change(verb: str, session_id: str, label: str) -> Button:
    """Return what sends the form for changes of sessions, which every page has."""
    return Button(label=label, form="session-change", name=verb, value=session_id)


def _gives(budget: Budget | None, session_id: str, gpu_ms: int) -> bool:
    """Tell whether this page can give a session so much."""
    if budget is None or budget.session.id != session_id or not budget.may_top_up:
        return False
    return gpu_ms <= (budget.most_top_up_gpu_ms or gpu_ms)


def _of_job(remedy: AboutJob) -> Action:
    match remedy:
        case Resume(job_id):
            return _act(job_id, "resume", "Let it go on")
        case Pause(job_id):
            return _act(job_id, "pause", "Pause it")
        case FinishEarly(job_id, frames):
            several = f"{frames} finished frame{'s' if frames != 1 else ''}"
            return _act(job_id, "finish", f"Make the video of its {several}")
        case Cancel(job_id):
            return _act(job_id, "cancel", "Cancel it")
        case Rerun(job_id):
            return Link(label="Make it again", href=url_for("pages.home", like=job_id))
        case Watch(job_id):
            return Link(label="Follow it", href=url_for("pages.job", job_id=job_id))
        case EndAJob():
            return Link(label="Your videos", href=url_for("pages.home"))
    assert_never(remedy)


def _act(job_id: str, verb: str, label: str) -> Button:
    return Button(label=label, action=url_for("pages.act", job_id=job_id, verb=verb))


def _of_farm(remedy: AboutFarm) -> Action | None:
    match remedy:
        case UseKey():
            return Link(label="Sign in", href=url_for("pages.door"))
        case LookAt(Listing.JOBS):
            return Link(label="Your videos", href=url_for("pages.home"))
        case LookAt(Listing.FILES | Listing.CHARACTERS):
            return Link(label="Your pictures", href=url_for("pages.kept"))
        case (
            LookAt()
            | LiftFreeze()
            | StartWorker()
            | CreateKey()
            | GetLink()
            | AddPerson()
            | RegisterWebhook()
            | EnableWebhook()
            | FreeRoom()
            | Say()
        ):
            return None
    assert_never(remedy)
