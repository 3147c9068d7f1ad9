"""The operator's books: what device time cost, what it brought in, and what stood idle.

Device time, charges and prices are sums over the ledger; presence comes from the workers'
shifts. Time that nobody was charged for is in the cost of whoever's job it was; time in which
nothing ran is a row of its own. In every row margin is revenue less cost, and the total is the
sum of the rows. What is past stays as it was: an account counts under the plan it had then.
"""

from calendar import monthrange
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Final

from orchestrator.farm.books import cap_hits, plan_history, shifts
from orchestrator.farm.kernel import Farm
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.model import Account, Json, PlanPeriod
from orchestrator.money.rates import RateCard
from orchestrator.states import EntryKind

BY: Final = ("plan", "user", "model", "month")
UNUSED: Final = "(unused)"
"""The model of a time in which a plan was paid for and nothing ran."""
IDLE: Final = "(idle)"
"""The row of the time in which workers were there and nothing ran: nobody's, and paid for."""
NO_PLAN: Final = "(none)"
"""The plan of who had none."""


@dataclass(slots=True)
class Sums:
    """Sums of one row."""

    users: set[str] = field(default_factory=set)
    units: int = 0
    """Of those that were charged, as `farm usage` counts them."""
    gpu_ms: int = 0
    """Charged."""
    lost_gpu_ms: int = 0
    """Measured, and charged to nobody."""
    cost_microusd: int = 0
    """Of both."""
    revenue_microusd: int = 0
    """Revenue of the plans, and of accounts without a priced one what they were charged."""
    rate_card_microusd: int = 0
    """Charges by the GPU-second, whether or not a plan covers it."""
    cap_hits: int = 0

    def add(self, other: "Sums") -> None:
        """Take another row in."""
        self.users |= other.users
        for name in [each.name for each in fields(self) if each.name != "users"]:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def shown(self) -> Json:
        """Return the row with what follows from its sums."""
        users = len(self.users)
        return {
            "users": users,
            "units": self.units,
            "gpu_ms": self.gpu_ms,
            "lost_gpu_ms": self.lost_gpu_ms,
            "revenue_microusd": self.revenue_microusd,
            "rate_card_microusd": self.rate_card_microusd,
            "cost_microusd": self.cost_microusd,
            "margin_microusd": self.revenue_microusd - self.cost_microusd,
            "cost_per_user_microusd": self.cost_microusd // users if users else None,
            "cap_hits": self.cap_hits,
        }


@dataclass(slots=True)
class Fleet:
    """The time of all devices of one class."""

    present_ms: int = 0
    busy_ms: int = 0
    busy_cost_microusd: int = 0
    lost_gpu_ms: int = 0
    """Of the busy time."""
    lost_cost_microusd: int = 0
    idle_ms: int = 0
    idle_cost_microusd: int = 0


