"""`farm jobs rerun`: the same job again, whole, from files that are not sent again."""

import signal
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Cli, until

pytestmark = pytest.mark.slow(20)

Up = Callable[..., dict[str, Any]]
DATA = Path(__file__).parents[1] / "data"


def test_a_rerun_has_scenes_picture_negatives_and_cap(cli: Cli, farm_up: Up) -> None:
    """The second job is the first one in all that was asked; its picture is the same file."""
    farm_up("--workers", "0")
    asked = ("--storyboard", str(DATA / "rerun_storyboard.csv"), "--image")
    asked += (str(DATA / "reference.jpg"), "--model", "tiny_world", "--max-gpu-seconds", "200")
    words = ("render", "cartoon style", *asked, "--on-exhausted", "finish", "--fps", "12")
    follows = subprocess.Popen(
        cli.command(*words, "-o", str(cli.home / "x.mp4")),
        env=cli.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: cli.json("jobs", "ls")["data"])
        first = cli.json("jobs", "show", cli.json("jobs", "ls")["data"][0]["id"])
        again = cli.json("jobs", "rerun", first["id"])
        third = cli.json("jobs", "rerun", again["id"])
    finally:
        follows.send_signal(signal.SIGINT)
        follows.wait(60)
    for job in (first, again, third):
        assert asked_for(job) == asked_for(first)
        assert job["usage"]["max_gpu_seconds"] == 200
        assert [(each["prompt"], each["negative_prompt"]) for each in job["shots"]] == [
            ("a dog runs, cartoon style", "cats"),
            ("a cat sleeps, cartoon style", ""),
        ]
        assert job["request"]["storyboard"] == [
            {"prompt": "a dog runs", "seconds": 0.2, "negative_prompt": "cats"},
            {"prompt": "a cat sleeps", "seconds": 0.3},
        ]
        assert job["request"]["image_of"] == job["id"]
    with sqlite3.connect(f"file:{cli.home / 'farm.sqlite'}?mode=ro", uri=True) as store:
        pictures = store.execute("SELECT image FROM jobs").fetchall()
    store.close()
    assert len(pictures) == 3
    assert len(set(pictures)) == 1
    assert (cli.home / "artifacts" / pictures[0][0]).is_file()


def asked_for(job: dict[str, Any]) -> dict[str, Any]:
    """Return what of a job was asked for, and what was made of it."""
    names = ("prompt", "model", "seed", "width", "height", "fps", "seconds", "steps", "shots")
    more = ("negative_prompt", "on_exhausted", "interpolate", "upscale", "session_id")
    request = {name: value for name, value in job["request"].items() if name != "image_of"}
    return {"request": request, **{name: job[name] for name in (*names, *more)}}
