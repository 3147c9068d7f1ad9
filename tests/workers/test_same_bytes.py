"""The same request with the same seed is the same file, whatever became of its units.

The farm's own verbs on one side, the crew of a worker's child on the other: engine, meter, FFmpeg.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from shutil import copyfile

import pytest

from orchestrator.catalog import FAKE, Catalog
from orchestrator.farm import Farm, check, jobs
from orchestrator.farm.leases import reconcile, worker_calls
from orchestrator.model import Brief, Job
from orchestrator.receipt import Artifact
from orchestrator.states import JobState, OnExhausted, Outcome, PauseReason, UnitKind, Verdict
from orchestrator.store import open_store
from orchestrator.wire import CompleteRequest, EncodeWork, Order, RenderWork
from orchestrator.wiring import now_ms
from tests.factories import START_MS, Clock, Hand, brief, make_farm, submit
from workers import devices
from workers.child import Assignment, Crew, Setup
from workers.result import Result

SETUP = Setup(device=devices.discover("cpu"), threads=1, catalog=Catalog({FAKE.id: FAKE}))
ASKED = brief("a dog runs; then it sleeps", seconds=4.0, steps=2, seed=5)
"""48 frames in two batches, the first of which has more frames than lie between two key frames."""
NEVER = 10**6


class Now(Clock):
    """The real clock, which a test may put forward."""

    def __call__(self) -> int:
        """Return the time."""
        return now_ms() + self.now_ms - START_MS


@pytest.fixture
def clock() -> Now:
    """The clock of the farm."""
    return Now()


@pytest.fixture
def farm(sqlite_url: str, clock: Now) -> Iterator[Farm]:
    """A farm on SQLite."""
    store = open_store(sqlite_url)
    yield make_farm(store, clock)  # type: ignore[arg-type]
    store.close()


@dataclass
class Bench:
    """A worker without processes: it claims, works and reports, and its files are in a folder."""

    farm: Farm
    clock: Now
    folder: Path
    name: str
    may_ask: int = NEVER
    """Questions of a render unit's meter that are answered with go; a pause comes after them."""
    hand: Hand = field(init=False)
    encoded: list[EncodeWork] = field(default_factory=list)

    def __post_init__(self) -> None:
        fingerprint = SETUP.device.fingerprint(SETUP.threads)
        self.hand = Hand(self.farm, self.clock, self.name, fingerprint=fingerprint)
        self.crew = Crew(SETUP)

    def one(self) -> bool:
        """Do a unit; False: there is none."""
        order = self.hand.claim()
        if order is None:
            return False
        self.report(order, self.work(order))
        return True

    def work(self, order: Order) -> Result:
        """Do what the order says, and keep the files."""
        inputs = {}
        if isinstance(order.work, EncodeWork):
            self.encoded.append(order.work)
            inputs = {each.key: self.folder / each.key for each in order.work.inputs}
        elif isinstance(order.work, RenderWork) and order.work.checkpoint:
            inputs = {order.work.checkpoint.key: self.folder / order.work.checkpoint.key}
        asked = iter(range(self.may_ask if order.work.kind is UnitKind.RENDER else NEVER))
        scratch = self.folder / "scratch" / order.lease_id
        scratch.mkdir(parents=True)
        result = self.crew.run(
            Assignment(order=order, inputs=inputs, folder=scratch),
            lambda: Verdict.PAUSE if next(asked, None) is None else None,
            lambda progress: None,
        )
        assert result.outcome is not Outcome.FAILED, result.message
        for file in result.files:
            kept = self.folder / "units" / order.unit_id / str(order.fence) / file.name
            kept.parent.mkdir(parents=True, exist_ok=True)
            copyfile(file, kept)
        return result

    def report(self, order: Order, result: Result) -> None:
        """Report a result with its files."""
        files = tuple(
            Artifact(
                name=file.name,
                sha256=sha256(file.read_bytes()).hexdigest(),
                bytes=file.stat().st_size,
            )
            for file in result.files
        )
        told = {"artifacts": files, "host_ms": {"upload": 10**6}}  # nothing is left unexplained
        request = CompleteRequest(
            lease_id=order.lease_id,
            fence=order.fence,
            outcome=result.outcome,
            message=result.message,
            receipt=result.receipt.model_copy(update=told),
            render_plan=result.render_plan,
            claim_next=False,
        )
        worker_calls.complete(self.farm, self.hand.id, request)


