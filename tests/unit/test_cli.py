"""The command line's words: help, usage errors, exit codes, messages, names."""

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from orchestrator import cli
from orchestrator.cli import destination, output, progress, render, usage
from orchestrator.cli.checks import Finding, _model, _run, _variables
from orchestrator.cli.client import Client
from orchestrator.errors import BadRequest, BudgetExceeded, NotFound, Unavailable
from orchestrator.remedies import Say

JOB = {
    "id": "job_1",
    "state": "rendering",
    "pause_reason": None,
    "origin": None,
    "session_id": "ses_1",
    "model": "fake",
    "prompt": "a ball",
    "negative_prompt": "",
    "seconds": 2.0,
    "fps": 12,
    "width": 64,
    "height": 32,
    "on_exhausted": "pause",
    "seed": 7,
    "steps": 4,
    "interpolate": 1,
    "upscale": 2,
    "truncated": False,
    "frames_total": 24,
    "frames_done": 6,
    "shots": [{"prompt": "a ball", "frames": 24}],
    "usage": {
        "gpu_seconds": 1.25,
        "held_gpu_seconds": 3.0,
        "max_gpu_seconds": None,
        "over_quote_gpu_seconds": 0.0,
    },
    "error": None,
}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    """Run `farm` in this process; returns exit code, stdout and stderr."""

    def farm(*args: str) -> tuple[int, str, str]:
        code = cli._run(list(args))
        told = capsys.readouterr()
        return code, told.out, told.err

    return farm


def test_help_names_every_command(run) -> None:
    """`farm --help` lists all commands and exits with 0."""
    code, out, _ = run("--help")
    assert code == 0
    assert all(name in out for name in cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_is_there(name: str) -> None:
    """Each command's module has the command and its docstring is its help."""
    context = click.Context(cli.farm)
    _, command, _ = cli.farm.resolve_command(context, [name])
    assert command is not None
    assert command.help


def test_help_imports_nothing_heavy() -> None:
    """Listing the commands imports no torch, web, workers, HTTP client or database."""
    script = (
        "import sys; from orchestrator import cli; cli._run(['--help']);"
        "from orchestrator.cli import render;"
        "bad = {'torch', 'web', 'workers', 'httpx', 'sqlalchemy', 'celery'} & set(sys.modules);"
        "sys.exit(str(bad) if bad else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "args",
    [
        ("nothing",),
        ("render",),
        ("render", "x", "--size", "big"),
        ("render", "x", "--seconds", "0"),
        ("render", "x", "--max-gpu-seconds", "1.2345"),
        ("render", "x", "--max-gpu-seconds", "nan"),
        ("render", "x", "--image", "/not/there.png"),
        ("render", "x", "-o", "/not/there/x.mp4"),
        ("render", "x", "-o", "/"),
        ("render", "x", "--server", "ftp://farm"),
        ("session", "topup", "default", "-1"),
        ("usage", "--since", "soon"),
    ],
)
def test_misuse_exits_with_two(run, args: tuple[str, ...]) -> None:
    """A command not understood exits with 2, before any farm starts, with nothing on stdout."""
    code, out, err = run(*args)
    assert (code, out) == (2, "")
    assert err


def test_an_unreachable_farm_exits_with_six(run) -> None:
    """With --json the refusal is one document; people read what to do next."""
    code, out, err = run("jobs", "ls", "--server", "http://127.0.0.1:9", "--json")
    assert code == 6
    assert json.loads(out)["error"]["code"] == "unavailable"
    assert "Next: " in err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadRequest(), 2),
        (BudgetExceeded(), 3),
        (NotFound(), 4),
        (Unavailable(), 6),
        (output.Problem("not_allowed", "No.", Say("Ask.")), 5),
        (output.Problem("idempotency_mismatch", "No.", Say("Ask.")), 2),
        (output.Problem("conflict", "No.", Say("Wait.")), 1),
    ],
)
def test_problems_have_exit_codes(error, code: int) -> None:
    """A problem's code decides the exit code, whether it is ours or came over the wire."""
    assert output.exit_code(error) == code


def test_a_line_says_stage_frames_and_seconds() -> None:
    """The progress line has frames done, and GPU-seconds used, held and at most."""
    line = progress.summary(JOB, 60.0)
    assert line == "rendering · 6/24 frames · GPU-s 1.25 used / 3 held / 60 limit"


@pytest.mark.parametrize(
    ("state", "reason", "ended"),
    [
        ("rendering", None, False),
        ("paused", "user", False),
        ("paused", "budget", True),
        ("succeeded", None, True),
        ("failed", None, True),
    ],
)
def test_a_paused_job_waits_for_people(state: str, reason: str | None, ended: bool) -> None:
    """Following stops at an end or at an empty budget, not where a person paused."""
    assert progress.has_ended({**JOB, "state": state, "pause_reason": reason}) is ended


