"""The workers of a simulation: they finish, forget, repeat, lie, freeze, die and come back late."""

import contextlib
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.errors import StaleLease
from orchestrator.farm import Farm
from orchestrator.farm.accounts import keys
from orchestrator.farm.leases import worker_calls
from orchestrator.model import Lease, Worker
from orchestrator.states import Cause, KeyKind, LeaseState, Outcome
from orchestrator.wire import Order, RenderWork
from tests.factories import Clock, Hand
from tests.property.memory import Memory
from tests.property.network import Network

GONE = "gone"
"""Stands for the answer that a lease is not the worker's any more."""


@dataclass
class Rogue:
    """A worker with an order it may finish, forget, repeat, lie about or come back with late."""

    hand: Hand
    order: Order | None = None
    used_ms: int = 0
    sequence: int = 0
    asleep: int = 0
    """For so many events it is frozen."""
    silent: bool = False
    """It says nothing of what it did beside painting, and leaves time unexplained."""
    old: list[Order] = field(default_factory=list)

    @property
    def painting(self) -> RenderWork | None:
        """The frames that it renders, if it renders."""
        work = self.order.work if self.order else None
        return work if isinstance(work, RenderWork) else None


class Workforce:
    """Acts of workers on a farm; each act is one event of a history."""

    random: random.Random
    farm: Farm
    clock: Clock
    rogues: list[Rogue]
    memory: Memory
    network: Network
    happened: Counter[str]

    def worker_acts(self) -> dict[Callable[[], None], int]:
        """Return what workers could do now, each act with its weight."""
        awake = [rogue for rogue in self.rogues if not rogue.asleep]
        busy = [rogue for rogue in awake if rogue.order]
        acts: dict[Callable[[], None], int] = {self.crash: 1}
        if awake:
            acts[self.freeze] = 1
        if len(busy) < len(awake):
            acts[self.claim] = 10
        if busy:
            acts |= {self.beat: 8, self.finish: 10, self.hand_back: 1}
        if any(rogue.painting for rogue in busy):
            acts[self.stop] = 6
        if any(rogue.painting and rogue.painting.checkpoint for rogue in busy):
            acts[self.stumble] = 3
        if any(rogue.old for rogue in awake):
            acts[self.zombie] = 2
        return acts

    def one(self, fits: Callable[[Rogue], Any] = bool) -> Rogue:
        """Return a worker that is awake and fits."""
        return self.random.choice([r for r in self.rogues if not r.asleep and fits(r)])

    def claim(self) -> None:
        """An idle worker asks for work."""
        rogue = self.one(lambda r: r.order is None)

        def message() -> Order | None:
            order = rogue.hand.claim(hint="unt_nonsense")
            if order:
                self.memory.claimed(order, rogue.hand.fingerprint)
            return order

        order = self.network.send(message)
        if order and rogue.order is None:
            rogue.order, rogue.used_ms, rogue.sequence = order, 0, 0

    def beat(self) -> None:
        """A worker reports; it may hear that it has to stop."""
        rogue = self.one(lambda r: r.order)
        order = rogue.order
        assert order
        rogue.used_ms += self.random.randrange(300)
        rogue.sequence += self.random.choice([0, 1, 1, 2])
        said = rogue.used_ms, max(1, rogue.sequence)
        verdict = self.network.send(lambda: rogue.hand.beat(order, said[0], sequence=said[1]))
        self.happened[f"verdict {verdict}"] += 1
        if verdict == GONE:
            rogue.order = None
        elif verdict not in ("go", None):
            self.report(rogue, Outcome.STOPPED)

    def finish(self) -> None:
        """A worker reports an end: done, stopped, or failed."""
        outcomes = [Outcome.DONE] * 8 + [Outcome.STOPPED] * 3 + [Outcome.FAILED]
        self.clock.advance(self.random.choice([0, 0, 0, 1, 4, 9]))  # so long it worked
        self.report(self.one(lambda r: r.order), self.random.choice(outcomes))

    def stop(self) -> None:
        """A worker stops within its first micro-batch and keeps the steps."""
        self.clock.advance(self.random.choice([0, 1, 4]))
        self.report(self.one(lambda r: r.painting), Outcome.STOPPED, midway=True)

    def stumble(self) -> None:
        """A worker fails to go on where another one stopped."""
        self.report(self.one(lambda r: r.painting and r.painting.checkpoint), Outcome.FAILED)

    def report(self, rogue: Rogue, outcome: Outcome, *, midway: bool = False) -> None:
        """Complete an order with figures that may be lies."""
        order = rogue.order
        assert order
        lie = self.random.choice([0, 1, 1, 1, 1, 5, 1000])
        self.happened["told the truth" if lie == 1 else "told too much" if lie else "told 0"] += 1
        frames = len(order.work.frames) if isinstance(order.work, RenderWork) else 0
        kept = self.random.randrange(frames) if outcome is Outcome.STOPPED and frames else None
        kept = 0 if midway else kept
        causes = [Cause.WORKER, Cause.FARM, Cause.WORKER, Cause.REQUEST]
        step = self.random.choice([int(midway), 1, 2, 3]) if kept is not None else 0
        gpu_ms = self.random.randrange(self.random.choice([400, 4_000])) * lie
        facts: dict[str, Any] = {"gpu_ms": gpu_ms, "step": step}
        facts["cause"] = self.random.choice(causes) if outcome is Outcome.FAILED else None
        step_ms = gpu_ms * 2 // 3 if step else 0
        silent = {"host_ms": {}} if rogue.silent else {}

        def message() -> str:
            flags = self.flags(rogue)
            flagged = silent and outcome is not Outcome.FAILED and self.hides(order, gpu_ms)
            try:
                answer = rogue.hand.complete(
                    order, outcome, frames=kept, checkpoint_gpu_ms=step_ms, **facts, **silent
                )
            except StaleLease:
                self.happened["refused a stale report"] += 1
                return GONE
            self.memory.completed(
                order,
                rogue.hand.fingerprint,
                outcome,
                **facts,
                frames=frames if outcome is Outcome.DONE else kept or 0,
                step_ms=step_ms,
                settled_ms=answer.settled_gpu_ms,
            )
            if flagged:
                self.happened["hid time and was flagged"] += 1
                assert self.flags(rogue) == flags + 1, "a worker hid time and was not flagged"
            return "accepted"

        if silent:
            self.happened["told nothing of the host"] += 1
        rogue.old.append(order)
        if self.network.send(message) or self.random.random() < 0.3:  # else it says it again
            rogue.order = None

    def flags(self, rogue: Rogue) -> int:
        """Return how often the farm flagged a worker since it was last admitted."""
        with self.farm.store.read() as tx:
            worker = tx.get(Worker, rogue.hand.id)
        assert worker
        return worker.flags

    def hides(self, order: Order, told_ms: int) -> bool:
        """Tell whether a report of so much leaves twice as much unexplained as any may."""
        with self.farm.store.read() as tx:
            lease = tx.get(Lease, order.lease_id)
        assert lease
        heard = lease.expires_at_ms - self.farm.terms.lease_ms
        busy = heard - lease.granted_at_ms
        return lease.state is LeaseState.OPEN and busy - told_ms > max(4_000, busy // 10)

    def hand_back(self) -> None:
        """A worker that is to end gives its unit back."""
        rogue = self.one(lambda r: r.order)
        order = rogue.order
        assert order
        used_ms = self.random.randrange(300)

        def message() -> str:
            with contextlib.suppress(StaleLease):
                rogue.hand.release(order, gpu_ms=used_ms)
            return GONE

        rogue.old.append(order)
        if self.network.send(message):
            rogue.order = None

    def crash(self) -> None:
        """A worker dies; it may come back and say hello, or stay away for a while."""
        rogue = self.random.choice(self.rogues)
        if rogue.order:
            rogue.old.append(rogue.order)
            self.happened["crashed at work"] += 1
        rogue.order = None
        if self.random.random() < 0.5:
            self.hello(rogue)
        else:
            rogue.asleep = self.random.choice([2, 5, 10, 40])

    def freeze(self) -> None:
        """A worker stands still, and then goes on as if nothing had been."""
        rogue = self.one()
        rogue.asleep = self.random.choice([2, 5, 10, 80])
        self.happened["froze at work" if rogue.order else "froze"] += 1

    def hello(self, rogue: Rogue) -> None:
        """A restarted worker enrols with its own key."""
        key, _ = keys.create(
            self.farm, account_id=None, kind=KeyKind.WORKER, name="own", worker_id=rogue.hand.id
        )
        worker_calls.hello(self.farm, key, rogue.hand.hello())

    def zombie(self) -> None:
        """A worker finishes something it had long ago."""
        rogue = self.one(lambda r: r.old)
        order = self.random.choice(rogue.old)

        def message() -> None:
            try:
                answer = rogue.hand.complete(order, Outcome.DONE, gpu_ms=50)
            except StaleLease:
                self.happened["refused a zombie"] += 1
                return
            self.memory.answered(order.lease_id, answer.settled_gpu_ms)

        self.network.send(message)
