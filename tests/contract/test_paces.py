"""Paces of models on workers go into the next quote, and into nobody's bill."""

from dataclasses import replace

from orchestrator import catalog
from orchestrator.farm import Farm, jobs
from orchestrator.farm.accounts import keys
from orchestrator.farm.leases import worker_calls
from orchestrator.farm.leases.worker_calls import MOST_SIZES
from orchestrator.model import Entry, Pace, Quote, Sample, Worker
from orchestrator.states import Basis, EntryKind, KeyKind, Outcome, UnitKind
from orchestrator.wire import HeartbeatRequest, PaceReport
from tests.factories import Clock, Hand, account_id, brief, submit

NATIVE = catalog.FAKE.native


def report(step_ms: float = 10.0, decode_ms: float = 5.0, **changes: object) -> PaceReport:
    """Return a pace of the fake model at its native size."""
    facts: dict[str, object] = {
        "model": "fake",
        "model_version": catalog.FAKE.version,
        "width": NATIVE.width,
        "height": NATIVE.height,
        "micro_batch": 4,
        "step_ms": step_ms,
        "decode_ms": decode_ms,
        "load_ms": 700,
    }
    return PaceReport.model_validate(facts | changes)


def tell(farm: Farm, worker_id: str, *paces: PaceReport) -> None:
    """Let a worker tell its paces."""
    worker_calls.heartbeat(farm, worker_id, HeartbeatRequest(paces=paces))


def quoted(farm: Farm) -> Quote:
    """Return the quote of a job of 24 frames in four steps."""
    mine = account_id(farm)
    asked = brief(seconds=2.0, steps=4)
    return jobs.estimate(farm, account_id=mine, session_id=None, brief=asked).quote


def kept(farm: Farm) -> list[Pace]:
    """Return the paces that the farm keeps."""
    with farm.store.read() as tx:
        return tx.find(Pace)


def test_the_next_quote_rests_on_what_a_worker_measured(farm: Farm, clock: Clock) -> None:
    """At once, though fits are kept for a while; no entry is written, and orders say it too."""
    farm = replace(farm, terms=replace(farm.terms, look_seconds=60.0))
    hand = Hand(farm, clock)
    assert quoted(farm).basis_kind is Basis.CARD
    tell(farm, hand.id, report())
    quote = quoted(farm)
    assert quote.stages[1].p50_gpu_ms == 6 * (4 * 10 + 5)
    assert (quote.basis_kind, quote.receipts, quote.measured) == (Basis.DEVICE, 0, False)
    assert quote.step_prior == (10, 5)
    assert quote.startup_gpu_ms == 700
    with farm.store.read() as tx:
        assert {entry.kind for entry in tx.find(Entry)} <= {EntryKind.GRANT}


def test_a_pace_replaces_the_older_one_of_its_size(farm: Farm, clock: Clock) -> None:
    """One row of each worker, model and size, and of sizes the newest few."""
    hand = Hand(farm, clock)
    tell(farm, hand.id, report(10.0), report(2.0, width=32, height=32))
    clock.advance(1)
    tell(farm, hand.id, report(20.0))
    assert sorted(pace.step_gpu_ms for pace in kept(farm)) == [2.0, 20.0]
    for side in range(8, 8 * 40, 8):
        clock.advance(1)
        tell(farm, hand.id, report(30.0, width=side))
    assert len(kept(farm)) == MOST_SIZES


def test_a_model_that_the_farm_does_not_have_is_no_pace(farm: Farm, clock: Clock) -> None:
    """Nor one of another version: other weights, another pace. The beat is taken."""
    hand = Hand(farm, clock)
    tell(farm, hand.id, report(model="other"), report(model_version="0.9"))
    assert kept(farm) == []
    assert quoted(farm).basis_kind is Basis.CARD


def test_with_another_device_of_the_class_it_is_the_class_s(farm: Farm, clock: Clock) -> None:
    """The other one may be the one that does it. One that is gone does not count."""
    hand = Hand(farm, clock)
    tell(farm, hand.id, report())
    Hand(farm, clock, name="second")
    assert quoted(farm).basis_kind is Basis.CLASS
    assert quoted(farm).basis.startswith("measured on its class (cpu): the pace of fake")


def test_a_clock_that_jumps_leaves_the_newest_word(farm: Farm, clock: Clock) -> None:
    """An hour back, a year on: what the worker said last is what it measures now."""
    hand = Hand(farm, clock)
    for seconds, step_ms in ((0, 10.0), (-3600, 20.0), (365 * 86_400, 30.0), (-86_400, 40.0)):
        clock.advance(seconds)
        tell(farm, hand.id, report(step_ms))
        assert [pace.step_gpu_ms for pace in kept(farm)] == [step_ms]
        assert quoted(farm).step_prior[0] == round(step_ms)


def test_a_class_nobody_knew_is_quoted_by_its_speed_at_another_model(
    farm: Farm, clock: Clock
) -> None:
    """Its card knows CPUs alone: at twenty times a CPU's speed it is quoted so, and says so."""
    other = replace(catalog.FAKE, id="other")
    cards = {"fake": catalog.FAKE, "other": other}
    farm = replace(farm, catalog=catalog.Catalog(cards=cards))
    join, _ = keys.create(farm, account_id=None, kind=KeyKind.JOIN, name="join")
    hello = Hand(farm, clock).hello()
    unknown = hello.model_copy(
        update={"name": "x", "device_class": "nvidia-x", "models": ("fake", "other")}
    )
    worker = worker_calls.hello(farm, join, unknown).worker_id
    with farm.store.write() as tx:
        (cpu,) = [w for w in tx.find(Worker) if w.device_class == "cpu"]
        tx.save(cpu, replace(cpu, models=()))
    batch = 4 * NATIVE.megapixels
    card_ms = catalog.FAKE.priors["cpu"].ms_per_frame_step_megapixel * batch
    tell(farm, worker, report(card_ms / 20, model="other"))
    quote = quoted(farm)
    assert (quote.basis_kind, quote.device_class) == (Basis.CARD, "nvidia-x")
    assert quote.step_prior[0] == -(-card_ms // 20)
    assert quote.basis == "scaled from a card for nvidia-x: the prior of fake, no receipts yet"


def test_receipts_say_which_device_and_how_many(farm: Farm, clock: Clock) -> None:
    """Five of the only device of its class are measured on this device; and have their stages."""
    hand = Hand(farm, clock)
    submit(farm, brief(seconds=10.0))
    stages = {"text_encode": 10, "denoise": 50, "decode": 30, "transfer": 10}
    while order := hand.claim():
        clock.advance(1)
        hand.complete(order, Outcome.DONE, by_stage=stages)
    with farm.store.read() as tx:
        renders = tx.find(Sample, kind=UnitKind.RENDER)
    assert {(s.denoise_gpu_ms, s.decode_gpu_ms, s.worker_id) for s in renders} == {
        (50, 40, hand.id)
    }
    assert all(s.megapixels == 4 * NATIVE.megapixels for s in renders)
    quote = quoted(farm)
    assert (quote.basis_kind, quote.receipts) == (Basis.DEVICE, len(renders))
    assert len(renders) >= 5
