"""A meter counts device time by stage, and refuses the step that would pass the limit."""

import time
from collections import deque
from collections.abc import Iterable

import pytest

from orchestrator.receipt import DECODE, DENOISE, TRANSFER
from orchestrator.states import Cause, Outcome, Verdict
from workers.meter import LOAD, TEXT_ENCODE, CpuTimer, Meter, Stopped


class Ticks:
    """A device whose marks are read from a list of milliseconds."""

    def __init__(self, marks: Iterable[float], ahead: int = 0) -> None:
        self.ahead = ahead
        self.waits: list[float] = []
        self._marks = deque(marks)

    def mark(self) -> float:
        """Return the next planned time."""
        return self._marks.popleft()

    def ms_between(self, start: float, end: float) -> float:
        """Note that the host waited for `end`."""
        self.waits.append(end)
        return end - start

    def waited_ms(self, start: float, end: float) -> float:
        """Nobody else has it."""
        return 0.0


def test_stages_sum_to_what_was_spent() -> None:
    """Thirds of milliseconds round up once, and every stage is a whole number."""
    meter = Meter(limit_gpu_ms=100, timer=Ticks([0, 1 / 3, 1, 4 / 3, 2, 7 / 3]))
    for stage in (TEXT_ENCODE, DENOISE, TRANSFER):
        with meter.stage(stage):
            pass
    assert meter.spent_gpu_ms == 1
    assert sum(meter.by_stage.values()) == 1


def test_a_step_runs_while_it_and_the_decode_fit() -> None:
    """Of 10 ms steps with a 5 ms decode, three fit a limit of 35 ms."""
    meter = Meter(
        limit_gpu_ms=35, step_prior_ms=10, decode_prior_ms=5, timer=Ticks(range(0, 100, 10))
    )
    answers = []
    with meter.stage(DENOISE):
        for _ in range(4):
            answers.append(not meter.refusal())
            if answers[-1]:
                meter.step_done()
    assert answers == [True, True, True, False]


def test_the_slowest_step_seen_replaces_the_prior() -> None:
    """A prior of 1 ms is forgotten once a step took 20 ms."""
    meter = Meter(limit_gpu_ms=50, step_prior_ms=1, timer=Ticks([0, 20, 40, 40]))
    with meter.stage(DENOISE):
        assert not meter.refusal()
        meter.step_done()
        assert not meter.refusal()
        meter.step_done()
        assert meter.refusal()


def test_a_slow_first_step_is_forgotten_with_the_second() -> None:
    """One-time work of the device in the first step does not shorten the lease."""
    meter = Meter(limit_gpu_ms=100, timer=Ticks([0, 60, 70, 70]))
    with meter.stage(DENOISE):
        meter.step_done()
        assert meter.refusal()
        meter.step_done()
        assert not meter.refusal()


@pytest.mark.parametrize("verdict", [Verdict.PAUSE, Verdict.CANCEL, Verdict.GONE])
def test_a_verdict_stops_the_loop_and_names_itself(verdict: Verdict) -> None:
    """The verdict that a heartbeat heard is the reason of the stop; `go` is none."""
    heard: list[Verdict | None] = [None, Verdict.GO, verdict]
    meter = Meter(limit_gpu_ms=100, stop=lambda: heard.pop(0))
    meter.before_step()
    meter.before_step()
    with pytest.raises(Stopped) as stopped:
        meter.before_step()
    assert stopped.value.reason == verdict.value


@pytest.mark.parametrize(
    ("verdict", "reason"),
    [(Verdict.PAUSE, "limit"), (Verdict.CANCEL, "cancel"), (Verdict.GONE, "gone")],
)
def test_over_the_limit_a_pause_is_called_by_its_cause(verdict: Verdict, reason: str) -> None:
    """The farm pauses whoever is over the limit; told so, it grants more the next time."""
    meter = Meter(limit_gpu_ms=10, step_prior_ms=20, stop=lambda: verdict)
    assert meter.refusal() == reason


def test_a_micro_batch_that_cannot_be_finished_is_not_begun() -> None:
    """After one of 40 ms, a second one within a limit of 70 ms would only be thrown away."""
    meter = Meter(limit_gpu_ms=70, timer=Ticks([0, 10, 20, 20, 40]))
    meter.before_batch()
    with meter.stage(DENOISE):
        meter.step_done()
        meter.step_done()
        meter.switch(DECODE)
    meter.keep()
    assert not meter.refusal()
    with pytest.raises(Stopped):
        meter.before_batch()


