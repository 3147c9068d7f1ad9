"""Remedies against a refusal or a wait, typed, so that each interface has its own words for them.

A remedy is a sentence that is true anywhere, and the data that acting on it takes. The command
line makes a command of it, a page a button or a link, the API a call: `orchestrator.cli.remedies`,
`web.pages.remedies`, `web.api.remedies`. None of their words are here.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, ClassVar, Final, TypeAlias, get_args


class Listing(StrEnum):
    """Something to look at before one goes on."""

    JOBS = "jobs"
    SESSIONS = "sessions"
    ACCOUNTS = "accounts"
    PLANS = "plans"
    PEOPLE = "people"
    KEYS = "keys"
    LINKS = "links"
    """Share links."""
    FILES = "files"
    CHARACTERS = "characters"
    WEBHOOKS = "webhooks"
    DELIVERIES = "deliveries"
    MODELS = "models"
    WORKERS = "workers"
    CHECKS = "checks"
    """Faults that the farm finds with itself."""
    LOGS = "logs"
    """Words of the farm's processes."""


# --- of a budget --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TopUp:
    """Give a session more."""

    session_id: str
    session: str
    """Its name."""
    gpu_ms: int | None = None
    """Amount that is enough; None: any helps."""
    goes_on: bool = False
    """True for the rest of a paused job, which then goes on by itself."""

    @property
    def text(self) -> str:
        """Return it as a sentence."""
        by = "" if self.gpu_ms is None else f" by {seconds(self.gpu_ms)} GPU-seconds"
        rest = "; that likely is enough, and the job goes on by itself" if self.goes_on else ""
        return f"Top up session {self.session!r}{by}{rest}."


@dataclass(frozen=True, slots=True)
class RaiseLimit:
    """Let a job use more than its own limit."""

    gpu_ms: int

    @property
    def text(self) -> str:
        """Return it as a sentence."""
        return f"Allow the job at least {seconds(self.gpu_ms)} GPU-seconds."


@dataclass(frozen=True, slots=True)
class AskForLess:
    """Ask for a smaller video."""

    text: ClassVar[str] = "Ask for less: a shorter or smaller video, or fewer steps."


@dataclass(frozen=True, slots=True)
class TakeAlternative:
    """Take one of the variants that the refusal names."""

    text: ClassVar[str] = "Take one of the variants that would fit."


@dataclass(frozen=True, slots=True)
class SeeAlternatives:
    """Have a quote name the variants that would fit, which the refusal was not asked for."""

    text: ClassVar[str] = "Ask for a quote of the same: it names the variants that would fit."


@dataclass(frozen=True, slots=True)
class OpenSession:
    """Open a session."""

    text: ClassVar[str] = "Open another session."


@dataclass(frozen=True, slots=True)
class Reopen:
    """Let a closed session take jobs again."""

    session_id: str
    session: str
    """Its name."""

    @property
    def text(self) -> str:
        """Return it as a sentence."""
        return f"Reopen session {self.session!r}."


@dataclass(frozen=True, slots=True)
class MoveDefault:
    """Make an open session the one of requests that name none."""

    session_id: str
    session: str
    """Its name."""

    @property
    def text(self) -> str:
        """Return it as a sentence."""
        return f"Make session {self.session!r} the account's default."


@dataclass(frozen=True, slots=True)
class UseSession:
    """Spend from the session that a key is bound to."""

    session_id: str
    session: str
    """Its name."""

    @property
    def text(self) -> str:
        """Return it as a sentence."""
        return f"Name session {self.session!r}, or none; or come with another key."


@dataclass(frozen=True, slots=True)
class RaiseAllowance:
    """Let a key's jobs cost more together."""

    key_id: str
    gpu_ms: int
    """The allowance that is enough."""
    goes_on: bool = False
    """True for the rest of a paused job, which then goes on by itself."""

    @property
    def text(self) -> str:
        """Return it as a sentence."""
        rest = "; that likely is enough, and the job goes on by itself" if self.goes_on else ""
        enough = seconds(self.gpu_ms)
        return f"Raise the allowance of key {self.key_id} to {enough} GPU-seconds{rest}."


