"""One top-up is enough: metered jobs that pause on devices of any pace, and how many it ended.

    python -m tools.bench.topups
    python -m tools.bench.topups --trials 300 --seed 7

Each trial is a job of a few units under a session with no more than its quote's p90, on a device
that takes 0.2 to 20 times what was quoted, units and steps not alike, decode and encode with their
own pace. When it pauses (a fast one is paused by its owner, and its session emptied) the session
is topped up by what the farm names, once. The farm and the worker's meter are the real ones; the
device is a clock moved by hand.
"""

import argparse
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from orchestrator import catalog
from orchestrator.catalog import ModelCard
from orchestrator.errors import BudgetExceeded
from orchestrator.farm import Farm, Terms, check, jobs
from orchestrator.farm.accounts import accounts, keys, opening, sessions
from orchestrator.farm.jobs import waiting
from orchestrator.farm.leases import worker_calls
from orchestrator.model import Brief, Job
from orchestrator.money.plans import Plans, shipped
from orchestrator.planning import planner
from orchestrator.prompting import parser
from orchestrator.receipt import DECODE, DENOISE, Artifact, Receipt
from orchestrator.remedies import TopUp
from orchestrator.states import JobState, KeyKind, Outcome, Pricing, UnitKind
from orchestrator.store import migrate, open_store
from orchestrator.wire import (
    CHECKPOINT,
    MASTER,
    POSTER,
    SEGMENT,
    SHEET,
    STRIP,
    VIDEO,
    CompleteRequest,
    EncodeWork,
    HelloRequest,
    Order,
    ParseWork,
    RenderWork,
)
from tools.bench.progress import step
from workers.checkpoint import Checkpoint
from workers.meter import TEXT_ENCODE, Meter, Stopped
from workers.pace import Paces

SLOWEST: Final = 20.0
FASTEST: Final = 0.2
MOST_CLAIMS: Final = 2_000
FILES: Final = {
    UnitKind.PARSE: (),
    UnitKind.RENDER: (SEGMENT, MASTER, STRIP),
    UnitKind.ENCODE: (VIDEO, POSTER, SHEET),
}


@dataclass
class Clock:
    """The farm's clock and the device's: one, moved by what the device does."""

    ms: float = 1_800_000_000_000.0

    def __call__(self) -> int:
        """Return the farm's time."""
        return int(self.ms)


@dataclass
class Device:
    """A device that takes `times` what is quoted; a clock for the worker's meter."""

    clock: Clock
    chance: random.Random
    times: float
    decode_times: float = 1.0
    """Of its decode, beside that."""
    ahead: int = 0
    unit_noise: float = 1.0

    def mark(self) -> float:
        """Return the time."""
        return self.clock.ms

    def ms_between(self, start: float, end: float) -> float:
        """Return the time between two marks."""
        return end - start

    def waited_ms(self, start: float, end: float) -> float:
        """Return nothing: it is alone."""
        return 0.0

    def begin_unit(self) -> None:
        """Be as fast or slow as in this unit."""
        self.unit_noise = self.chance.lognormvariate(0, 0.08)

    def work(self, ms: float) -> None:
        """Do what was quoted as so many milliseconds."""
        self.clock.ms += ms * self.times * self.unit_noise * self.chance.lognormvariate(0, 0.1)


