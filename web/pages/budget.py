"""Budget left to a session under its account's month, and amounts as people type them. Pure."""

import re
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Final

from orchestrator.errors import BadRequest
from orchestrator.farm.jobs import quoting
from orchestrator.model import Month, Session
from orchestrator.money import ledger
from orchestrator.money.plans import Plan
from orchestrator.remedies import Say
from web.api.bodies import gpu_ms
from web.pages.views import Bar, budget_bar

AMOUNT: Final = re.compile(r"[0-9]{1,10}(\.[0-9]{1,3}|,[0-9]{1,2})?")
"""`1,000` may be one second or a thousand: it is not taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A session that pays, under its account's month."""

    session: Session
    month: Month
    plan: Plan | None
    """The account's plan; None: it has none, and nothing may run."""
    is_prepaid: bool = False
    """The plan has a price a month, so what its videos use is included."""

    @property
    def available_gpu_ms(self) -> int:
        """Return what a new job could hold: the less of the two."""
        return quoting.available(self.session, self.month, None)

    @property
    def month_name(self) -> str:
        """The month as people say it, `November 2026`."""
        return f"{date.fromisoformat(self.month.id.rpartition('.')[2] + '-01'):%B %Y}"

    @property
    def month_binds(self) -> bool:
        """Tell whether the month has less left than the session: a top-up brings nothing."""
        return self.available_gpu_ms < self.session.available_gpu_ms

    def room_of(self, session: Session) -> int:
        """Return what a new job could hold of another session of the account."""
        return quoting.available(session, self.month, None)

    @property
    def limited_by(self) -> str:
        """Which of the two that is, in words."""
        if self.month_binds:
            return f"{self.month_name}, {self.plan_name}"
        return f"session {self.session.name}"

    @property
    def plan_name(self) -> str:
        """The plan's name, as pages say it."""
        return f"plan {self.plan.name}" if self.plan else "no plan"

    @property
    def binding(self) -> Session | Month:
        """The one with less left."""
        return self.month if self.month_binds and self.month.limit_gpu_ms else self.session

    @property
    def most_top_up_gpu_ms(self) -> int | None:
        """Return the most that the plan lets a top-up give; None: as much as one likes."""
        most = self.plan.most_session_gpu_ms if self.plan else 0
        aim = self.session.limit_gpu_ms - ledger.pending_gpu_ms(self.session)
        return None if most is None else max(0, most - aim)

    @property
    def may_top_up(self) -> bool:
        """Tell whether a top-up of the session would let a job hold more."""
        return not self.why_no_top_up

    @property
    def why_no_top_up(self) -> str:
        """Return what stands against a top-up, and the way out; empty: nothing does."""
        if self.plan is None:
            return "Without a plan nothing may run: ask the operator for one."
        if self.month_binds:
            return (
                "A top-up would bring nothing this month: ask the operator for another plan, "
                "or wait for the next month."
            )
        if self.most_top_up_gpu_ms == 0:
            return (
                f"This is all that {self.plan_name} allows a session: ask the operator for another."
            )
        return ""

    def bar(self, asked_gpu_ms: int = 0) -> Bar:
        """Return how the one with less left is divided."""
        return budget_bar(self.binding, asked_gpu_ms)


def amount(text: str) -> int:
    """Return what was typed as GPU-ms.

    Raises:
        BadRequest: it is no number of seconds with three places at most.
    """
    if not AMOUNT.fullmatch(text.strip()):
        raise BadRequest(
            "The amount must be GPU-seconds, such as 60 or 4.5.",
            Say("Write a number without a thousands separator, with three decimal places at most."),
        )
    return gpu_ms(Decimal(text.strip().replace(",", ".")))
