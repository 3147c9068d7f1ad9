"""A device's memory of its own pace goes from one lease to the next, and not for ever."""

import math
from pathlib import Path

import pytest

from orchestrator.catalog import FAKE
from orchestrator.receipt import DECODE, DENOISE
from orchestrator.states import Outcome
from tests.workers.orders import render_order
from tests.workers.test_child import SETUP, assignment
from workers.child import Assignment, Crew
from workers.meter import HostTimer, Meter
from workers.pace import SHAPES, UNITS, Paces, pace_of
from workers.result import Result


def limited(folder: Path, gpu_ms_limit: int) -> Assignment:
    """Return a unit whose priors say 1 ms a step, which takes about 80 ms here."""
    asked = assignment(folder)
    order = asked.order.model_copy(update={"gpu_ms_limit": gpu_ms_limit})
    return Assignment(order=order, inputs={}, folder=folder)


def run(crew: Crew, asked: Assignment) -> Result:
    """Do one unit."""
    return crew.run(asked, lambda: None, lambda progress: None)


def test_a_model_is_timed_when_it_is_loaded_ahead() -> None:
    """At its native size and half of that; the fake engine sleeps as long as its card says."""
    crew = Crew(SETUP)
    native, half = crew.warm_up("fake")
    size = FAKE.native
    assert (native.model, native.model_version) == (FAKE.id, FAKE.version)
    assert (native.width, native.height, native.micro_batch) == (
        size.width,
        size.height,
        FAKE.micro_batch,
    )
    assert (half.width, half.height) == (size.width // 2, size.height // 2)
    megapixels = FAKE.micro_batch * size.megapixels
    assert native.step_ms >= FAKE.priors["cpu"].ms_per_frame_step_megapixel * megapixels
    assert 0 < half.step_ms < native.step_ms
    assert native.decode_ms > 0
    crew.unload()


def test_a_model_that_cannot_be_loaded_has_no_pace() -> None:
    """Its first order says why; the child lives."""
    crew = Crew(SETUP)
    assert crew.warm_up("nobody's") == ()


def test_the_first_unit_of_another_model_is_its_pace(tmp_path: Path) -> None:
    """Once, when the model is taken up; what was timed ahead is not timed again."""
    crew = Crew(SETUP)
    assert run(crew, limited(tmp_path, 60_000)).outcome is Outcome.DONE
    pace = crew.paced
    assert pace
    assert (pace.model, pace.width, pace.micro_batch) == ("fake", 64, 4)
    assert pace.step_ms >= 70
    crew.paced = None
    run(crew, limited(tmp_path, 60_000))
    assert crew.paced is None
    crew.unload()


@pytest.mark.parametrize("ms", [0.0, -1.0, 1e9, math.nan, math.inf])
def test_a_clock_that_jumps_is_no_pace(ms: float) -> None:
    """Between two marks a clock may stand, go back, or leap: nothing is said of that."""

    class Leaping(HostTimer):
        def ms_between(self, start: float, end: float) -> float:
            return ms

    meter = Meter.unlimited(Leaping())
    with meter.stage(DENOISE):
        meter.step_done()
        meter.switch(DECODE)
    meter.keep()
    assert pace_of(render_order().work, meter) is None


def test_the_second_lease_knows_what_the_first_one_saw(tmp_path: Path) -> None:
    """The quote says 1 ms a step: the first lease passes its limit by one, the second does none."""
    crew = Crew(SETUP)
    first = run(crew, limited(tmp_path, 30)).receipt
    assert first.gpu_ms + first.wasted_gpu_ms > 30
    second = run(crew, limited(tmp_path, 30))
    assert (second.outcome, second.message) == (Outcome.STOPPED, "limit")
    assert second.receipt.gpu_ms + second.receipt.wasted_gpu_ms == 0
    assert run(crew, limited(tmp_path, 60_000)).outcome is Outcome.DONE
    crew.unload()


def test_another_size_is_another_pace(tmp_path: Path) -> None:
    """A slow step at one size says nothing of a smaller one."""
    crew = Crew(SETUP)
    run(crew, limited(tmp_path, 60_000))
    other = assignment(tmp_path, width=32, height=32)
    order = other.order.model_copy(update={"gpu_ms_limit": 15})
    result = run(crew, Assignment(order=order, inputs={}, folder=tmp_path))
    assert result.receipt.gpu_ms + result.receipt.wasted_gpu_ms > 0
    crew.unload()


def test_one_slow_unit_among_others_is_a_hiccup(tmp_path: Path) -> None:
    """Its steps took six times as long; the unit after it is not refused for that."""
    crew = Crew(SETUP)
    run(crew, limited(tmp_path, 60_000))
    slow = render_order(4, prompt="#slow")
    run(crew, Assignment(order=slow, inputs={}, folder=tmp_path))
    after = run(crew, limited(tmp_path, 400)).receipt
    assert after.gpu_ms + after.wasted_gpu_ms > 0
    crew.unload()


def test_a_hiccup_is_forgotten_although_nothing_ran_since(tmp_path: Path) -> None:
    """A pace that no limit can hold would refuse every lease; the fourth one is tried again."""
    crew = Crew(SETUP)
    run(crew, limited(tmp_path, 30))
    tries = [run(crew, limited(tmp_path, 30)).receipt for _ in range(UNITS + 1)]
    used = [each.gpu_ms + each.wasted_gpu_ms for each in tries]
    assert used[:UNITS] == [0] * UNITS
    assert used[UNITS] > 0
    crew.unload()


def test_only_so_many_paces_are_kept() -> None:
    """A worker of a year has met every size there is."""
    paces = Paces()
    for width in range(1, 200):
        paces.after(render_order().work.model_copy(update={"width": width}), Meter.unlimited())
    assert len(paces._seen) == SHAPES
