"""The plans an account can have: what a month may cost, and what one job may ask for.

They come from a TOML file (`FARM_PLANS`, else the one shipped beside this module). An account
names one of them. What is planned of a video is a render plan.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.errors import BadRequest, PlanLimit
from orchestrator.model import Alert, RenderPlan, Watermark
from orchestrator.remedies import ChangePlan, EndAJob, Listing, LookAt, Say
from orchestrator.states import AlertAction, Pricing

SHIPPED: Final = Path(__file__).with_name("plans.toml")
ANY: Final = "*"
MOST_FLOORS: Final = 0.9
"""Of all plans together; the rest goes by weight, and to what has waited too long."""

DAY_MS: Final = 86_400_000
OPEN_JOBS: Final = "open_jobs"
"""The limit that asking for less does not help with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One plan; a limit of None is none."""

    name: str
    month_gpu_ms: int | None
    session_gpu_ms: int
    """Budget of a session that names none."""
    most_session_gpu_ms: int | None
    open_jobs: int | None
    pixels: int | None
    """Of a frame as it is rendered."""
    seconds: float | None
    steps: int | None
    models: tuple[str, ...]
    weight: int
    """Share of the farm against other accounts."""
    storage_bytes: int | None
    """Room for files and characters together."""
    file_days: int | None
    """Days after which a file or character expires, at the latest."""
    watermark: str
    """Words in the corner of its videos; empty: none."""
    floor: float
    """Part of each device's time that its sessions have together while they want it."""
    alerts: tuple[Alert, ...]
    """Of its accounts' months, and of sessions that have none of their own; ascending."""
    price: Pricing
    """Kind of price its jobs have: their quote's ceiling at most, or what was measured."""
    price_month_microusd: int | None
    """Price a month, used or not; None: its GPU-seconds are paid by the rate card."""
    keep_ms: int | None = None
    """Time for which an ended job's files are kept; None: for ever."""

    @property
    def mark(self) -> Watermark | None:
        """The watermark and the plan it is by, as a job keeps them from its submission on."""
        return Watermark(text=self.watermark, plan=self.name) if self.watermark else None

    def check_session(self, limit_gpu_ms: int, *, account_id: str) -> None:
        """Refuse a session's budget that is larger than this plan allows.

        Raises:
            PlanLimit: it is.
        """
        most = self.most_session_gpu_ms
        if most is not None and limit_gpu_ms > most:
            raise PlanLimit(
                f"The plan {self.name} allows a session {most / 1000:g} GPU-seconds; this would "
                f"make it {limit_gpu_ms / 1000:g}.",
                Say("Give it less."),
                ChangePlan(account_id),
                limit="session_gpu_seconds",
                allowed=most / 1000,
                asked=limit_gpu_ms / 1000,
            )

    def check(self, plan: RenderPlan, *, open_jobs: int) -> None:
        """Refuse a video that this plan does not allow.

        Raises:
            PlanLimit: names the limit, what was asked, and what is allowed.
        """
        pixels = plan.output.width * plan.output.height
        asked = (
            ("frame", "megapixels", pixels / 1e6, self.pixels and self.pixels / 1e6),
            ("video", "seconds", plan.seconds, self.seconds),
            ("frame", "denoising steps", plan.steps, self.steps),
        )
        for of, unit, wanted, most in asked:
            if most is not None and wanted > most:
                raise PlanLimit(
                    f"The plan {self.name} allows {most:g} {unit} a {of}; this asks for "
                    f"{wanted:g}.",
                    limit=unit,
                    allowed=most,
                    asked=wanted,
                )
        if ANY not in self.models and plan.model not in self.models:
            raise PlanLimit(
                f"The plan {self.name} does not include the model {plan.model}.",
                Say(f"Take one of: {', '.join(self.models) or 'none'}."),
                limit="models",
                allowed=list(self.models),
                asked=plan.model,
            )
        if self.open_jobs is not None and open_jobs >= self.open_jobs:
            raise PlanLimit(
                f"The plan {self.name} allows {self.open_jobs} open jobs at once, and "
                f"{open_jobs} have not ended.",
                EndAJob(),
                limit=OPEN_JOBS,
                allowed=self.open_jobs,
                asked=open_jobs + 1,
            )


