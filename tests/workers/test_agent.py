"""The agent against a farm over HTTP, with a real child, the fake engine and the real FFmpeg."""

import time

import psutil
import pytest

from orchestrator.states import Cause, Outcome, Verdict
from orchestrator.wire import SEGMENT
from tests.workers.fake_farm import FakeFarm, busy, when
from tests.workers.orders import encode_order, plan_order, render_order
from workers.agent import Agent
from workers.client import Refused


def test_one_claim_does_all_that_the_answers_bring(farm: FakeFarm, agent: Agent) -> None:
    """Plan, two batches and the encode follow each other without another claim."""
    first, second = render_order(8), render_order(4)
    farm.ready.extend([plan_order(), first, second])
    assert agent.run("u1") == 3
    assert farm.calls.count("claim") == 1
    assert [c.outcome for c in farm.completed] == [Outcome.DONE] * 3
    assert farm.completed[0].render_plan
    assert farm.completed[1].receipt.frames_done == 8
    assert [a.name for a in farm.completed[1].receipt.artifacts] == [
        "segment.mp4",
        "master.mkv",
        "strip.jpg",
    ]
    for artifact in farm.completed[2].receipt.artifacts:
        assert len(farm.files[f"{second.lease_id}/{artifact.name}"]) == artifact.bytes


def test_segments_become_a_video(farm: FakeFarm, agent: Agent) -> None:
    """The encode fetches what the renders put, checks the digests and puts the video."""
    units = [render_order(8), render_order(8)]
    farm.ready.extend(units)
    agent.run()
    parts = {
        f"{unit.lease_id}/{SEGMENT}": farm.files[f"{unit.lease_id}/{SEGMENT}"] for unit in units
    }
    farm.ready.append(encode_order(parts, 8))
    agent.run()
    assert farm.completed[-1].outcome is Outcome.DONE, farm.completed[-1].message
    assert [a.name for a in farm.completed[-1].receipt.artifacts] == [
        "video.mp4",
        "poster.jpg",
        "sheet.jpg",
    ]


def test_heartbeats_carry_growing_use(farm: FakeFarm, agent: Agent) -> None:
    """Sequence, device time and frames never go back, and end below the receipt."""
    farm.ready.append(render_order(24, steps=4))
    agent.run()
    uses = [use for beat in farm.beats for use in beat.leases]
    assert len(uses) >= 3
    assert [use.sequence for use in uses] == sorted({use.sequence for use in uses})
    assert [use.gpu_ms for use in uses] == sorted(use.gpu_ms for use in uses)
    assert uses[-1].gpu_ms <= farm.completed[0].receipt.gpu_ms
    assert uses[-1].frames_done <= 24


def test_a_lease_that_is_gone_is_dropped_in_silence(farm: FakeFarm, agent: Agent) -> None:
    """Nothing is uploaded or reported for it, and the next unit runs on the same engine."""
    farm.ready.append(render_order(400))
    watch = when(busy(farm), lambda: setattr(farm, "verdict", Verdict.GONE))
    agent.run()
    watch.join()
    assert farm.completed == []
    assert farm.files == {}
    pid, farm.verdict = agent.child.pid, Verdict.GO
    farm.ready.append(render_order(4))
    agent.run()
    assert farm.completed[0].outcome is Outcome.DONE
    assert agent.child.pid == pid


@pytest.mark.slow(8)
@pytest.mark.parametrize("farm", [12], indirect=True, ids=["a lease of 12 s"])
def test_without_answers_it_stops_before_the_lease_ends(farm: FakeFarm, agent: Agent) -> None:
    """No heartbeat gets through: the unit ends before its deadline and is still reported."""
    farm.away.add("heartbeat")
    farm.ready.append(render_order(2000, expires_in_ms=12_000))
    started = time.monotonic()
    agent.run()
    assert time.monotonic() - started < 60, "the whole unit takes 80 s"
    (report,) = farm.completed
    assert (report.outcome, report.message) == (
        Outcome.STOPPED,
        "The farm did not answer in time.",
    )
    assert report.receipt.frames_done > 0


@pytest.mark.slow
def test_a_farm_that_stays_away_loses_the_unit_not_the_worker(farm: FakeFarm, agent: Agent) -> None:
    """Reports are tried again until lease and grace are over, then the work is dropped."""
    farm.away.update({"heartbeat", "complete", "artifacts"})
    farm.ready.append(render_order(8))
    started = time.monotonic()
    assert agent.run() == 1
    assert time.monotonic() - started < 60
    assert farm.completed == []
    farm.away.clear()
    farm.ready.append(render_order(4))
    assert agent.run() == 1
    assert len(farm.completed) == 1


