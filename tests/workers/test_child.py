"""The child process on its own: what it says, what it keeps warm, how it ends."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from orchestrator.catalog import FAKE, Catalog
from orchestrator.states import Outcome, Verdict
from tests.workers.orders import render_order
from workers import devices
from workers.child import Assignment, Child, ChildDied, Crew, Progress, Setup
from workers.result import Result

SETUP = Setup(
    device=replace(devices.discover("cpu"), memory_mb=1000),
    threads=1,
    catalog=Catalog(
        {
            FAKE.id: FAKE,
            "half": replace(FAKE, id="half", memory_mb=500),
            "most": replace(FAKE, id="most", memory_mb=700),
        }
    ),
)


def assignment(folder: Path, frames: int = 4, **facts: object) -> Assignment:
    """Return a render unit to do in `folder`."""
    folder.mkdir(exist_ok=True)
    order = render_order(frames)
    work = order.work.model_copy(update=facts)
    return Assignment(order=order.model_copy(update={"work": work}), inputs={}, folder=folder)


def result_of(child: Child, progress: list[Progress] | None = None) -> Result:
    """Wait for a unit's result."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        message = child.receive(0.2)
        if isinstance(message, Result):
            return message
        if message and progress is not None:
            progress.append(message)
    raise AssertionError("there was no result")


@pytest.fixture
def child() -> Iterator[Child]:
    """A child that is gone afterwards."""
    child = Child(SETUP)
    yield child
    child.kill()


def test_a_child_tells_its_progress_and_its_result(child: Child, tmp_path: Path) -> None:
    """The first word says that the engine is loaded; the files are where they should be."""
    progress: list[Progress] = []
    child.begin(assignment(tmp_path, 8))
    result = result_of(child, progress)
    assert result.outcome is Outcome.DONE, result.message
    assert progress[0] == Progress(0, 0)
    assert progress[-1].frames_done == 8
    assert all(file.parent == tmp_path and file.exists() for file in result.files)


def test_a_wish_to_stop_is_for_one_unit_only(child: Child, tmp_path: Path) -> None:
    """The stopped unit ends at its next step; the next one runs in the same process."""
    child.begin(assignment(tmp_path, 400))
    pid = child.pid
    assert child.receive(20) == Progress(0, 0)
    child.stop(Verdict.CANCEL)
    stopped = result_of(child)
    assert (stopped.outcome, stopped.message) == (Outcome.STOPPED, "cancel")
    child.begin(assignment(tmp_path))
    assert result_of(child).outcome is Outcome.DONE
    assert child.pid == pid


def test_a_child_does_not_mind_the_signals_of_its_group(child: Child, tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM are for the parent, even while the child still imports."""
    child.start()
    assert child.pid is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(child.pid, number)
    child.begin(assignment(tmp_path))
    assert result_of(child).outcome is Outcome.DONE


def test_a_dead_child_is_reported_and_replaced(child: Child, tmp_path: Path) -> None:
    """`receive` says how it ended, its FFmpeg goes with it, and `begin` starts another."""
    child.begin(assignment(tmp_path, 400))
    while not (ffmpegs := _children(child)):
        child.receive(0.05)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(ChildDied, match="SIGKILL"):
        result_of(child)
    _, alive = psutil.wait_procs(ffmpegs, timeout=20)
    assert alive == []
    child.begin(assignment(tmp_path))
    assert result_of(child).outcome is Outcome.DONE


def test_a_kill_takes_everything_the_child_started(child: Child, tmp_path: Path) -> None:
    """Nothing is left when `kill` returns, and a second one does no harm."""
    child.begin(assignment(tmp_path, 400))
    while not (ffmpegs := _children(child)):
        child.receive(0.05)
    pid = child.pid
    child.kill()
    _, alive = psutil.wait_procs(ffmpegs, timeout=20)
    assert (alive, child.pid, psutil.pid_exists(pid or 0)) == ([], None, False)
    child.kill()


def _children(child: Child) -> list[psutil.Process]:
    return [p for p in psutil.Process(child.pid).children() if "ffmpeg" in p.name()]


def test_warm_models_make_room_for_one_that_does_not_fit(tmp_path: Path) -> None:
    """Of 1000 MB 800 are for weights: 500 and 1 fit, 700 drives the model used longest ago out."""
    crew = Crew(SETUP)
    for model, warm in (
        ("half", ["half"]),
        ("fake", ["half", "fake"]),
        ("half", ["fake", "half"]),
        ("most", ["most"]),
        ("fake", ["most", "fake"]),
    ):
        crew.run(assignment(tmp_path, model=model), lambda: None, lambda progress: None)
        assert list(crew._engines) == warm, model
    crew.unload()
