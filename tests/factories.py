"""Things tests are made of: a farm, a clock, briefs, and a worker that is a hand's breadth."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, cast

from orchestrator import catalog
from orchestrator.farm import Farm, Idempotency, Terms, jobs
from orchestrator.farm.accounts import accounts, keys, opening
from orchestrator.farm.kernel.ids import new_id
from orchestrator.farm.leases import worker_calls
from orchestrator.model import Brief, Job, Key, RenderPlan
from orchestrator.money.plans import Plans, shipped
from orchestrator.planning import planner
from orchestrator.prompting import parser
from orchestrator.receipt import Artifact, Receipt
from orchestrator.states import Cause, KeyKind, Outcome, Pricing, UnitKind
from orchestrator.store import Store
from orchestrator.wire import (
    CHECKPOINT,
    MASTER,
    POSTER,
    SEGMENT,
    SHEET,
    STRIP,
    VIDEO,
    CompleteAnswer,
    CompleteRequest,
    HeartbeatRequest,
    HelloRequest,
    LeaseUse,
    Order,
    ParseWork,
    ReleaseRequest,
    RenderWork,
)

START_MS = 1_800_000_000_000
FILES = {
    UnitKind.PARSE: (),
    UnitKind.RENDER: (SEGMENT, MASTER, STRIP),
    UnitKind.ENCODE: (VIDEO, POSTER, SHEET),
}


@dataclass
class Clock:
    """The farm's clock, moved by hand."""

    now_ms: int = START_MS

    def __call__(self) -> int:
        """Return the time."""
        return self.now_ms

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now_ms += round(seconds * 1000)


def plans_with(price: Pricing) -> Plans:
    """Return the shipped plans, all with this kind of price."""
    return Plans({name: replace(each, price=price) for name, each in shipped().plans.items()})


def make_farm(
    store: Store,
    clock: Clock,
    *,
    make_id: Callable[[str, int], str] = new_id,
    price: Pricing = Pricing.METERED,
    **terms: Any,
) -> Farm:
    """Return an opened farm whose only model is the fake one, and whose plans are metered."""
    farm = Farm(
        plans=plans_with(price),
        store=store,
        catalog=catalog.Catalog(cards={catalog.FAKE.id: catalog.FAKE}),
        clock=clock,
        terms=Terms(**{"look_seconds": 0.0, **terms}),
        new_id=make_id,
    )
    opening.open_home(farm)
    return farm


def with_painter(farm: Farm, *, uses_layout: bool = False) -> None:
    """Offer a second model, `painter`: the fake one as if it took reference images."""
    strength = 1.0 if uses_layout else 0.7
    painter = replace(catalog.FAKE, id="painter", image_strength=strength, uses_layout=uses_layout)
    cast("dict[str, catalog.ModelCard]", farm.catalog.cards)[painter.id] = painter


def account_id(farm: Farm) -> str:
    """Return the account that the farm opened with."""
    return accounts.first(farm).id


def brief(prompt_text: str = "a rocket rises", **changes: Any) -> Brief:
    """Return a short brief."""
    return Brief(**{"prompt": prompt_text, "seconds": 2.0, **changes})


def submit(
    farm: Farm,
    asked: Brief | None = None,
    *,
    session: str | None = None,
    key: str | None = None,
    alternatives: bool = False,
    asker: Key | None = None,
) -> Job:
    """Submit a brief for the home account."""
    idempotency = Idempotency(key=key, body_sha256="0" * 64) if key else None
    return jobs.submit(
        farm,
        account_id=account_id(farm),
        session_id=session,
        brief=asked or brief(),
        idempotency=idempotency,
        alternatives=alternatives,
        key=asker,
    ).job


def bound_key(farm: Farm, *, gpu_ms: int | None = None, session: str | None = None) -> Key:
    """Make a key of the home account that is bound to an allowance, to a session, or to both."""
    owner, bounds = account_id(farm), keys.Bounds(session=session, gpu_ms=gpu_ms)
    return keys.create(farm, account_id=owner, kind=KeyKind.SUBMIT, name="b", bounds=bounds)[0]


def files(kind: UnitKind) -> tuple[Artifact, ...]:
    """Return the artifacts a done unit of this kind must have."""
    return tuple(Artifact(name=name, sha256="ab" * 32, bytes=100) for name in FILES[kind])