def test_a_report_survives_a_farm_that_is_away_for_a_moment(farm: FakeFarm, agent: Agent) -> None:
    """Uploads and complete are sent again until they get through."""
    farm.away.update({"complete", "artifacts"})
    farm.ready.append(render_order(4))
    when(lambda: "artifacts" in farm.calls, lambda: farm.away.discard("artifacts"))
    watch = when(lambda: "complete" in farm.calls, farm.away.clear)
    agent.run()
    watch.join()
    assert [report.outcome for report in farm.completed] == [Outcome.DONE]
    assert farm.completed[0].receipt.host_ms["report"] > 0, "the farm sees no idle time in it"


def test_an_order_that_comes_a_second_time_is_as_old_as_it_is(farm: FakeFarm, agent: Agent) -> None:
    """The answer that brought it first was lost: the time since the grant went to the queue."""
    farm.ready.append(render_order(4, expires_in_ms=1_000))
    agent.run()
    assert farm.completed[0].receipt.host_ms["queue"] >= 2_000, "of a lease of 3 s"


def test_a_stale_lease_is_dropped(farm: FakeFarm, agent: Agent) -> None:
    """409 on the upload: nothing is reported, the loop goes on."""
    farm.stale.add("artifacts")
    farm.ready.append(render_order(4))
    assert agent.run() == 1
    assert "complete" not in farm.calls


def test_files_the_farm_does_not_take_fail_the_unit_as_ours(farm: FakeFarm, agent: Agent) -> None:
    """422 on the upload is no fault of the request, and the farm hears why."""
    farm.bad.add("artifacts")
    farm.ready.append(render_order(4))
    agent.run()
    assert (farm.completed[0].outcome, farm.completed[0].cause) == (Outcome.FAILED, Cause.FARM)
    assert "larger than allowed" in farm.completed[0].message
    assert farm.completed[0].receipt.gpu_ms == 0
    assert farm.completed[0].receipt.wasted_gpu_ms > 50, "a micro-batch was painted"


def test_a_report_the_farm_does_not_take_is_dropped(farm: FakeFarm, agent: Agent) -> None:
    """422 on complete ends this unit, not the worker."""
    farm.bad.add("complete")
    farm.ready.append(render_order(4))
    assert agent.run() == 1
    assert farm.completed == []


def test_a_refused_worker_stops_with_a_clear_message(farm: FakeFarm, agent: Agent) -> None:
    """401 while it works: the unit is let go and `run` says why."""
    farm.ready.append(render_order(2000))
    watch = when(busy(farm), lambda: setattr(farm, "refuses", True))
    with pytest.raises(Refused, match="no valid key"):
        agent.run()
    watch.join()
    assert agent.leaving


def test_a_killed_engine_fails_its_unit_and_is_started_again(farm: FakeFarm, agent: Agent) -> None:
    """kill -9 of the child: the machine's fault, nothing charged; the next unit works."""
    farm.ready.extend([render_order(2000), render_order(4)])

    def kill() -> None:
        assert agent.child.pid is not None
        psutil.Process(agent.child.pid).kill()

    watch = when(busy(farm), kill)
    agent.run()
    watch.join()
    crashed, done = farm.completed
    assert (crashed.outcome, crashed.cause, crashed.receipt.gpu_ms) == (
        Outcome.FAILED,
        Cause.WORKER,
        0,
    )
    assert crashed.receipt.wasted_gpu_ms > 0
    assert "SIGKILL" in crashed.message
    assert done.outcome is Outcome.DONE


@pytest.mark.slow
def test_a_hung_engine_is_killed(farm: FakeFarm, agent: Agent) -> None:
    """Heartbeats would keep a hung unit alive for ever; its silence ends it."""
    farm.ready.append(render_order(4, prompt="#hang", gpu_ms_limit=100))
    started = time.monotonic()
    agent.run()
    assert time.monotonic() - started < 60
    (report,) = farm.completed
    assert (report.outcome, report.cause) == (Outcome.FAILED, Cause.WORKER)
    assert "said nothing" in report.message


