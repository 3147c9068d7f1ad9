"""Upkeep that nobody asks for: lapsed leases, lost workers, bells to ring."""

from dataclasses import replace
from typing import Final

from orchestrator.farm import check
from orchestrator.farm.accounts import accounts, sign_ins
from orchestrator.farm.books import months
from orchestrator.farm.jobs import sharing
from orchestrator.farm.kernel import Farm, facts
from orchestrator.farm.leases import fleet
from orchestrator.farm.leases.results import give_back
from orchestrator.model import Lease, Worker
from orchestrator.scheduling import scheduler
from orchestrator.states import WorkerState

DAY_MS: Final = 86_400_000
IDEMPOTENCY_DAYS: Final = 7
FAULTS_SHOWN: Final = 5
"""Of a store's faults, those that are kept in words; the others are in the log."""
ACCOUNTS: Final = 50
"""Brought under changed plans at a time: the dispatcher has bells to ring and a lock to renew."""


def reconcile(farm: Farm) -> int:
    """Take back what lost workers hold and mark them; return how many leases lapsed.

    Safe to run at any time, by several processes at once.
    """
    now = farm.clock()
    with farm.store.read() as tx:
        lapsed = tx.turns.lapsed_leases(now - farm.terms.grace_ms)
        gone_before = now - round(farm.terms.worker_gone_seconds * 1000)
        silent = [
            worker
            for worker in tx.find(Worker, state=(WorkerState.ACTIVE, WorkerState.DRAINING))
            if worker.seen_at_ms < gone_before
        ]
    for lease in lapsed:
        with farm.store.write() as tx:
            tx.get(Worker, lease.worker_id, lock=True)  # whoever changes a lease locks its worker
            fresh = tx.get(Lease, lease.id)
            if fresh == lease:
                give_back(farm, tx, fresh, now, lapsed=True)
    for worker in silent:
        with farm.store.write() as tx:
            now_seen = tx.get(Worker, worker.id, lock=True)
            if now_seen and now_seen.seen_at_ms == worker.seen_at_ms:
                gone = tx.save(now_seen, replace(now_seen, state=WorkerState.GONE))
                fleet.tell_trouble(farm, tx, gone, now)
    return len(lapsed)


def turn_month(farm: Farm) -> bool:
    """Let what waited for budget go on in a new month, or since some came back; tell whether so."""
    name = months.name_of(farm.clock())
    with farm.store.read() as tx:
        tried = tx.fact(facts.TRIED, str)
    if tried == name:
        return False
    accounts.go_on(farm)
    with farm.store.write() as tx:
        if tx.fact(facts.TRIED, str) == tried:  # else more came back meanwhile
            tx.set_fact(facts.TRIED, name)
    return True


def turn_plans(farm: Farm, most: int = ACCOUNTS) -> bool:
    """Bring accounts under a file of plans that has changed, so many a call; False: all are.

    A grant and a submission take over what the file says of their own month; this is for months
    and sessions that are not in use, and for jobs that could go on.
    """
    rules = {
        name: [
            plan.month_gpu_ms,
            plan.most_session_gpu_ms,
            plan.price_month_microusd,
            [[alert.percent, alert.action.value] for alert in plan.alerts],
        ]
        for name, plan in farm.plans.plans.items()
    }
    with farm.store.read() as tx:
        fact = tx.fact("plans", dict)
    after = fact["after"] if fact and fact["rules"] == rules else ""
    if after is None:
        return False
    after = accounts.renew(farm, after, most)
    with farm.store.write() as tx:
        tx.set_fact("plans", {"rules": rules, "after": after})
    return True


def to_ring(farm: Farm) -> list[tuple[str, str]]:
    """Return (queue, unit id) for each idle device that has work waiting, and note the ring.

    A message is only a hint: one that is lost is rung again after `ring_again_seconds`.
    """
    now = farm.clock()
    before = now - round(farm.terms.ring_again_seconds * 1000)
    with farm.store.read() as tx:
        if facts.is_frozen(tx):
            return []
        busy = tx.turns.busy_workers()
        bells: list[tuple[str, str]] = []
        rung: set[str] = set()
        for worker in tx.find(Worker, state=WorkerState.ACTIVE, polls=False):
            if worker.id in busy:
                continue
            for queue in scheduler.queues_of(worker.kinds, worker.models):
                units = tx.turns.unrung_units(queue, before, len(rung) + 1)
                fresh = [unit for unit in units if unit.id not in rung]
                if fresh:
                    bells.append((queue, fresh[0].id))
                    rung.add(fresh[0].id)
                    break
    if rung:
        with farm.store.write() as tx:
            tx.turns.mark_rung(sorted(rung), now)
    return bells


def lead(farm: Farm, holder: str, seconds: float) -> bool:
    """Take or renew the dispatcher's lock; False while another one holds it."""
    now = farm.clock()
    with farm.store.write() as tx:
        held = tx.fact("dispatcher", dict)
        if held and held["holder"] != holder and held["until_ms"] > now:
            return False
        tx.set_fact("dispatcher", {"holder": holder, "until_ms": now + round(seconds * 1000)})
        return True


def look(farm: Farm) -> list[str]:
    """Return what does not hold in the whole store, and leave it where operators look."""
    faults = check.violations(farm)
    seen = {"at_ms": farm.clock(), "faults": len(faults), "first": faults[:FAULTS_SHOWN]}
    with farm.store.write() as tx:
        tx.set_fact("looked", seen)
    return faults


def forget(farm: Farm) -> int:
    """Delete idempotency keys after a week, old deliveries, sign-ins and share links long over."""
    now = farm.clock()
    log_ms = round(farm.terms.webhook_log_days * DAY_MS)
    with farm.store.write() as tx:
        return tx.forget(
            now - IDEMPOTENCY_DAYS * DAY_MS,
            now - log_ms,
            now - sign_ins.LASTS_MS,
            now - sharing.KEPT_MS,
        )