def test_a_switch_moves_the_clock_to_the_next_stage() -> None:
    """Time before the switch is denoise, after it decode, and nothing is lost between."""
    meter = Meter(limit_gpu_ms=100, timer=Ticks([0, 7, 9]))
    with meter.stage(DENOISE):
        meter.switch(DECODE)
    assert meter.by_stage == {DENOISE: 7, DECODE: 2}


def test_a_device_may_run_ahead_and_the_gate_counts_what_is_queued() -> None:
    """The host waits for the step before the last; the unmeasured one counts as the slowest."""
    ticks = Ticks([0, 10, 20, 30, 30], ahead=1)
    meter = Meter(limit_gpu_ms=30, step_prior_ms=10, timer=ticks)
    with meter.stage(DENOISE):
        meter.step_done()
        assert ticks.waits == []
        meter.step_done()
        assert ticks.waits == [10]
        assert not meter.refusal()
        meter.step_done()
        assert ticks.waits == [10, 20]
        assert meter.refusal()
    assert meter.spent_gpu_ms == 30


def test_load_is_measured_and_not_spent() -> None:
    """Model load is the farm's: it is on the receipt, not in the limit or the stages."""
    meter = Meter(limit_gpu_ms=10, timer=Ticks([0, 5000, 5000, 5003]))
    with meter.stage(LOAD):
        pass
    with meter.stage(DENOISE):
        pass
    receipt = meter.receipt(Outcome.DONE)
    assert (receipt.load_gpu_ms, receipt.gpu_ms, receipt.by_stage) == (5000, 3, {DENOISE: 3})


@pytest.mark.parametrize(
    ("outcome", "cause", "gpu_ms", "wasted_gpu_ms"),
    [
        (Outcome.DONE, None, 30, 0),
        (Outcome.STOPPED, None, 20, 10),
        (Outcome.FAILED, Cause.REQUEST, 30, 0),
        (Outcome.FAILED, Cause.WORKER, 0, 30),
        (Outcome.FAILED, Cause.FARM, 0, 30),
    ],
)
def test_who_pays_follows_the_outcome(
    outcome: Outcome, cause: Cause | None, gpu_ms: int, wasted_gpu_ms: int
) -> None:
    """Of 30 ms, 20 of them in a finished micro-batch, the receipt charges by outcome and cause."""
    meter = Meter(limit_gpu_ms=100, timer=Ticks([0, 20, 20, 30]))
    with meter.stage(DENOISE):
        pass
    meter.keep()
    with meter.stage(DENOISE):
        pass
    receipt = meter.receipt(outcome, cause)
    assert (receipt.gpu_ms, receipt.wasted_gpu_ms) == (gpu_ms, wasted_gpu_ms)
    assert sum(receipt.by_stage.values()) == receipt.gpu_ms + receipt.wasted_gpu_ms


def test_an_overrun_is_never_charged() -> None:
    """A decode slower than its reserve passes the limit; what passed it is wasted, not billed."""
    meter = Meter(limit_gpu_ms=10, timer=Ticks([0, 12.5]))
    with meter.stage(DECODE):
        pass
    meter.keep()
    assert meter.receipt(Outcome.STOPPED).gpu_ms == 10
    assert meter.receipt(Outcome.DONE).wasted_gpu_ms == 3


def test_a_cpu_counts_what_its_threads_computed() -> None:
    """A thread that waits costs nothing and is told apart; no charge is above the clock."""
    timer = CpuTimer(1)
    start = timer.mark()
    time.sleep(0.05)
    asleep = timer.mark()
    sum(number * number for number in range(200_000))
    end = timer.mark()
    assert timer.waited_ms(start, asleep) > timer.ms_between(start, asleep)
    assert 0 < timer.ms_between(asleep, end) <= 1000 * (end[0] - asleep[0])
    both = timer.ms_between(start, end) + timer.waited_ms(start, end)
    assert both == pytest.approx(1000 * (end[0] - start[0]))


def test_threads_share_the_time_they_computed() -> None:
    """Twice the threads is half the device time, whoever else has the cores meanwhile."""
    one, two = CpuTimer(1), CpuTimer(2)
    start = one.mark()
    sum(number * number for number in range(200_000))
    end = one.mark()
    assert two.ms_between(start, end) <= one.ms_between(start, end)


def test_what_was_waited_for_stands_among_the_hosts_time() -> None:
    """So that a report of a busy host leaves nothing unexplained."""
    meter = Meter(limit_gpu_ms=10**6, timer=CpuTimer(1))
    with meter.stage(DENOISE):
        time.sleep(0.03)
    receipt = meter.receipt(Outcome.DONE, host_ms={"fetch": 3})
    assert receipt.host_ms["fetch"] == 3
    assert receipt.host_ms["wait"] >= 10
    assert receipt.gpu_ms < 30