@pytest.mark.parametrize(("state", "code"), [("paused", 3), ("failed", 1), ("cancelled", 1)])
def test_no_video_is_explained(state: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A job without a video says what it cost and what to do next."""
    job = {**JOB, "state": state, "pause_reason": "budget" if state == "paused" else None}
    assert render.ended(job, as_json=True) == code
    told = capsys.readouterr()
    assert json.loads(told.out)["output"] is None
    assert "1.25 GPU-seconds were charged" in told.err
    assert "Next: " in told.err


def test_names_are_slugs_that_are_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A video is named after its prompt, in any script, with a number when that is taken."""
    monkeypatch.chdir(tmp_path)
    assert destination.free_name("A red/ball: ../rolls!") == "a-red-ball-rolls.mp4"
    Path("a-red-ball-rolls.mp4").touch()
    assert destination.free_name("A red ball rolls") == "a-red-ball-rolls-2.mp4"
    Path("a-red-ball-rolls-2.mp4").symlink_to("nowhere")
    assert destination.free_name("A red ball rolls") == "a-red-ball-rolls-3.mp4"
    assert destination.free_name("…") == "video.mp4"
    long = destination.free_name("𠮷" * 48)
    assert len(long.encode()) <= 100
    assert long.removesuffix(".mp4") == "𠮷" * 24


def test_a_rerun_that_cannot_be_whole_is_refused() -> None:
    """A farm that does not say what a job was asked with is named, and nothing is submitted."""
    with pytest.raises(BadRequest) as refused:
        render.rerun_body(Client("http://127.0.0.1:9", ""), JOB)
    assert JOB["id"] in refused.value.message


@pytest.mark.parametrize(("text", "seconds"), [("90m", 5400), ("7d", 604_800), ("1.5h", 5400)])
def test_spans_have_units(text: str, seconds: float) -> None:
    """A span is a number and its unit."""
    context = click.Context(usage.usage)
    assert usage.span(context, usage.usage.params[1], text) == seconds


def test_a_span_has_an_end(run) -> None:
    """A span beyond what the farm takes is refused here, by the name of its option."""
    code, out, err = run("usage", "--since", "99999999999w")
    assert (code, out) == (2, "")
    assert "--since" in err
    assert "thirty years" in err


def test_seconds_are_exact() -> None:
    """GPU-seconds keep their three places and no noughts."""
    assert [output.seconds(n) for n in (0.001, 2.5, 3600.0, None)] == ["0.001", "2.5", "3,600", "–"]


def test_unknown_variables_are_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor names a FARM_* variable nobody reads, and the one it may have meant."""
    monkeypatch.setenv("FARM_PROT", "80")
    (finding,) = [each for each in _variables() if "FARM_PROT" in each.found]
    assert finding.state == "broken"
    assert "FARM_PORT" in finding.mend


def test_other_bytes_are_broken(tmp_path: Path) -> None:
    """The doctor compares a model's files with the digests of its card."""
    (tmp_path / "weights").write_bytes(b"12")
    assert isinstance(_model("m", tmp_path, {}), Finding)
    assert _model("m", tmp_path, {"weights": "00"}).state == "broken"
    assert _model("m", tmp_path, {"gone": "00"}).state == "broken"


def test_a_missing_program_is_told() -> None:
    """A program that cannot start is an exit code and a reason, not a crash."""
    code, said = _run(["/not/there"])
    assert code == 1
    assert "/not/there" in said


def test_json_lists_are_one_document() -> None:
    """`farm bench --json` prints one document."""
    from orchestrator.cli.checkout import bench

    told = CliRunner().invoke(bench, ["--json"])
    assert {row["name"] for row in json.loads(told.output)["data"]} >= {"encode", "overhead"}


def test_a_bench_shows_progress() -> None:
    """Each step of a bench is a line on stderr, with the seconds so far; results are on stdout."""
    argv = [sys.executable, "-m", "orchestrator.cli", "bench", "gate", "--times", "10"]
    done = subprocess.run(
        [*argv, "--rounds", "2"], check=False, capture_output=True, text=True, timeout=60
    )
    assert "Measuring gate" in done.stderr
    assert " s  round 2 of 2\n" in done.stderr
    assert "round" not in done.stdout
    assert "ns a question" in done.stdout


def test_a_prompt_that_is_no_text_is_refused_before_anything_starts(run) -> None:
    """Bytes that are not UTF-8 get a sentence with their place, and exit code 2."""
    code, _, err = run("quote", "a \udcff cat")
    assert code == 2
    assert "character 3" in err
    assert "nothing was started" in err


def test_an_interrupt_while_python_tidies_up_is_heard() -> None:
    """A Ctrl-C that arrives in a weak reference's callback still ends the command."""
    script = """
import os, signal, time, weakref
from orchestrator import cli

cli.hear_interrupts()

def callback(_):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0)

class Thing: pass

thing = Thing()
held = weakref.ref(thing, callback)
del thing
try:
    time.sleep(60)
    print("lost")
except KeyboardInterrupt:
    print("heard")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=50
    )
    assert done.stdout == "heard\n"
