"""Units that are stopped: paused, cancelled, or left by a worker that has to go."""

import pytest

from orchestrator.states import Cause, Outcome, Verdict
from orchestrator.wire import CHECKPOINT, CheckpointRef
from tests.workers.fake_farm import FakeFarm, busy, when
from tests.workers.orders import render_order
from workers import watch as watching
from workers.agent import Agent


@pytest.mark.parametrize("verdict", [Verdict.PAUSE, Verdict.CANCEL])
def test_a_verdict_stops_the_unit_and_keeps_whole_micro_batches(
    farm: FakeFarm, agent: Agent, verdict: Verdict
) -> None:
    """Paused or cancelled in the middle: reported as stopped, with the files of what is kept."""
    farm.ready.append(render_order(400, steps=2))
    watch = when(
        lambda: any(use.frames_done for beat in farm.beats for use in beat.leases),
        lambda: setattr(farm, "verdict", verdict),
    )
    agent.run()
    watch.join()
    (report,) = farm.completed
    assert (report.outcome, report.message) == (Outcome.STOPPED, verdict.value)
    assert 0 < report.receipt.frames_done < 400
    assert report.receipt.frames_done % 4 == 0
    names = {artifact.name for artifact in report.receipt.artifacts}
    assert names - {CHECKPOINT} == {"segment.mp4", "master.mkv", "strip.jpg"}


def test_leaving_reports_what_was_done(farm: FakeFarm, agent: Agent) -> None:
    """Told to go in the middle of a unit: it stops at the next step, and nothing new begins."""
    farm.ready.extend([render_order(2000, steps=50), render_order(4)])
    watch = when(busy(farm), agent.leave)
    agent.run()
    watch.join()
    (report,) = farm.completed
    assert (report.outcome, report.message) == (Outcome.STOPPED, "The worker had to go.")
    assert report.receipt.checkpoint_step > 0
    assert report.receipt.gpu_ms > 0
    assert farm.released == []
    assert len(farm.ready) == 1
    assert agent.run() == 0


def test_leaving_hands_a_deaf_unit_back(
    farm: FakeFarm, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that does not come to its next step is killed, and its unit handed back."""
    monkeypatch.setattr(watching, "LEAVE_SECONDS", 0.3)
    farm.ready.append(render_order(4))
    agent.run()
    farm.beats.clear()
    farm.ready.append(render_order(4, prompt="#hang"))
    watch = when(lambda: any(beat.leases for beat in farm.beats), agent.leave)
    agent.run()
    watch.join()
    assert [r.lease_id for r in farm.released] == [farm.beats[-1].leases[0].lease_id]
    assert len(farm.completed) == 1


def test_a_paused_unit_goes_on_at_its_step(farm: FakeFarm, agent: Agent) -> None:
    """The next lease takes up the checkpoint and ends with the digests of a whole run."""
    whole, first = render_order(4, steps=40), render_order(4, steps=40)
    farm.ready.append(whole)
    agent.run()
    farm.ready.append(first)
    farm.beats.clear()
    watch = when(
        lambda: any(use.gpu_ms > 1500 for beat in farm.beats for use in beat.leases),
        lambda: setattr(farm, "verdict", Verdict.PAUSE),
    )
    agent.run()
    watch.join()
    stopped = farm.completed[-1].receipt
    assert 0 < stopped.checkpoint_step < 40
    assert stopped.checkpoint_gpu_ms == stopped.gpu_ms > 0
    assert [file.name for file in stopped.artifacts] == [CHECKPOINT]
    farm.verdict = Verdict.GO
    ref = CheckpointRef(
        key=f"{first.lease_id}/{CHECKPOINT}",
        sha256=stopped.artifacts[0].sha256,
        step=stopped.checkpoint_step,
    )
    rest = render_order(4, steps=40)
    work = rest.work.model_copy(update={"checkpoint": ref})
    farm.ready.append(rest.model_copy(update={"work": work}))
    agent.run()
    done, at_once = farm.completed[-1].receipt, farm.completed[0].receipt
    assert done.frame_sha256 == at_once.frame_sha256
    assert done.gpu_ms < at_once.gpu_ms - 700, "half of the steps were done"


def test_a_checkpoint_of_other_frames_is_refused_as_ours(farm: FakeFarm, agent: Agent) -> None:
    """It would paint something else: the unit fails, uncharged, and the farm starts it anew."""
    farm.ready.append(render_order(400, steps=40))
    watch = when(busy(farm), lambda: setattr(farm, "verdict", Verdict.PAUSE))
    agent.run()
    watch.join()
    farm.verdict = Verdict.GO
    (file,) = (f for f in farm.completed[0].receipt.artifacts if f.name == CHECKPOINT)
    key = next(key for key in farm.files if key.endswith(CHECKPOINT))
    other = render_order(4, steps=40, prompt="a cat")
    ref = CheckpointRef(key=key, sha256=file.sha256, step=1)
    work = other.work.model_copy(update={"checkpoint": ref})
    farm.ready.append(other.model_copy(update={"work": work}))
    agent.run()
    report = farm.completed[-1]
    assert (report.outcome, report.cause) == (Outcome.FAILED, Cause.FARM)
    assert "another frames_sha256" in report.message
