"""From a brief to its price, and to what would fit where it does not."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from heapq import merge
from operator import itemgetter
from typing import Final

from orchestrator.catalog import ModelCard
from orchestrator.errors import BadRequest, BudgetExceeded, PlanLimit
from orchestrator.farm.books.costs import cost_model
from orchestrator.farm.kernel import Farm
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.model import Allowance, Brief, Handling, Month, Quote, RenderPlan, Session
from orchestrator.money import ledger, pricing
from orchestrator.money.plans import Plan
from orchestrator.planning import planner, variants
from orchestrator.planning.variants import Change
from orchestrator.prompting import parser
from orchestrator.remedies import Say
from orchestrator.states import Pricing

PLAIN: Final = Handling()
"""A request that says nothing beside its brief."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """A cheaper variant of a job that fits what is left."""

    label: str
    brief: Brief
    quote: Quote
    session_id: str
    """The payer."""
    handling: Handling


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A brief, planned and priced."""

    brief: Brief
    card: ModelCard
    costs: pricing.CostModel
    render_plan: RenderPlan
    quote: Quote
    account_plan: Plan | None = None
    """The account's plan, which variants keep to."""
    handling: Handling = PLAIN
    fitted: str | None = None
    """Words for what gave so that it fits; None: it is what was asked."""

    @property
    def price(self) -> Pricing:
        """Kind of price it is submitted at; that of most plans where the account has none."""
        return self.account_plan.price if self.account_plan else Pricing.CEILING


def make_plan(farm: Farm, brief: Brief, card: ModelCard, *, seed: int | None) -> RenderPlan:
    """Parse and plan a brief; the seed is the brief's, else the prompt's, else the one given."""
    parser.check(brief.negative_prompt, "What to leave out", farm.terms.max_prompt_chars)
    screenplay = parser.of_brief(brief, card.vocabulary, farm.terms.max_prompt_chars)
    chosen = next((s for s in (brief.seed, screenplay.seed, seed) if s is not None), 0)
    plan = planner.plan(brief, screenplay, card, seed=chosen)
    _check_size(farm, plan)
    return plan


def _check_size(farm: Farm, plan: RenderPlan) -> None:
    """Refuse a job that would keep a device for longer than the operator wants of any one."""
    pixels = plan.native.width * plan.native.height
    work = plan.frames_total * pixels * plan.steps / 1_000_000
    most = farm.terms.max_job_megapixel_steps
    if work > most:
        raise BadRequest(
            f"{plan.frames_total} frames of {plan.native} at {plan.steps} steps are "
            f"{math.ceil(work)} million pixel-steps; a job of this farm has at most {most}.",
            Say("Ask for fewer seconds, a smaller picture or fewer steps."),
        )


def offer(
    farm: Farm,
    tx: Transaction,
    brief: Brief,
    *,
    seed: int | None,
    account_plan: Plan | None,
    handling: Handling = PLAIN,
) -> Offer:
    """Plan and price a brief.

    Raises:
        BadRequest: it cannot be met.
    """
    card = farm.catalog.card(brief.model)
    costs = cost_model(farm, tx, card)
    plan = make_plan(farm, brief, card, seed=seed)
    quote = pricing.quote(plan, costs)
    return Offer(
        brief=brief,
        card=card,
        costs=costs,
        render_plan=plan,
        quote=quote,
        account_plan=account_plan,
        handling=handling,
    )


def held(asked: Offer) -> int:
    """Return what a job holds from the start; at most its own cap."""
    try:
        return ledger.hold_for(asked.quote, asked.brief, asked.price)
    except BudgetExceeded:  # it is refused for its cap
        most = asked.quote.metered_gpu_ms
        return min(most, asked.brief.max_gpu_ms or most)


def fits(asked: Offer, room_gpu_ms: int) -> bool:
    """Tell whether a job may be submitted with so much available in its session."""
    try:
        amount = ledger.hold_for(asked.quote, asked.brief, asked.price)
    except BudgetExceeded:
        return False
    return amount <= room_gpu_ms


def needs(asked: Offer) -> int:
    """Return what a variant needs available: its ceiling, or where it is metered its p90."""
    quote = asked.quote
    return quote.ceiling_gpu_ms if asked.price is Pricing.CEILING else quote.metered_gpu_ms


