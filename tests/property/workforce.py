"""The workers of a simulation: they finish, forget, repeat, exaggerate, die and come back late."""

import contextlib
import random
from dataclasses import dataclass, field

from orchestrator.errors import StaleLease
from orchestrator.farm import Farm, keys, work
from orchestrator.states import Cause, KeyKind, Outcome
from orchestrator.wire import Order, RenderWork
from tests.factories import Hand
from tests.property.memory import Memory


@dataclass
class Rogue:
    """A worker with an order it may finish, forget, repeat, exaggerate or come back with late."""

    hand: Hand
    order: Order | None = None
    used_ms: int = 0
    sequence: int = 0
    old: list[Order] = field(default_factory=list)

    @property
    def painting(self) -> RenderWork | None:
        """What it renders, if that is what it does."""
        work = self.order.work if self.order else None
        return work if isinstance(work, RenderWork) else None


class Workforce:
    """What workers may do to a farm; each act is one event of a history."""

    random: random.Random
    farm: Farm
    rogues: list[Rogue]
    memory: Memory

    def claim(self) -> None:
        """An idle worker asks for work; the answer may be lost."""
        rogue = self.random.choice(self.rogues)
        if rogue.order is None:
            order = rogue.hand.claim(hint="unt_nonsense")
            if order:
                self.memory.claimed(order, rogue.hand.fingerprint)
            if order and self.random.random() > 0.1:
                rogue.order, rogue.used_ms, rogue.sequence = order, 0, 0

    def beat(self) -> None:
        """A worker reports; it may hear that it has to stop."""
        rogue = self.random.choice(self.rogues)
        if rogue.order is None:
            return
        rogue.used_ms += self.random.randrange(300)
        rogue.sequence += self.random.choice([0, 1, 1, 2])
        verdict = rogue.hand.beat(rogue.order, rogue.used_ms, sequence=max(1, rogue.sequence))
        if verdict == "gone":
            rogue.order = None
        elif verdict != "go":
            self.report(rogue, Outcome.STOPPED)

    def finish(self) -> None:
        """A worker reports an end: done, stopped, or failed."""
        rogue = self.random.choice(self.rogues)
        if rogue.order:
            outcomes = [Outcome.DONE] * 8 + [Outcome.STOPPED] * 3 + [Outcome.FAILED]
            self.report(rogue, self.random.choice(outcomes))

    def stop(self) -> None:
        """A worker stops within its first micro-batch and keeps the steps."""
        if painting := [rogue for rogue in self.rogues if rogue.painting]:
            self.report(self.random.choice(painting), Outcome.STOPPED, midway=True)

    def stumble(self) -> None:
        """A worker fails to go on where another one stopped."""
        going_on = [r for r in self.rogues if r.painting and r.painting.checkpoint]
        if going_on:
            self.report(self.random.choice(going_on), Outcome.FAILED)

    def report(self, rogue: Rogue, outcome: Outcome, *, midway: bool = False) -> None:
        """Complete an order with figures that may be lies."""
        order = rogue.order
        assert order
        lie = self.random.choice([1, 1, 1, 5, 1000])
        frames = len(order.work.frames) if isinstance(order.work, RenderWork) else 0
        kept = self.random.randrange(frames) if outcome is Outcome.STOPPED and frames else None
        kept = 0 if midway else kept
        causes = [Cause.WORKER, Cause.FARM, Cause.WORKER, Cause.REQUEST]
        step = self.random.choice([int(midway), 1, 2, 3]) if kept is not None else 0
        gpu_ms = self.random.randrange(400) * lie
        step_ms = gpu_ms * 2 // 3 if step else 0
        cause = self.random.choice(causes) if outcome is Outcome.FAILED else None
        with contextlib.suppress(StaleLease):
            answer = rogue.hand.complete(
                order,
                outcome,
                gpu_ms=gpu_ms,
                frames=kept,
                step=step,
                cause=cause,
                checkpoint_gpu_ms=step_ms,
            )
            self.memory.completed(
                order,
                rogue.hand.fingerprint,
                outcome,
                cause,
                gpu_ms=gpu_ms,
                frames=frames if outcome is Outcome.DONE else kept or 0,
                step=step,
                step_ms=step_ms,
                settled_ms=answer.settled_gpu_ms,
            )
        rogue.old.append(order)
        if self.random.random() > 0.1:  # else it never heard that it was accepted
            rogue.order = None

    def crash(self) -> None:
        """A worker dies; it may come back and say hello, or stay away for a while."""
        rogue = self.random.choice(self.rogues)
        if rogue.order:
            rogue.old.append(rogue.order)
        rogue.order = None
        if self.random.random() < 0.5:
            self.hello(rogue)

    def hello(self, rogue: Rogue) -> None:
        """A restarted worker enrols with its own key."""
        key, _ = keys.create(
            self.farm, account_id=None, kind=KeyKind.WORKER, name="own", worker_id=rogue.hand.id
        )
        work.hello(self.farm, key, rogue.hand.hello())

    def zombie(self) -> None:
        """A worker finishes something it had long ago."""
        rogue = self.random.choice(self.rogues)
        if rogue.old:
            order = self.random.choice(rogue.old)
            with contextlib.suppress(StaleLease):
                rogue.hand.complete(order, Outcome.DONE, gpu_ms=50)
                self.memory.reported.add(order.lease_id)