@pytest.mark.slow
def test_a_hung_engine_that_is_told_to_stop_is_killed(farm: FakeFarm, agent: Agent) -> None:
    """Cancelled, but deaf: killed after a lease and its grace."""
    farm.ready.append(render_order(4))
    agent.run()
    farm.beats.clear()
    farm.ready.append(render_order(4, prompt="#hang"))
    watch = when(lambda: len(farm.beats) > 10, lambda: setattr(farm, "verdict", Verdict.CANCEL))
    agent.run()
    watch.join()
    assert farm.completed[1].outcome is Outcome.FAILED
    assert "said nothing" in farm.completed[1].message


@pytest.mark.parametrize(
    ("prompt", "cause"), [("#fail-request", Cause.REQUEST), ("#fail-worker", Cause.WORKER)]
)
def test_errors_of_the_engine_are_reported_with_their_cause(
    farm: FakeFarm, agent: Agent, prompt: str, cause: Cause
) -> None:
    """The cause decides who pays, so it must arrive."""
    farm.ready.append(render_order(4, prompt=prompt))
    agent.run()
    assert (farm.completed[0].outcome, farm.completed[0].cause) == (Outcome.FAILED, cause)


def test_a_missing_or_damaged_input_is_never_the_requests_fault(
    farm: FakeFarm, agent: Agent
) -> None:
    """A segment that is not there, or not what its receipt says, fails the encode as ours."""
    farm.files["units/a/1/segment.mp4"] = b"something else"
    farm.ready.extend(
        [
            encode_order({"units/a/1/segment.mp4": b"what was reported"}, 4),
            encode_order({"units/b/1/segment.mp4": b"never there"}, 4),
        ]
    )
    agent.run()
    damaged, missing = farm.completed
    assert (damaged.cause, missing.cause) == (Cause.FARM, Cause.FARM)
    assert "SHA-256" in damaged.message
    assert "units/b/1/segment.mp4" in missing.message


def test_a_model_this_worker_does_not_have_is_its_own_fault(farm: FakeFarm, agent: Agent) -> None:
    """Another version of the model would paint other pixels: tried elsewhere, not charged."""
    other = render_order(4)
    work = other.work.model_copy(update={"model_version": "2"})
    farm.ready.append(other.model_copy(update={"work": work}))
    agent.run()
    assert farm.completed[0].cause is Cause.WORKER
    assert "fake 2" in farm.completed[0].message


def test_an_idle_worker_is_heard_of(farm: FakeFarm, agent: Agent) -> None:
    """Without a lease it beats less often, but it beats."""
    time.sleep(0.1 * 13)
    assert 1 <= len(farm.beats) <= 3
    assert farm.beats[0].leases == ()


@pytest.mark.parametrize("trouble", ["", "bad", "away"])
def test_paces_are_told_and_a_refusal_stops_nothing(
    farm: FakeFarm, agent: Agent, trouble: str
) -> None:
    """Told once; what a farm does not understand is said no more, to one that is away later."""
    known = {"bad": farm.bad, "away": farm.away}.get(trouble, set())
    farm.ready.append(render_order(4))
    known.add("heartbeat")
    agent.run()
    known.clear()
    farm.ready.append(render_order(4))
    agent.run()
    assert [done.outcome for done in farm.completed] == [Outcome.DONE] * 2
    told = [pace for beat in farm.beats for pace in beat.paces]
    assert len(told) == (0 if trouble == "bad" else 1)
    assert all(pace.model == "fake" and pace.step_ms > 70 for pace in told)


def test_a_worker_takes_its_first_model_up_before_it_has_work(
    farm: FakeFarm, warm_agent: Agent
) -> None:
    """The farm hears of its pace by a beat without leases, and no order was asked for."""
    warm_agent.taking_up.wait()
    assert "claim" not in farm.calls
    paces = [pace for beat in farm.beats for pace in beat.paces]
    assert [(pace.model, pace.width) for pace in paces] == [("fake", 64), ("fake", 32)]
    assert not any(beat.leases for beat in farm.beats)


def test_a_child_that_dies_taking_up_is_no_matter(farm: FakeFarm, warm_agent: Agent) -> None:
    """Its first order starts another."""
    assert warm_agent.child.pid
    psutil.Process(warm_agent.child.pid).kill()
    warm_agent.taking_up.wait()
    farm.ready.append(render_order(4))
    assert warm_agent.run() == 1
    assert farm.completed[0].outcome is Outcome.DONE