def available(session: Session, month: Month, allowance: Allowance | None) -> int:
    """Return what a new job of the session could hold.

    Within its account's month and the allowance of the key that asks, too.
    """
    rooms = [session.available_gpu_ms, month.available_gpu_ms]
    rooms += [allowance.available_gpu_ms] if allowance else []
    return min(room for room in rooms if room is not None)


def room_for(available_gpu_ms: int, brief: Brief) -> int:
    """Return what a job may hold at most: what is available, within its own cap."""
    cap = brief.max_gpu_ms
    return available_gpu_ms if cap is None else min(available_gpu_ms, cap)


def alternatives(
    farm: Farm, tx: Transaction, asked: Offer, session: Session, room_gpu_ms: int
) -> tuple[Alternative, ...]:
    """Return the variants that the plan allows and whose p90 fits, best quality first."""
    return tuple(
        Alternative(
            label=found.fitted or "",
            brief=found.brief,
            quote=found.quote,
            session_id=session.id,
            handling=asked.handling,
        )
        for found in _cheaper(farm, tx, asked)
        if needs(found) <= room_gpu_ms
    )


def fitted(farm: Farm, tx: Transaction, asked: Offer, room_gpu_ms: int) -> Offer:
    """Return the best variant that fits, or what was asked where it fits or nothing does."""
    if fits(asked, room_gpu_ms) and _allowed(asked):
        return asked
    found = _cheaper(farm, tx, asked)
    return next((each for each in found if needs(each) <= room_gpu_ms), asked)


def _cheaper(farm: Farm, tx: Transaction, asked: Offer) -> Iterator[Offer]:
    """Yield variants that the account's plan allows, best quality first, each for less.

    Each says what it gives up. Where the plan does not allow what was asked, what it does allow
    of it comes first, whatever that costs.
    """
    allowed = _allowed(asked)
    least = asked.quote if allowed else None
    for _, found in merge(_own(farm, asked), _others(farm, tx, asked), key=itemgetter(0)):
        if not _allowed(found) or not (least is None or _saves(found.quote, least)):
            continue
        least = found.quote if found.card.id == asked.card.id else least
        words = variants.label(asked.render_plan, found.render_plan, found.quote.profile)
        yield replace(found, fitted=words)


def _own(farm: Farm, asked: Offer) -> Iterator[tuple[Change, Offer]]:
    """Yield variants on the same model: each change alone, then beside what gave before."""
    whole = variants.written_out(asked.brief, asked.render_plan)
    if asked.account_plan and not _allowed(asked):
        whole = variants.within(whole, asked.account_plan)
        try:
            asked = _again(farm, asked, whole)
        except BadRequest:
            return  # the plan allows no such video at all
        yield Change.STEPS, asked
    gave, least = whole, asked.quote
    for give in variants.gives(asked.render_plan, asked.card):
        both = give.of(gave)
        for brief in dict.fromkeys((give.of(whole), both)):
            found = _again(farm, asked, brief)
            yield give.change, found
        if _saves(found.quote, least):
            gave, least = both, found.quote


def _saves(quote: Quote, than: Quote) -> bool:
    """Tell whether a quote is worth giving something up for: likely, and at most."""
    most = 1 - variants.LEAST_SAVING
    return quote.p50_gpu_ms <= than.p50_gpu_ms * most and quote.p90_gpu_ms <= than.p90_gpu_ms * most


def _others(farm: Farm, tx: Transaction, asked: Offer) -> Iterator[tuple[Change, Offer]]:
    """Yield the same wish to other models, where it can be met for less."""
    for brief in variants.other_models(asked.brief, asked.card, farm.catalog.cards.values()):
        try:
            found = offer(
                farm, tx, brief, seed=asked.render_plan.seed, account_plan=asked.account_plan
            )
        except BadRequest:
            continue  # that model cannot do it
        if found.quote.price_microusd < asked.quote.price_microusd:
            yield Change.MODEL, found


def _allowed(asked: Offer) -> bool:
    """Tell whether the account's plan allows such a video; how many at once is not its matter."""
    try:
        if asked.account_plan:
            asked.account_plan.check(asked.render_plan, open_jobs=0)
    except PlanLimit:
        return False
    return True


def _again(farm: Farm, asked: Offer, brief: Brief) -> Offer:
    """Plan and price a variant on the same model, with the same costs."""
    plan = make_plan(farm, brief, asked.card, seed=asked.render_plan.seed)
    quote = pricing.quote(plan, asked.costs)
    return replace(asked, brief=brief, render_plan=plan, quote=quote)