@dataclass
class SimWorker:
    """A worker of one model whose device is a clock; its meter is that of real ones."""

    farm: Farm
    device: Device
    model: str
    id: str = field(init=False)
    paces: Paces = field(default_factory=Paces)

    def __post_init__(self) -> None:
        join, _ = keys.create(self.farm, account_id=None, kind=KeyKind.JOIN, name="join")
        hello = HelloRequest(
            name=self.model,
            host="here",
            device="cpu",
            device_class="cpu",
            memory_mb=1000,
            kinds=tuple(UnitKind),
            models=(self.model,),
            fingerprint="f",
        )
        self.id = worker_calls.hello(self.farm, join, hello).worker_id

    def run(self) -> bool:
        """Do one unit; return False where there is none."""
        orders = worker_calls.claim(self.farm, self.id, None)
        if not orders:
            return False
        self._complete(orders[0])
        self.device.clock.ms += 20
        return True

    def _complete(self, order: Order) -> None:
        work = order.work
        self.device.begin_unit()
        if isinstance(work, RenderWork):
            outcome, message, receipt = self._render(order, work)
        else:
            meter = Meter(limit_gpu_ms=order.gpu_ms_limit, timer=self.device)
            with meter.stage(work.kind.value):
                quoted = next(
                    each for each in _job(self.farm, order).quote.stages if each.stage is work.kind
                )
                self.device.work(quoted.p50_gpu_ms if isinstance(work, EncodeWork) else 1)
            outcome, message, receipt = Outcome.DONE, "", meter.receipt(Outcome.DONE)
        kept = outcome is Outcome.DONE or receipt.frames_done
        names = (
            *(FILES[work.kind] if kept else ()),
            *((CHECKPOINT,) * bool(receipt.checkpoint_step)),
        )
        files = tuple(Artifact(name=name, sha256="ab" * 32, bytes=9) for name in names)
        worker_calls.complete(
            self.farm,
            self.id,
            CompleteRequest(
                lease_id=order.lease_id,
                fence=order.fence,
                outcome=outcome,
                message=message,
                receipt=receipt.model_copy(update={"artifacts": files, "fingerprint": "f"}),
                render_plan=self._plan(work) if isinstance(work, ParseWork) else None,
            ),
        )

    def _plan(self, work: ParseWork) -> object:
        card = self.farm.catalog.card(work.brief.model)
        return planner.plan(
            work.brief, parser.of_brief(work.brief, card.vocabulary), card, seed=work.seed
        )

    def _render(self, order: Order, work: RenderWork) -> tuple[Outcome, str, Receipt]:
        step_ms, decode_ms = self.paces.before(work)
        meter = Meter(
            limit_gpu_ms=order.gpu_ms_limit,
            step_prior_ms=step_ms,
            decode_prior_ms=decode_ms,
            timer=self.device,
        )
        kept, left, reached, message = 0, 0, 0, ""
        try:
            for frames in self._paint(work, meter):
                meter.keep()
                kept += frames
        except Stopped as stopped:
            message = stopped.reason
            if stopped.checkpoint:
                reached, left = stopped.checkpoint.step, meter.keep_steps()
        self.paces.after(work, meter)
        outcome = Outcome.STOPPED if message else Outcome.DONE
        receipt = meter.receipt(
            outcome,
            frames_done=kept,
            frame_sha256=tuple(f"{n:064x}" for n in range(kept)),
            checkpoint_step=reached,
            checkpoint_gpu_ms=left,
        )
        return outcome, message, receipt

    def _paint(self, work: RenderWork, meter: Meter) -> Iterator[int]:
        for first in range(0, len(work.frames), work.micro_batch):
            done = work.checkpoint.step if work.checkpoint and not first else 0
            meter.before_batch()
            if not first:
                with meter.stage(TEXT_ENCODE):
                    self.device.work(work.step_gpu_ms_prior / 4)
            with meter.stage(DENOISE):
                for number in range(done, work.steps):
                    if number > done:
                        try:
                            meter.before_step()
                        except Stopped as stopped:
                            stopped.checkpoint = Checkpoint(step=number, arrays={})
                            raise
                    self.device.work(work.step_gpu_ms_prior)
                    meter.step_done()
                meter.switch(DECODE)
                self.device.work(work.decode_gpu_ms_prior * self.device.decode_times)
            yield len(work.frames[first : first + work.micro_batch])


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One job and its end."""

    times: float
    """Its device against its quote."""
    top_ups: int
    named_gpu_ms: int
    """By the first advice."""
    used_gpu_ms: int
    """Charged after it."""
    ended: bool


def farm_of(path: Path, clock: Clock, trials: int) -> Farm:
    """Return a farm of metered plans with a model for each trial: none knows of another's pace."""
    url = f"sqlite:///{path}"
    migrate(url)
    cards: dict[str, ModelCard] = {
        name: replace(catalog.FAKE, id=name) for name in (f"fake{n}" for n in range(trials))
    }
    plans = {name: replace(each, price=Pricing.METERED) for name, each in shipped().plans.items()}
    farm = Farm(
        plans=Plans(plans),
        store=open_store(url),
        catalog=catalog.Catalog(cards=cards),
        clock=clock,
        terms=Terms(look_seconds=0.0, lease_seconds=100_000.0),  # it sends no heartbeats,
    )
    opening.open_home(farm)
    return farm