@dataclass(slots=True)
class Held:
    """Time of a model on a device class, and the part of it beyond quotes."""

    gpu_ms: int = 0
    """Charged."""
    over_quote_gpu_ms: int = 0
    """Beyond what jobs held: the farm's loss."""
    over_quote_cost_microusd: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A time within one month under one rate card."""

    from_ms: int
    until_ms: int
    month: str
    month_ms: int
    """Length of the whole month."""
    card: RateCard


def economics(farm: Farm, by: str, since_ms: int) -> Json:
    """Return {rows, total, devices, quotes} since a moment, by plan, user, model or month."""
    assert by in BY
    rows: defaultdict[str, Sums] = defaultdict(Sums)
    fleet: defaultdict[str, Fleet] = defaultdict(Fleet)
    quotes: defaultdict[tuple[str, str], Held] = defaultdict(Held)
    with farm.store.read() as tx:
        accounts = tx.find(Account)
        since_ms = max(since_ms, min((a.created_at_ms for a in accounts), default=0))
        until_ms = farm.clock() + 1
        held = [each for each in plan_history.spells(tx, until_ms) if each[0].price_microusd]
        for span in spans(farm, since_ms, until_ms):
            used = tuple(_used(tx, span, fleet, quotes))
            for place, sums in (*used, *_paid(held, span, used), *_hit(tx, span)):
                rows[place[by]].add(sums)
            _stood(tx, span, fleet)
    keys = _ordered(rows, by)
    if idle := sum(devices.idle_cost_microusd for devices in fleet.values()):
        keys.append(IDLE)
        rows[IDLE] = Sums(cost_microusd=idle)
    total = Sums()
    for sums in rows.values():
        total.add(sums)
    return {
        "by": by,
        "since_ms": since_ms,
        "cap_hits_since_ms": since_ms // cap_hits.DAY_MS * cap_hits.DAY_MS,
        "rows": [{"key": key, **rows[key].shown()} for key in keys],
        "total": total.shown() | {"idle_cost_microusd": idle},
        "devices": [
            {"device_class": name}
            | {each.name: getattr(fleet[name], each.name) for each in fields(Fleet)}
            for name in sorted(fleet)
        ],
        "quotes": [
            {"model": model, "device_class": device_class}
            | {each.name: getattr(quotes[model, device_class], each.name) for each in fields(Held)}
            for model, device_class in sorted(quotes)
        ],
    }


def spans(farm: Farm, from_ms: int, until_ms: int) -> Iterator[Span]:
    """Cut a time at the beginnings of months and of rate cards."""
    begins = [card.from_ms for card in farm.rates.cards]
    while from_ms < until_ms:
        day = datetime.fromtimestamp(from_ms / 1000, UTC)
        first = day.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        month_ms = monthrange(day.year, day.month)[1] * cap_hits.DAY_MS
        ends = [round(first.timestamp() * 1000) + month_ms, until_ms, *begins]
        end = min(moment for moment in ends if moment > from_ms)
        yield Span(
            from_ms=from_ms,
            until_ms=end,
            month=f"{day:%Y-%m}",
            month_ms=month_ms,
            card=farm.rates.at(from_ms),
        )
        from_ms = end


def _used(
    tx: Transaction,
    span: Span,
    fleet: defaultdict[str, Fleet],
    quotes: defaultdict[tuple[str, str], Held],
) -> Iterator[tuple[dict[str, str], Sums]]:
    """Yield what the ledger says of device time, and note how long each class was busy."""
    for row in tx.books.movements(span.from_ms, span.until_ms):
        kind, gpu_ms, device = row["kind"], row["gpu_ms"], row["device_class"]
        price = row["price_microusd"]
        sums = Sums(users={row["account_id"]}, rate_card_microusd=price)
        if not row["monthly"]:
            sums.revenue_microusd = price
        if kind is EntryKind.REFUND:  # its time was counted when it was settled
            sums.gpu_ms, sums.lost_gpu_ms = -gpu_ms, gpu_ms
        else:
            sums.cost_microusd = span.card.cost_microusd(gpu_ms, device)
            fleet[device].busy_ms += gpu_ms
            fleet[device].busy_cost_microusd += sums.cost_microusd
        if kind is EntryKind.SETTLE:
            sums.gpu_ms, sums.units = gpu_ms, row["entries"]
        elif kind is EntryKind.LOSS:
            sums.lost_gpu_ms = gpu_ms
        quoted = quotes[row["model"], device]
        quoted.gpu_ms += sums.gpu_ms
        if row["over_quote"]:
            quoted.over_quote_gpu_ms += gpu_ms
            quoted.over_quote_cost_microusd += sums.cost_microusd
        fleet[device].lost_gpu_ms += sums.lost_gpu_ms
        fleet[device].lost_cost_microusd += span.card.cost_microusd(sums.lost_gpu_ms, device)
        yield _place(row, span), sums


def _paid(
    held: Sequence[tuple[PlanPeriod, int]], span: Span, used: Sequence[tuple[dict[str, str], Sums]]
) -> Iterator[tuple[dict[str, str], Sums]]:
    """Yield what each account's plan brings in this time, shared out over the models it used."""
    work: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for place, sums in used:
        work[place["user"], place["plan"]][place["model"]] += sums.gpu_ms + sums.lost_gpu_ms
    for period, until_ms in held:
        there_ms = max(0, min(span.until_ms, until_ms) - max(span.from_ms, period.from_ms))
        left = (period.price_microusd or 0) * there_ms // span.month_ms
        if not left:
            continue
        models = +work[period.account_id, period.plan] or Counter({UNUSED: 1})
        whole = models.total()
        for model, gpu_ms in sorted(models.items()):
            part = left * gpu_ms // whole
            left, whole = left - part, whole - gpu_ms  # the last one takes what rounding left
            row = {"plan": period.plan, "account_id": period.account_id, "model": model}
            yield _place(row, span), Sums(users={period.account_id}, revenue_microusd=part)


def _hit(tx: Transaction, span: Span) -> Iterator[tuple[dict[str, str], Sums]]:
    first_day = span.from_ms // cap_hits.DAY_MS * cap_hits.DAY_MS
    for row in tx.books.cap_hits(first_day, span.until_ms):
        yield _place(row, span), Sums(users={row["account_id"]}, cap_hits=row["hits"])


def _stood(tx: Transaction, span: Span, fleet: defaultdict[str, Fleet]) -> None:
    """Add the time in which workers were there, and what of it nothing ran."""
    for name, present in shifts.present_ms(tx, span.from_ms, span.until_ms).items():
        devices = fleet[name]
        devices.present_ms += present
        idle = max(0, devices.present_ms - devices.busy_ms)
        cost = span.card.cost_microusd(max(0, idle - devices.idle_ms), name)
        devices.idle_cost_microusd += cost
        devices.idle_ms = idle


def _place(row: Json, span: Span) -> dict[str, str]:
    return {
        "plan": row["plan"] or NO_PLAN,
        "user": row["account_id"],
        "model": row["model"],
        "month": span.month,
    }


def _ordered(rows: dict[str, Sums], by: str) -> list[str]:
    """Return the keys: months in order, else the dearest first."""
    if by == "month":
        return sorted(rows)
    return sorted(rows, key=lambda key: (-rows[key].cost_microusd, key))