@dataclass(frozen=True, slots=True)
class WaitForMonth:
    """Wait until the account has a new month."""

    from_date: str
    """As 2026-12-01."""

    @property
    def text(self) -> str:
        """Return it as a sentence."""
        return f"Wait for the next month, which begins on {self.from_date}."


@dataclass(frozen=True, slots=True)
class WaitForHolders:
    """Wait for the jobs that hold the budget."""

    text: ClassVar[str] = "Wait: the jobs that hold it give back what they do not use."


@dataclass(frozen=True, slots=True)
class ChangePlan:
    """Give an account another plan: the operator's to do."""

    account_id: str
    text: ClassVar[str] = "Have the operator give the account another plan."


@dataclass(frozen=True, slots=True)
class ChangeAlerts:
    """Give a session other alerts."""

    session_id: str
    session: str

    @property
    def text(self) -> str:
        """Return it as a sentence."""
        return f"Change the alerts of session {self.session!r}."


@dataclass(frozen=True, slots=True)
class ChangeMonthAlerts:
    """Give an account's month other alerts: the operator's to do."""

    account_id: str
    text: ClassVar[str] = "Have the operator change the alerts of the account's month."


# --- of a job -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Resume:
    """Let a paused job go on."""

    job_id: str
    text: ClassVar[str] = "Let it go on."


@dataclass(frozen=True, slots=True)
class Pause:
    """Pause a job."""

    job_id: str
    text: ClassVar[str] = "Pause it first."


@dataclass(frozen=True, slots=True)
class FinishEarly:
    """End a paused job with the frames it has."""

    job_id: str
    frames: int

    @property
    def text(self) -> str:
        """Return it as a sentence."""
        several = f"{self.frames} finished frames"
        return f"Make the video of its {'finished frame' if self.frames == 1 else several}."


@dataclass(frozen=True, slots=True)
class Cancel:
    """Cancel a job."""

    job_id: str
    text: ClassVar[str] = "Cancel it."


@dataclass(frozen=True, slots=True)
class Rerun:
    """Ask for a job's video again."""

    job_id: str
    text: ClassVar[str] = "Make the video again; it costs anew."


@dataclass(frozen=True, slots=True)
class Watch:
    """Follow a job, which goes on by itself."""

    job_id: str
    text: ClassVar[str] = "It goes on by itself."


@dataclass(frozen=True, slots=True)
class EndAJob:
    """Make room among the open jobs."""

    text: ClassVar[str] = "Wait for one of your jobs to end, or cancel one."


# --- of the farm --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LiftFreeze:
    """Let spending go on: the operator's to do."""

    text: ClassVar[str] = "It goes on by itself when the operator lifts that."


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Start a worker: the operator's to do."""

    text: ClassVar[str] = "It goes on by itself when the operator starts such a worker."


@dataclass(frozen=True, slots=True)
class UseKey:
    """Come with a key."""

    text: ClassVar[str] = "Come with a valid key."


@dataclass(frozen=True, slots=True)
class CreateKey:
    """Make a key."""

    kind: str
    device_class: str = ""
    """Of the worker that is to enrol by it."""

    @property
    def text(self) -> str:
        """Return it as a sentence."""
        which = f" for devices of class {self.device_class}" if self.device_class else ""
        return f"Make a new {self.kind} key{which}."


@dataclass(frozen=True, slots=True)
class GetLink:
    """Come by a new sign-in link."""

    text: ClassVar[str] = "Ask the operator for a new sign-in link."


@dataclass(frozen=True, slots=True)
class AddPerson:
    """Let somebody sign in by the provider: the operator's to do."""

    name: str

    @property
    def text(self) -> str:
        """Return it as a sentence."""
        return f"Ask the operator to let {self.name} sign in by the provider."