def trial(farm: Farm, clock: Clock, number: int, seed: int) -> Trial:
    """Run one job on a device of a pace by chance, and top it up by what is named."""
    chance = random.Random(f"{seed}.{number}")
    times = FASTEST * (SLOWEST / FASTEST) ** chance.random()
    account = accounts.first(farm)
    model = f"fake{number}"
    asked = Brief(
        prompt="a red ball rolls",
        model=model,
        seconds=chance.choice((2.0, 4.0, 8.0)),
        steps=chance.choice((4, 12, 30)),
    )
    quote = jobs.estimate(farm, account_id=account.id, session_id=None, brief=asked).quote
    session = sessions.create(
        farm, account_id=account.id, name=f"trial {number}", budget_gpu_ms=quote.p90_gpu_ms
    )
    job = jobs.submit(farm, account_id=account.id, session_id=session.id, brief=asked).job
    device = Device(clock, chance, times, decode_times=chance.uniform(0.5, 3))
    worker = SimWorker(farm, device, model)
    for _ in range(2 if times < 1 else 0):  # it would end: its owner stops it after a unit
        worker.run()
    if times < 1 and not _job_now(farm, job).state.is_terminal:
        jobs.pause(farm, account.id, job.id)
        sessions.lower(farm, account.id, session.id, 0)
    top_ups = named = spent = 0
    for _ in range(MOST_CLAIMS):
        if worker.run():
            continue
        now = _job_now(farm, job)
        if now.state is not JobState.PAUSED:
            break
        amount = _named(farm, now)
        if not amount:
            continue
        if not top_ups:
            named, spent = amount, now.spent_gpu_ms
        top_ups += 1
        sessions.top_up(farm, account.id, session.id, amount)
        if _job_now(farm, job).state is JobState.PAUSED:
            jobs.resume(farm, account.id, job.id)
    now = _job_now(farm, job)
    return Trial(
        times=times,
        top_ups=top_ups,
        named_gpu_ms=named,
        used_gpu_ms=now.spent_gpu_ms - spent,
        ended=now.state is JobState.SUCCEEDED and not now.truncated,
    )


def _named(farm: Farm, job: Job) -> int:
    """Return the amount of the top-up that a paused job is told; 0: it goes on as it is."""
    why = waiting.reason(farm, job)
    assert why, "it is paused"
    remedies = why.remedies
    if why.code == "user":
        try:
            jobs.resume(farm, job.account_id, job.id)
        except BudgetExceeded as refused:
            remedies = refused.remedies
        else:
            return 0
    best = remedies[0]
    assert isinstance(best, TopUp) and best.gpu_ms and best.goes_on, remedies
    return best.gpu_ms


def _job_now(farm: Farm, job: Job) -> Job:
    return jobs.get(farm, None, job.id)


def _job(farm: Farm, order: Order) -> Job:
    return jobs.get(farm, None, order.job_id)


def main() -> int:
    """Run the trials, print how many top-ups they took, and leave with 1 under 95 of 100."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--trials", type=int, default=100)
    options.add_argument("--seed", type=int, default=1)
    asked = options.parse_args()
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        farm = farm_of(Path(folder) / "farm.db", clock, asked.trials)
        done = []
        for number in range(asked.trials):
            done.append(trial(farm, clock, number, asked.seed))
            if number % 20 == 19:
                step(f"{number + 1} trials")
        faults = check.violations(farm)
        farm.store.close()
    print("device / quote   jobs   no top-up   one   more   used of what was named")
    for low, high in ((0.2, 0.5), (0.5, 1), (1, 2), (2, 5), (5, 10), (10, 20)):
        here = [each for each in done if low <= each.times < high]
        count = Counter(min(each.top_ups, 2) for each in here)
        used = [each.used_gpu_ms / each.named_gpu_ms for each in here if each.named_gpu_ms]
        mean = f"{sum(used) / len(used):.0%}" if used else "-"
        counts = f"{len(here):>7} {count[0]:>10} {count[1]:>6} {count[2]:>6}"
        print(f"{low:>5g} to {high:<5g} {counts}   {mean}")
    enough = sum(each.ended and each.top_ups <= 1 for each in done)
    print(f"ended with one top-up at most: {enough} of {len(done)}; faults: {len(faults)}")
    return 0 if enough >= 0.95 * len(done) and not faults else 1


if __name__ == "__main__":
    sys.exit(main())
