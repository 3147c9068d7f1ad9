"""A child that hangs: how soon that is found, what is then reported, and who is left alone."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from orchestrator import programs
from orchestrator.states import Cause, Outcome
from orchestrator.wire import CompleteRequest
from tests.workers.fake_farm import FakeFarm, busy, when
from tests.workers.orders import encode_order, plan_order, render_order
from tests.workers.test_ffmpeg import segment
from workers.agent import Agent

SEGMENT = "units/a/1/segment.mp4"


def freeze(agent: Agent) -> None:
    """Stop the child as SIGSTOP does: it lives, and does nothing."""
    assert agent.child.pid is not None
    os.kill(agent.child.pid, signal.SIGSTOP)


def killed(farm: FakeFarm, agent: Agent) -> tuple[CompleteRequest, float]:
    """Let the agent meet a hung child; return what it reports, and after how many seconds."""
    began = time.monotonic()
    agent.run()
    (report,) = farm.completed
    assert (report.outcome, report.cause) == (Outcome.FAILED, Cause.WORKER), report.message
    assert "said nothing" in report.message
    return report, time.monotonic() - began


@pytest.fixture
def ffmpeg(farm: FakeFarm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a segment at the farm and return the program that the child runs as FFmpeg."""
    real = programs.ffmpeg()
    farm.files[SEGMENT] = segment(tmp_path, 6).read_bytes()
    program = tmp_path / "ffmpeg"
    program.write_text(f'#!/bin/sh\nexec {real} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("FARM_FFMPEG", str(program))
    return program


def encode(farm: FakeFarm) -> None:
    """Order a video of the one segment."""
    farm.ready.append(encode_order({SEGMENT: farm.files[SEGMENT]}, 6, width=128, height=96))


def test_a_render_that_stops_between_steps_is_killed_after_lease_and_grace(
    farm: FakeFarm, agent: Agent
) -> None:
    """However much its limit would let it take, and though the parent's heartbeats go on."""
    farm.ready.append(render_order(400, gpu_ms_limit=60_000))
    watch = when(busy(farm), lambda: freeze(agent))
    report, seconds = killed(farm, agent)
    watch.join()
    assert seconds < 40
    # Some steps, and the lease of 3 s and the grace of 0.5 s in which nothing came.
    assert report.receipt.wasted_gpu_ms > 3_400
    assert sum(report.receipt.by_stage.values()) == report.receipt.wasted_gpu_ms


def test_a_plan_that_never_speaks_is_killed_as_soon(farm: FakeFarm, agent: Agent) -> None:
    """No model is loaded for it, so nobody waits for one."""
    freeze(agent)
    farm.ready.append(plan_order())
    report, seconds = killed(farm, agent)
    assert seconds < 40
    assert report.receipt.wasted_gpu_ms > 3_400


def test_a_hung_ffmpeg_is_found_in_an_encode(ffmpeg: Path, farm: FakeFarm, agent: Agent) -> None:
    """It takes no processor time, and goes with the child."""
    number = ffmpeg.with_name("number")
    ffmpeg.write_text(f"#!/bin/sh\necho $$ > {number}\nexec sleep 600\n")
    encode(farm)
    _, seconds = killed(farm, agent)
    assert seconds < 40
    with suppress(psutil.NoSuchProcess):
        assert psutil.Process(int(number.read_text())).status() == psutil.STATUS_ZOMBIE


def test_an_encode_that_works_is_left_to_work(ffmpeg: Path, farm: FakeFarm, agent: Agent) -> None:
    """It says nothing for twice its lease and is seen at work: the video is made."""
    real = ffmpeg.read_text().splitlines()[1]
    ffmpeg.write_text(f"#!/bin/sh\n(ulimit -t 7; while :; do :; done)\n{real}\n")
    encode(farm)
    agent.run()
    (report,) = farm.completed
    assert report.outcome is Outcome.DONE, report.message
    assert report.receipt.gpu_ms > 6_000