@dataclass(frozen=True, slots=True)
class RegisterWebhook:
    """Register a webhook for all jobs."""

    text: ClassVar[str] = "Register one webhook for all jobs: every message names its job."


@dataclass(frozen=True, slots=True)
class EnableWebhook:
    """Send to a webhook again."""

    webhook_id: str
    text: ClassVar[str] = "Enable the webhook."


@dataclass(frozen=True, slots=True)
class FreeRoom:
    """Make room on the farm's disk."""

    text: ClassVar[str] = (
        "Delete videos that nobody needs, or have the operator give the farm a larger disk; "
        "then send it again. Nothing is charged."
    )


@dataclass(frozen=True, slots=True)
class LookAt:
    """Look at something, then go on."""

    what: Listing
    text: str
    id: str = ""
    """Id of the one thing it is about, if there is one."""


@dataclass(frozen=True, slots=True)
class Say:
    """Advice in plain words: there is nothing to press for it."""

    text: str


AboutSession: TypeAlias = TopUp | OpenSession | Reopen | MoveDefault | UseSession | ChangeAlerts
AboutBudget: TypeAlias = (
    RaiseLimit
    | RaiseAllowance
    | AskForLess
    | TakeAlternative
    | SeeAlternatives
    | WaitForMonth
    | WaitForHolders
    | ChangePlan
    | ChangeMonthAlerts
)
AboutJob: TypeAlias = Resume | Pause | FinishEarly | Cancel | Rerun | Watch | EndAJob
AboutFarm: TypeAlias = (
    LiftFreeze
    | StartWorker
    | UseKey
    | CreateKey
    | GetLink
    | AddPerson
    | RegisterWebhook
    | EnableWebhook
    | FreeRoom
    | LookAt
    | Say
)
Remedy: TypeAlias = AboutSession | AboutBudget | AboutJob | AboutFarm


def code_of(kind: type) -> str:
    """Return the code of a kind of remedy, as `top_up`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=A)(?=J)", "_", kind.__name__).lower()


KINDS: Final[Mapping[str, type[Any]]] = {code_of(kind): kind for kind in get_args(Remedy)}
"""Every kind of remedy, by its code."""


def seconds(gpu_ms: int) -> str:
    """Return GPU-ms as the seconds somebody would type, `1.5`."""
    return f"{gpu_ms / 1000:.3f}".rstrip("0").rstrip(".")


def data_of(remedy: Remedy) -> dict[str, Any]:
    """Return what acting on a remedy takes; its text is no part of it."""
    facts = asdict(remedy)
    facts.pop("text", None)
    return facts


def to_json(remedy: Remedy) -> dict[str, Any]:
    """Return a remedy as it is kept."""
    return {"code": code_of(type(remedy)), "text": remedy.text, "data": data_of(remedy)}


def shown(remedy: Remedy) -> dict[str, Any]:
    """Return a remedy as programs read it: like `to_json`, in GPU-seconds."""
    told = to_json(remedy)
    amount = told["data"].pop("gpu_ms", None)
    if amount is not None:
        told["data"]["gpu_seconds"] = amount / 1000
    return told


def from_json(told: Mapping[str, Any]) -> Remedy:
    """Return a remedy that was kept or came over the wire; one that is unknown here is said."""
    from pydantic import TypeAdapter, ValidationError

    text, data = str(told.get("text", "")), told.get("data")
    kind = KINDS.get(str(told.get("code")))
    if kind is not None and isinstance(data, dict):
        with suppress(ValidationError):  # of a newer farm, or of none
            read: Remedy = TypeAdapter(kind).validate_python({**data, "text": text})
            return read
    return Say(text)


def best_first(told: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return remedies as every interface for programs has them: `next`, and `also` if any."""
    best, *others = told
    return {"next": best, **({"also": others} if others else {})}