def work_off(*benches: Bench, most: int = 200) -> None:
    """Let the benches take turns until none has anything to do."""
    idle = 0
    for bench in benches * most:
        idle = 0 if bench.one() else idle + 1
        if idle == len(benches):
            return
    raise AssertionError("there was no end to it")


def digests(farm: Farm, job: Job) -> dict[str, str]:
    """Return the digests of a finished job's files."""
    job = jobs.get(farm, job.account_id, job.id)
    assert job.state is JobState.SUCCEEDED, job
    assert job.artifacts.keys() == {"video", "poster", "sheet"}
    assert check.violations(farm) == []
    return {name: file.sha256 for name, file in job.artifacts.items()}


KINDS = {
    "plain": ASKED,
    "in passes": replace(ASKED, on_exhausted=OnExhausted.FINISH),
    "interpolated": replace(ASKED, interpolate=2),
}


@pytest.mark.slow(15)
@pytest.mark.parametrize("asked", KINDS.values(), ids=KINDS)
def test_whatever_became_of_its_units_the_files_are_the_same(
    farm: Farm, clock: Now, tmp_path: Path, asked: Brief
) -> None:
    """Undisturbed; by two workers; stopped after each step, and now and then; lost on the way."""

    def bench(name: str, may_ask: int = NEVER) -> Bench:
        return Bench(farm, clock, tmp_path, name, may_ask)

    found = {}
    one = bench("one")
    job = submit(farm, asked)
    work_off(one)
    found["undisturbed"] = digests(farm, job)

    job = submit(farm, asked)
    work_off(bench("two"), bench("three"))
    found["by two workers"] = digests(farm, job)

    job = submit(farm, asked)
    stopping = bench("stopping", may_ask=1)
    work_off(stopping)
    found["stopped after each step"] = digests(farm, job)
    views = jobs.units(farm, None, job.id)
    renders = [view for view in views if view.unit.kind is UnitKind.RENDER]
    assert {view.unit.frames for view in renders} == {4}, "each micro-batch became a unit"

    job = submit(farm, asked)
    work_off(bench("now", may_ask=5), bench("then", may_ask=9), bench("never"))
    found["stopped now and then"] = digests(farm, job)

    job = submit(farm, asked)
    first, second = bench("first", may_ask=7), bench("second", may_ask=7)
    assert first.one(), "the plan"
    for dying in (first, second):
        order = dying.hand.claim()
        assert order
        dying.work(order)
        clock.advance(farm.terms.lease_seconds + farm.terms.grace_ms / 1000 + 1)
        assert reconcile.reconcile(farm) == 1
        if dying is first:
            assert second.one(), "a part"
    work_off(bench("heir"))
    found["lost"] = digests(farm, job)

    assert found == dict.fromkeys(found, found["undisturbed"])


@pytest.mark.slow(3)
def test_a_video_that_was_cut_off_is_the_same_for_the_same_frames(
    farm: Farm, clock: Now, tmp_path: Path
) -> None:
    """Finished early after twelve frames: painted in one go, or in three."""
    found = []
    for may_ask in (7, 3):  # three questions a micro-batch but the last: one before, one a step
        job = submit(farm, ASKED)
        bench = Bench(farm, clock, tmp_path, f"bench {may_ask}", may_ask)
        while jobs.get(farm, None, job.id).frames_done < 12:
            assert bench.one()
        jobs.pause(farm, None, job.id)
        assert jobs.get(farm, None, job.id).pause_reason is PauseReason.USER
        jobs.finish(farm, None, job.id)
        work_off(bench)
        found.append((jobs.get(farm, None, job.id).frames_done, digests(farm, job)))
    assert found[0] == found[1]
    assert found[0][0] == 12


def test_only_what_was_cut_is_encoded_again(farm: Farm, clock: Now, tmp_path: Path) -> None:
    """A batch that one unit has painted is copied, whatever became of the one before it."""
    job = submit(farm, ASKED)
    stopping, whole = (Bench(farm, clock, tmp_path, f"n{n}", n) for n in (5, NEVER))
    assert whole.one(), "the plan"
    assert stopping.one(), "a part of the first batch"
    work_off(whole)
    digests(farm, job)
    (work,) = whole.encoded
    ((first, rest),) = work.masters
    assert (first.first_frame, rest.first_frame) == (0, first.frames)
    assert [part.first_frame for part in work.segments] == [first.frames + rest.frames]
