"""Frames out of videos: masters without loss, uploads under limits, and what is no video."""

import io
import os
import random
import resource
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from threading import BoundedSemaphore
from typing import cast
from zipfile import ZipFile

import psutil
import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image

from orchestrator.catalog import FAKE, ModelCard
from orchestrator.errors import BadRequest
from orchestrator.farm import Farm, jobs
from orchestrator.model import Reference
from orchestrator.programs import ffmpeg
from orchestrator.states import UnitKind
from orchestrator.wire import MASTER
from tests.evil_media import media
from tests.factories import Clock, Hand, with_painter
from tests.receiver import Receiver, receiving
from tests.web.test_api_jobs import PNG
from web.media import film

CHARACTERS = "/v1/videos/characters"


def make(path: Path, *, source: str = "testsrc=size=64x48:rate=8:duration=1", **more: str) -> bytes:
    """Make a real video with FFmpeg and return it."""
    options = [word for name, value in more.items() for word in (f"-{name}", value)]
    argv = [ffmpeg(), "-loglevel", "error", "-f", "lavfi", "-i", source, *options, str(path)]
    subprocess.run(argv, check=True)
    return path.read_bytes()


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A master of eight frames, as workers write them."""
    path = tmp_path_factory.mktemp("film") / "master.mkv"
    return make(path, **{"c:v": "ffv1", "g": "1", "pix_fmt": "bgr0"})


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A short MP4, as people upload them."""
    return make(tmp_path_factory.mktemp("film") / "clip.mp4", pix_fmt="yuv420p")


def finished(api: FlaskClient, app: Flask, web_farm: Farm, clock: Clock, master: bytes) -> str:
    """Return a finished job of one unit, which has the master of eight frames."""
    asked = {"prompt": "a cat", "model": "painter", "seconds": 1, "fps": 8}
    job = api.post("/api/v1/jobs", json=asked).get_json()
    Hand(web_farm, clock, models=("fake", "painter")).work_off()
    for view in jobs.units(web_farm, None, job["id"]):
        if view.unit.kind is UnitKind.RENDER:
            assert view.lease
            key = view.lease.key(MASTER)
            digest = sha256(master).hexdigest()
            app.extensions["artifacts"].put(key, [master], sha256=digest, max_bytes=10**6)
    return str(job["id"])


def test_frames_come_without_loss(tmp_path: Path, master: bytes) -> None:
    """Every frame of a master is a PNG of its size, and no two of a moving picture are alike."""
    file = tmp_path / "master.mkv"
    file.write_bytes(master)
    found = list(film.frames(file))
    assert len(found) == len({sha256(png).digest() for png in found}) == 8
    for png in found:
        with Image.open(io.BytesIO(png)) as picture:
            picture.load()
            assert (picture.size, picture.mode) == ((64, 48), "RGB")
    assert film.last_frame(file) == found[-1]