@dataclass
class Hand:
    """A worker by hand: it claims, and says what the test wants it to say."""

    farm: Farm
    clock: Clock
    name: str = "hand"
    kinds: tuple[UnitKind, ...] = tuple(UnitKind)
    models: tuple[str, ...] = ("fake",)
    polls: bool = False
    fingerprint: str = "f"
    id: str = field(init=False)

    def __post_init__(self) -> None:
        key, _ = keys.create(self.farm, account_id=None, kind=KeyKind.JOIN, name="join")
        self.id = worker_calls.hello(self.farm, key, self.hello()).worker_id

    def hello(self) -> HelloRequest:
        """Return what it says of itself."""
        return HelloRequest(
            name=self.name,
            host="here",
            device="cpu",
            device_class="cpu",
            memory_mb=1000,
            kinds=self.kinds,
            models=self.models,
            polls=self.polls,
            fingerprint=self.fingerprint,
        )

    def claim(self, hint: str | None = None) -> Order | None:
        """Claim one order."""
        orders = worker_calls.claim(self.farm, self.id, hint)
        return orders[0] if orders else None

    def beat(
        self,
        order: Order,
        gpu_ms: int = 0,
        *,
        sequence: int = 1,
        frames: int = 0,
        steps: int = 0,
        worked_ms: int = 0,
    ) -> str:
        """Send a heartbeat for one lease and return the verdict."""
        use = LeaseUse(
            lease_id=order.lease_id,
            fence=order.fence,
            sequence=sequence,
            gpu_ms=gpu_ms,
            frames_done=frames,
            steps_done=steps,
            worked_ms=worked_ms,
        )
        answer = worker_calls.heartbeat(self.farm, self.id, HeartbeatRequest(leases=(use,)))
        return answer.leases[0].verdict.value

    def done(self, order: Order, gpu_ms: int = 100, *, seconds: float = 1.0) -> CompleteAnswer:
        """Finish an order after some time on the clock."""
        self.clock.advance(seconds)
        return self.complete(order, Outcome.DONE, gpu_ms=gpu_ms)

    def complete(
        self,
        order: Order,
        outcome: Outcome,
        *,
        gpu_ms: int = 100,
        frames: int | None = None,
        step: int = 0,
        cause: Cause | None = None,
        message: str = "said by hand",
        claim_next: bool = False,
        **receipt: Any,
    ) -> CompleteAnswer:
        """Report an outcome; with `step`, a checkpoint after so many steps."""
        w = order.work
        total = len(w.frames) if isinstance(w, RenderWork) else 0
        kept = frames if frames is not None else total if outcome is Outcome.DONE else 0
        has_files = outcome is Outcome.DONE or kept
        point = (Artifact(name=CHECKPOINT, sha256="cd" * 32, bytes=9),) if step else ()
        facts = {
            "gpu_ms": gpu_ms,
            "by_stage": {"work": gpu_ms, "wasted": receipt.get("wasted_gpu_ms", 0)},
            "frames_done": kept,
            "steps_done": _steps(w, kept, step),
            "frame_sha256": tuple(f"{n:064x}" for n in range(kept)),
            "artifacts": (files(w.kind) if has_files else ()) + point,
            "checkpoint_step": step,
            "checkpoint_gpu_ms": gpu_ms if step and not kept else 0,
            "fingerprint": self.fingerprint,
            "host_ms": {"upload": self.clock() - START_MS},  # nothing is left unexplained
        }
        request = CompleteRequest(
            lease_id=order.lease_id,
            fence=order.fence,
            outcome=outcome,
            cause=cause,
            message=message,
            receipt=Receipt.model_validate(facts | receipt),
            render_plan=self.plan(order) if isinstance(w, ParseWork) and has_files else None,
            claim_next=claim_next,
        )
        return worker_calls.complete(self.farm, self.id, request)

    def plan(self, order: Order) -> RenderPlan:
        """Plan as a worker does."""
        assert isinstance(order.work, ParseWork)
        asked = order.work.brief
        card = self.farm.catalog.card(asked.model)
        parsed = parser.of_brief(asked, card.vocabulary)
        return planner.plan(asked, parsed, card, seed=order.work.seed)

    def release(self, order: Order, gpu_ms: int = 0) -> None:
        """Hand an order back."""
        request = ReleaseRequest(lease_id=order.lease_id, fence=order.fence, gpu_ms=gpu_ms)
        worker_calls.release(self.farm, self.id, request)

    def work_off(self, gpu_ms: int = 100, *, most: int = 1000) -> int:
        """Do all there is to do; return how many units that was."""
        for count in range(most):
            order = self.claim()
            if order is None:
                return count
            self.done(order, gpu_ms)
        raise AssertionError(f"still work after {most} units")


def _steps(work: object, kept: int, step: int) -> int:
    """Return the steps behind the kept frames of a unit and its checkpoint."""
    if not isinstance(work, RenderWork):
        return 0
    begun = work.checkpoint.step if work.checkpoint else 0
    return max(0, -(-kept // work.micro_batch) * work.steps + step - begun)