@dataclass(frozen=True, slots=True)
class Plans:
    """All plans of a file, by name."""

    plans: Mapping[str, Plan]

    def get(self, name: str) -> Plan | None:
        """Return a plan; None for an account without one, or with one the file has no more."""
        return self.plans.get(name)

    def named(self, name: str) -> Plan:
        """Return the plan of this name.

        Raises:
            BadRequest: there is none.
        """
        found = self.plans.get(name)
        if found is None:
            raise BadRequest(
                f"There is no plan {name[:60]!r}.",
                LookAt(Listing.PLANS, f"There are: {', '.join(self.plans)}."),
            )
        return found


def load(file: Path) -> Plans:
    """Read a file of plans.

    Raises:
        BadRequest: the file cannot be used; names the file and the fault.
    """
    try:
        written = _File.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _unusable(file, error) from None
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise _unusable(file, f"{where}: {fault['msg']}") from None
    floors = sum(each.floor for each in written.plan.values())
    if floors > MOST_FLOORS:
        raise _unusable(
            file, f"its plans' floors are {floors:g} together; {MOST_FLOORS:g} is the most"
        )
    return Plans({name: _plan(name, each) for name, each in written.plan.items()})


@cache
def shipped() -> Plans:
    """Return the plans that come with Framefarm."""
    return load(SHIPPED)


# --- inside -------------------------------------------------------------------------------

_Seconds = Annotated[int, Field(strict=True, ge=0, le=10**9)]


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid")

    month_gpu_seconds: _Seconds | None = None
    session_gpu_seconds: _Seconds
    most_session_gpu_seconds: _Seconds | None = None
    open_jobs: Annotated[int, Field(strict=True, ge=1)] | None = None
    megapixels: Annotated[float, Field(gt=0)] | None = None
    seconds: Annotated[float, Field(gt=0)] | None = None
    steps: Annotated[int, Field(strict=True, ge=1)] | None = None
    models: list[str]
    weight: Annotated[int, Field(strict=True, ge=1, le=10_000)] = 1
    storage_mb: Annotated[int, Field(strict=True, ge=0, le=10**9)] | None = None
    file_days: Annotated[int, Field(strict=True, ge=1, le=36_500)] | None = None
    watermark: Annotated[str, Field(pattern=r"^([!-~]([ -~]{0,22}[!-~])?)?$")] = ""
    floor: Annotated[float, Field(ge=0, le=MOST_FLOORS)] = 0.0
    alerts: dict[Annotated[int, Field(ge=1, le=100)], AlertAction] = Field(
        dict.fromkeys((50, 75, 90, 95, 100), AlertAction.NOTIFY), max_length=20
    )
    price: Pricing = Pricing.CEILING
    price_month_microusd: Annotated[int, Field(strict=True, ge=0, le=10**12)] | None = None
    keep_days: Annotated[int, Field(strict=True, ge=1, le=36_500)] | None = None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    plan: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")], _Written] = Field(
        min_length=1
    )


def _plan(name: str, written: _Written) -> Plan:
    return Plan(
        name=name,
        month_gpu_ms=_ms(written.month_gpu_seconds),
        session_gpu_ms=written.session_gpu_seconds * 1000,
        most_session_gpu_ms=_ms(written.most_session_gpu_seconds),
        open_jobs=written.open_jobs,
        pixels=None if written.megapixels is None else round(written.megapixels * 1e6),
        seconds=written.seconds,
        steps=written.steps,
        models=tuple(written.models),
        weight=written.weight,
        storage_bytes=None if written.storage_mb is None else written.storage_mb << 20,
        file_days=written.file_days,
        watermark=written.watermark,
        floor=written.floor,
        alerts=tuple(Alert(percent, action) for percent, action in sorted(written.alerts.items())),
        price=written.price,
        price_month_microusd=written.price_month_microusd,
        keep_ms=None if written.keep_days is None else written.keep_days * DAY_MS,
    )


def _ms(seconds: int | None) -> int | None:
    return None if seconds is None else seconds * 1000


def _unusable(file: Path, fault: object) -> BadRequest:
    return BadRequest(
        f"The file of plans {file} cannot be used: {fault}.",
        Say("Mend that line, or unset FARM_PLANS to take the shipped ones."),
    )