def test_a_zip_has_every_frame_by_its_number(
    api: FlaskClient, app: Flask, web_farm: Farm, clock: Clock, master: bytes
) -> None:
    """frames.zip is a 404 before the first frame; then each is a PNG under its number."""
    with_painter(web_farm)
    waiting = api.post("/api/v1/jobs", json={"prompt": "a dog"}).get_json()["id"]
    assert api.get(f"/api/v1/jobs/{waiting}/frames.zip").status_code == 404
    job = finished(api, app, web_farm, clock, master)
    answer = api.get(f"/api/v1/jobs/{job}/frames.zip")
    assert (answer.status_code, answer.mimetype) == (200, "application/zip")
    with ZipFile(io.BytesIO(answer.data)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert names == [f"frame_{n:06}.png" for n in range(8)]
        assert archive.read(names[0]).startswith(b"\x89PNG")


def test_an_extension_starts_from_the_last_frame(
    api: FlaskClient, app: Flask, web_farm: Farm, clock: Clock, master: bytes, tmp_path: Path
) -> None:
    """A model that starts from a picture is given the last frame of the video it goes on from.

    One that has it behind its subjects is not: they would be in it a second time.
    """
    with_painter(web_farm)
    job = finished(api, app, web_farm, clock, master)
    asked = {"prompt": "it sleeps", "seconds": "1", "video[id]": job}
    longer = api.post("/v1/videos/extensions", data=asked).get_json()
    file = tmp_path / "master.mkv"
    file.write_bytes(master)
    kept = app.extensions["artifacts"].read(jobs.get(web_farm, None, longer["id"]).brief.image)
    pixels = [Image.open(io.BytesIO(png)).tobytes() for png in (kept, film.last_frame(file))]
    assert pixels[0] == pixels[1]
    with_painter(web_farm, uses_layout=True)
    laid = api.post("/v1/videos/extensions", data=asked).get_json()
    assert jobs.get(web_farm, None, laid["id"]).brief.image is None


def test_a_layout_goes_on_before_the_same_picture(
    api: FlaskClient, web_farm: Farm, clock: Clock
) -> None:
    """If a picture lies behind the subjects, an extension keeps it: the last frame has both."""
    cards = cast("dict[str, ModelCard]", web_farm.catalog.cards)
    cards["stage"] = replace(FAKE, id="stage", image_strength=1.0, uses_layout=True)
    form = {"prompt": "a cat", "model": "stage", "input_reference": (io.BytesIO(PNG), "a.png")}
    video = api.post("/v1/videos", data=form).get_json()
    Hand(web_farm, clock, models=("stage",)).work_off()
    asked = {"prompt": "it sleeps", "seconds": "1", "video[id]": video["id"]}
    longer = api.post("/v1/videos/extensions", data=asked).get_json()
    kept = [jobs.get(web_farm, None, each["id"]).image for each in (video, longer)]
    assert kept[0]
    assert kept[0] == kept[1]


def test_a_character_is_a_named_picture(
    api: FlaskClient, other: FlaskClient, web_farm: Farm, clip: bytes
) -> None:
    """One frame of a video, or a picture, is kept under a name, and starts a video by its id."""
    with_painter(web_farm)
    made = []
    for upload in (clip, PNG):
        form = {"name": "Rex", "video": (io.BytesIO(upload), "upload", "application/octet-stream")}
        made.append(api.post(CHARACTERS, data=form).get_json())
    assert [each["name"] for each in made] == ["Rex", "Rex"]
    assert made[0]["id"] != made[1]["id"]
    shown = api.get(f"{CHARACTERS}/{made[0]['id']}")
    assert shown.get_json() == made[0]
    assert other.get(f"{CHARACTERS}/{made[0]['id']}").status_code == 404
    for body in (
        {"json": {"prompt": "a dog", "model": "painter", "characters": [{"id": made[0]["id"]}]}},
        {"data": {"prompt": "a dog", "model": "painter", "characters[][id]": made[0]["id"]}},
    ):
        video = api.post("/v1/videos", **body).get_json()
        assert jobs.get(web_farm, None, video["id"]).brief.image.endswith("input.png")


@pytest.fixture
def outside() -> Iterator[Receiver]:
    """A server that nobody should ask."""
    with receiving() as server:
        yield server


def test_what_is_no_video_is_refused(
    api: FlaskClient, web_farm: Farm, outside: Receiver, tmp_path: Path
) -> None:
    """Files that are something else by their content make no character, and say so in a 400.

    Nothing that they name is opened, nobody is asked, and nothing is kept.
    """
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret beside the farm")
    corpus = media(str(secret), outside.url)
    assert len(corpus) >= 60
    for name, upload in corpus.items():
        form = {"name": "Rex", "video": (io.BytesIO(upload), "a.mp4", "video/mp4")}
        answer = api.post(CHARACTERS, data=form)
        assert answer.status_code == 400, (name, answer.text)
        assert answer.get_json()["error"]["message"]
        assert "the secret" not in answer.text
    assert outside.got == []
    with web_farm.store.read() as tx:
        assert tx.find(Reference) == []


def test_a_video_with_something_wrong_in_it_ends_in_time(clip: bytes) -> None:
    """Whatever bytes of a video are others: it is refused, or one frame comes of it."""
    chance = random.Random(5)
    moov = clip.index(b"moov")
    for _ in range(12):
        spoilt = bytearray(clip)
        for at in chance.sample(range(moov + 8, len(clip)), 12):
            spoilt[at] = chance.randrange(256)
        try:
            assert film.portrait(bytes(spoilt)).startswith(b"\x89PNG")
        except BadRequest as refused:
            assert refused.advice


def test_of_an_attachment_nothing_is_kept(tmp_path: Path) -> None:
    """A Matroska may carry files; a character made of it is one picture and nothing more."""
    planted = tmp_path / "planted.sh"
    planted.write_text("#!/bin/sh\necho planted\n")
    beside = {"attach": str(planted), "metadata:s:t": "mimetype=text/x-sh", "c:v": "libx264"}
    upload = make(tmp_path / "carries.mkv", **beside)
    assert b"echo planted" in upload
    png = film.portrait(upload)
    assert b"planted" not in png
    with Image.open(io.BytesIO(png)) as picture:
        assert picture.size == (64, 48)


def test_media_that_lie_are_refused(clip: bytes, tmp_path: Path) -> None:
    """Cut off, without a picture, or in a codec that is not on the list: none is decoded."""
    sound = make(tmp_path / "sound.mp4", source="sine=duration=1")
    strange = make(tmp_path / "strange.mkv", **{"c:v": "mjpeg"})
    for upload in (clip[:400], sound, strange):
        with pytest.raises(BadRequest):
            film.portrait(upload)


def test_a_huge_picture_ends_at_the_limits(tmp_path: Path) -> None:
    """A clip of a few kilobytes whose one frame has 30 megapixels is refused."""
    huge = make(
        tmp_path / "huge.mkv",
        source="color=size=6000x5000:rate=1:duration=1",
        **{"c:v": "ffv1", "pix_fmt": "gray", "frames:v": "1"},
    )
    assert len(huge) < 10**6
    with pytest.raises(BadRequest):
        film.portrait(huge)


def test_ffmpeg_ends_when_nobody_listens(tmp_path: Path) -> None:
    """A download that is broken off takes its FFmpeg with it."""
    file = tmp_path / "long.mkv"
    make(file, source="testsrc=size=640x480:rate=25:duration=20", **{"c:v": "ffv1"})
    found = film.frames(file)
    next(found)
    mine = [child for child in psutil.Process().children() if "ffmpeg" in child.name()]
    assert len(mine) == 1
    found.close()
    assert not mine[0].is_running()


def test_ffmpeg_is_bound_while_it_decodes(tmp_path: Path) -> None:
    """It has a demuxer, a protocol and decoders by name, no stdin, limits, and its own group."""
    file = tmp_path / "long.mkv"
    make(file, source="testsrc=size=320x240:rate=25:duration=8", **{"c:v": "ffv1"})
    found = film.frames(file)
    next(found)
    (mine,) = [child for child in psutil.Process().children() if "ffmpeg" in child.name()]
    argv = mine.cmdline()
    for name, value in (
        ("-protocol_whitelist", "file"),
        ("-codec_whitelist", film.DECODERS),
        ("-f", "matroska"),
        ("-i", f"file:{file}"),
    ):
        assert argv[argv.index(name) + 1] == value
    assert "-nostdin" in argv
    assert os.getpgid(mine.pid) == mine.pid != os.getpgid(0)
    for limit, most in (
        (resource.RLIMIT_AS, film.MEMORY_BYTES),
        (resource.RLIMIT_CPU, film.CPU_SECONDS),
        (resource.RLIMIT_FSIZE, 0),
    ):
        assert mine.rlimit(limit) == (most, most)
    found.close()


SLEEPER = "#!/bin/sh\nsleep 60.125 &\n"
"""An FFmpeg that is gone at once, and has left somebody behind who holds its output."""


def test_a_decoder_that_hangs_is_ended_with_all_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip: bytes
) -> None:
    """After its time FFmpeg and its whole group are killed, and the upload is refused."""
    monkeypatch.setattr(film, "UPLOAD_SECONDS", 1.0)
    program = tmp_path / "ffmpeg"
    program.write_text(SLEEPER)
    program.chmod(0o700)
    began = time.monotonic()
    with pytest.raises(BadRequest):
        film.portrait(clip, str(program))
    assert time.monotonic() - began < 55


def test_too_many_downloads_are_told_to_wait(
    api: FlaskClient,
    app: Flask,
    web_farm: Farm,
    clock: Clock,
    master: bytes,
    clip: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If every decoder is busy the answer is a 503; one that ends makes room; uploads go on."""
    with_painter(web_farm)
    monkeypatch.setattr(film, "WAIT_SECONDS", 0.0)
    monkeypatch.setattr(film, "_downloads", BoundedSemaphore(1))
    job = finished(api, app, web_farm, clock, master)
    with api.get(f"/api/v1/jobs/{job}/frames.zip", buffered=False) as slow:
        assert slow.status_code == 200
        busy = api.get(f"/api/v1/jobs/{job}/frames.zip")
        assert (busy.status_code, busy.get_json()["code"]) == (503, "unavailable")
        assert film.portrait(clip), "who downloads slowly keeps no upload waiting"
    assert api.get(f"/api/v1/jobs/{job}/frames.zip").status_code == 200
