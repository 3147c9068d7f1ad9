"""`farm render` and its friends, from an empty home to a video."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest

from tests.acceptance.conftest import Cli

pytestmark = pytest.mark.slow(20)


@pytest.mark.core
def test_one_command_makes_a_video_that_plays(cli: Cli, tmp_path: Path) -> None:
    """On an empty home, `farm render` writes H.264 yuv420p with faststart and every frame."""
    out = tmp_path / "rocket.mp4"
    done = cli("render", "a rocket rises", "--model", "fake", "--seconds", "2", "-o", str(out))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(out)
    assert "24/24 frames" in done.stderr
    assert "held" in done.stderr
    with av.open(str(out)) as video:
        stream = video.streams.video[0]
        assert (stream.codec.name, stream.format.name) == ("h264", "yuv420p")
        assert sum(1 for _ in video.decode(stream)) == 24
    head = out.read_bytes()
    assert 0 < head.find(b"moov") < head.find(b"mdat"), "faststart: the index comes first"


def test_a_quote_starts_nothing_and_a_refusal_says_why(cli: Cli, tmp_path: Path) -> None:
    """Over budget is exit code 3 with what to do next; bad input is 2; neither writes a file."""
    out = tmp_path / "no.mp4"
    over = cli("render", "a cat", "--model", "fake", "--max-gpu-seconds", "0.001", "-o", str(out))
    assert over.returncode == 3, over.stderr
    assert "max_gpu_seconds" in over.stderr
    empty = cli("render", "", "--model", "fake", "-o", str(out))
    assert empty.returncode == 2, empty.stderr
    unknown = cli("render", "a cat", "--model", "nonsense", "-o", str(out))
    assert unknown.returncode == 2
    assert "fake" in unknown.stderr
    assert not out.exists()
    quote = cli.json("quote", "a cat", "--model", "fake")
    assert quote["fits"] is True
    told = cli("quote", "two kittens jump in the snow").stderr
    assert "understood: two cats · bounces · snow" in told
    assert cli("jobs", "ls").returncode == 6, "no farm runs, and the command says so"


def test_an_interrupt_cancels_and_leaves_nothing(cli: Cli, tmp_path: Path) -> None:
    """Ctrl-C off a terminal ends with 130, no file and no process."""
    out = tmp_path / "no.mp4"
    words = ("render", "a cat", "--model", "fake", "--seconds", "60", "-o", str(out))
    process = subprocess.Popen(
        cli.command(*words),
        env=cli.environment(),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr
    for line in process.stderr:
        if line.startswith("rendering"):
            break
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    process.stderr.close()
    assert not out.exists()


def test_a_home_remembers(cli: Cli, tmp_path: Path) -> None:
    """Jobs, budgets and receipts of one run are there in the next; nothing is charged twice."""
    first = cli.json("render", "a cat", "--model", "fake", "-o", str(tmp_path / "a.mp4"))
    cli.json("render", "a cat", "--model", "fake", "-o", str(tmp_path / "b.mp4"))
    up = subprocess.Popen(
        cli.command("up", "--json"), env=cli.environment(), stdout=subprocess.PIPE, text=True
    )
    try:
        assert up.stdout
        while not up.stdout.readline().rstrip().endswith("}"):
            pass
        jobs = cli.json("jobs", "ls")["data"]
        session = cli.json("session", "show", "default")
        receipt = cli.json("jobs", "receipt", first["id"])
    finally:
        up.terminate()
        assert up.wait(60) == 0
        assert up.stdout
        up.stdout.close()
    assert len(jobs) == 2
    spent = sum(job["usage"]["gpu_seconds"] for job in jobs)
    assert session["spent_gpu_seconds"] == pytest.approx(spent)
    assert session["held_gpu_seconds"] == 0
    assert receipt["final"]


def test_detached_farms_are_found_and_stopped(cli: Cli) -> None:
    """`farm up --detach` returns, `farm status` finds it without a key, `farm down` ends it."""
    told = cli.json("up", "--detach")
    assert set(told) >= {"url", "sign_in_url", "admin_key", "home"}
    assert told["admin_key"].startswith("farm_admin_")
    assert told["url"] == cli.json("status")["url"]
    assert cli.kill("workers.entry"), "nobody reads the farm's stdout when it tells of this"
    time.sleep(2)
    again = cli("up", "--json")
    assert again.returncode != 0
    assert "farm down" in again.stderr
    assert cli("down").returncode == 0
    time.sleep(0.2)
    assert cli("status").returncode == 6
    assert told["home"] == str(cli.home)


def test_two_renders_at_once_follow_each_other(cli: Cli, tmp_path: Path) -> None:
    """On an idle home the second command waits for the first one's farm to end, and is done too."""
    pair = [
        subprocess.Popen(
            cli.command("render", "a cat", "--model", "fake", "-o", str(tmp_path / f"{n}.mp4")),
            env=cli.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(2)
    ]
    told = [process.communicate(timeout=180)[1] for process in pair]
    assert [process.returncode for process in pair] == [0, 0], told
    assert any("waiting for its end" in words for words in told)
    assert len(list(tmp_path.glob("*.mp4"))) == 2


def test_the_first_quote_of_a_new_home_is_measured(
    cli: Cli, farm_up: Callable[..., dict[str, Any]]
) -> None:
    """The embedded farm's worker has timed its model before the farm answers, on nobody's bill."""
    farm_up()
    quote = cli.json("quote", "a cat in the snow", "--seconds", "2")
    assert quote["basis_kind"] == "device"
    assert quote["receipts"] == 0
    assert quote["basis"].startswith("measured on this device (cpu): the pace of")
    assert quote["available_gpu_seconds"] > 0
    rows = cli.json("session", "ledger", "default")["data"]
    assert {row["kind"] for row in rows} <= {"grant"}
