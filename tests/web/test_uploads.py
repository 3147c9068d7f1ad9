"""Reference images: what is no honest still picture is refused, the rest is made anew."""

import base64
import io
import resource
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo
from werkzeug.test import TestResponse

from orchestrator.errors import TooMany, Unavailable
from orchestrator.farm import Farm, jobs
from orchestrator.farm.accounts import opening
from orchestrator.states import KeyKind
from tests.factories import account_id, with_painter
from tests.web import evil
from tests.web.conftest import until
from web.media import decode, pictures

EVIL = evil.uploads()
ROOT = Path(__file__).parent.parent.parent
GROWTH_BYTES: Final = 150 << 20
"""The most that the web process may grow by while all of them arrive, two at a time."""
PAYLOAD = b"<script>alert('planted')</script>"


def test_the_corpus_is_large() -> None:
    """There are more than a hundred evil uploads, no two alike."""
    assert len(set(EVIL.values())) >= 120


@pytest.mark.slow(12)
def test_no_evil_upload_is_taken_and_memory_stays(
    served: tuple[str, str, str], tmp_path: Path
) -> None:
    """A running farm refuses each in a sentence, keeps nothing of it, and grows by little."""
    url, token, _ = served
    (web,) = [p for p in psutil.Process().children(recursive=True) if _serves(p, url)]
    headers = {"Authorization": f"Bearer {token}"}
    most = [0]
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            most[0] = max(most[0], web.memory_info().rss)

    def send(name: str, data: bytes) -> tuple[str, int, str]:
        with httpx.Client(base_url=url, headers=headers, timeout=120) as client:
            answer = client.post("/v1/files", files={"file": (name, data)}, data={"purpose": "x"})
            return name, answer.status_code, answer.json()["error"]["message"]

    assert send("to warm up", evil.picture("GIF"))[1] == 400
    before = web.memory_info().rss
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(2) as people:
            told = list(people.map(send, EVIL, EVIL.values()))
        told += [send(name, data) for name, data in evil.heavy()]
    finally:
        ended.set()
        watcher.join()
    assert [(name, status) for name, status, _ in told if status != 400] == []
    assert not [said for *_, said in told if "Traceback" in said or "." not in said]
    print("grew by", (most[0] - before) >> 20, "MB")
    assert most[0] - before < GROWTH_BYTES
    assert not list((tmp_path / "home" / "artifacts").rglob("input*"))


def _serves(process: psutil.Process, url: str) -> bool:
    """Tell whether this is the gunicorn worker of a farm, which is its master's child."""
    port = int(url.rpartition(":")[2])
    with suppress(psutil.Error):  # one that has just ended
        mine = any(c.laddr and c.laddr.port == port for c in process.net_connections("tcp"))
        parent = process.parent()
        return mine and parent is not None and "gunicorn" in " ".join(parent.cmdline())
    return False


def test_a_decoder_is_bounded_before_it_reads() -> None:
    """The child has every limit while the upload is still on its way."""
    argv = [sys.executable, "-I", str(pictures.DECODER)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as child:
        process = psutil.Process(child.pid)
        wanted = {limit: (value, value) for limit, value in decode.LIMITS.items()}
        until(lambda: all(process.rlimit(limit) == wanted[limit] for limit in wanted))
        child.kill()
    assert decode.LIMITS[resource.RLIMIT_AS] <= 1 << 30
    assert decode.LIMITS[resource.RLIMIT_FSIZE] == 0


@pytest.mark.parametrize("door", ["job", "video", "data URL", "character", "page"])
def test_every_door_for_pictures_refuses_them(
    door: str, api: FlaskClient, app: Flask, web_farm: Farm
) -> None:
    """Not only files: jobs, videos, data URLs, characters and the form of the studio."""
    with_painter(web_farm)
    asked = {"prompt": "a cat", "model": "painter"}
    for name in ("an SVG", "a pickle", "a text bomb", "a moving PNG", "a GIF", "a TIFF"):
        file = (io.BytesIO(EVIL[name]), "a.png", "image/png")
        if door == "job":
            answer = api.post("/api/v1/jobs", data=asked | {"image": file})
        elif door == "video":
            answer = api.post("/v1/videos", data=asked | {"input_reference": file})
        elif door == "data URL":
            url = "data:image/png;base64," + base64.b64encode(EVIL[name]).decode()
            picture = {"input_reference": {"image_url": url}}
            answer = api.post("/v1/videos", json=asked | picture)
        elif door == "character":
            answer = api.post("/v1/videos/characters", data={"name": "Rex", "video": file})
        else:
            answer = _posted(app, web_farm, asked | {"image": file})
        assert answer.status_code in (400, 422), (name, answer.text)
    assert jobs.listing(web_farm, None).items == ()


def _posted(app: Flask, web_farm: Farm, fields: dict[str, Any]) -> TestResponse:
    browser = app.test_client()
    owner = account_id(web_farm)
    token = opening.replace_key(web_farm, account_id=owner, kind=KeyKind.SIGNIN, name="link")
    browser.get(f"/sign-in/{token}")
    csrf = browser.get("/").text.partition('name="csrf_token" value="')[2].partition('"')[0]
    return browser.post("/", data=fields | {"csrf_token": csrf})


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_every_honest_kind_of_jpeg_is_taken(mode: str) -> None:
    """Grey, colour, and the four inks of printers, which become colours."""
    for options in ({}, {"progressive": True}):
        _, kept = pictures.clean(pictures.Upload(evil.picture("JPEG", mode=mode, **options)))
        with Image.open(io.BytesIO(kept)) as taken:
            assert (taken.mode, taken.size) == ("RGB", (64, 48))


def test_the_children_stay_within_their_memory() -> None:
    """The largest picture taken uses less memory than a child may have.

    Looked at from a process of its own: the children of this one were larger.
    """
    size = (6250, 4000)
    assert size[0] * size[1] == pictures.MAX_PIXELS == decode.MAX_PIXELS
    program = (
        "import resource; from tests.web import evil; from web.media import pictures;"
        f"ending, kept = pictures.clean(pictures.Upload(evil.picture('JPEG', {size})));"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss;"
        "print(ending, len(kept), used)"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert told[0] == ".jpg"
    assert int(told[1]) > 1000
    assert int(told[2]) << 10 < decode.MEMORY_BYTES


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_picture_is_kept_without_what_was_hidden_in_it(kind: str) -> None:
    """EXIF, comments, and whatever hangs behind the picture are gone; the pixels are there."""
    exif = Image.Exif()
    exif[0x010E] = PAYLOAD.decode()
    exif[0x0112] = 6  # lies on its side
    ending, kept = pictures.clean(
        pictures.Upload(evil.picture(kind, exif=exif.tobytes()) + PAYLOAD + b"PK\x03\x04")
    )
    assert PAYLOAD not in kept
    with Image.open(io.BytesIO(kept)) as image:
        image.load()
        assert image.size == (48, 64)
        assert not image.getexif()
        assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    assert ending == (".jpg" if kind == "JPEG" else ".png")


def test_no_kind_of_metadata_is_kept() -> None:
    """Profiles, XMP, texts, comments and thumbnails are gone with whatever was in them."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    texts = PngInfo()
    texts.add_text("Comment", PAYLOAD.decode())
    texts.add_text("zipped", PAYLOAD.decode() * 50, zip=True)
    texts.add_itxt("XML:com.adobe.xmp", PAYLOAD.decode())
    for kind, options in (
        ("PNG", {"pnginfo": texts, "icc_profile": profile}),
        ("JPEG", {"xmp": PAYLOAD, "icc_profile": profile, "comment": PAYLOAD}),
        ("WEBP", {"xmp": PAYLOAD, "icc_profile": profile}),
    ):
        sent = evil.picture(kind, **options)
        assert PAYLOAD in sent
        _, kept = pictures.clean(pictures.Upload(sent))
        for planted in (PAYLOAD, b"ICC", b"adobe", b"iCCP", b"tEXt", b"zTXt", b"iTXt", b"eXIf"):
            assert planted not in kept, (kind, planted)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_honest_kind_of_png_is_taken(mode: str) -> None:
    """Bilevel, grey, palette, 16 bits, with and without transparency."""
    source = Image.linear_gradient("L").resize((64, 48))
    if mode == "I;16":
        image = Image.frombytes("I;16", (64, 48), b"\x00\x80" * (64 * 48))
    else:
        image = source.convert(mode)
    out = io.BytesIO()
    image.save(out, "PNG")
    _, kept = pictures.clean(pictures.Upload(out.getvalue()))
    with Image.open(io.BytesIO(kept)) as taken:
        assert taken.size == (64, 48)
        assert taken.mode in ("RGB", "RGBA")
        if mode == "I;16":
            assert taken.getpixel((5, 5)) == (128, 128, 128)


NAMES = [
    "../../../etc/passwd",
    "..\\..\\windows\\system32\\a.png",
    "/etc/shadow",
    "a.png/../../b",
    "%2e%2e%2fa.png",
    "con.png",
    "a\0.png",
    "-rf.png",
    ".htaccess",
    "a.php",
    "a.png.exe",
    "x" * 5000 + ".png",
    "`id`.png",
    "$(id).png",
    "a;id.png",
    "|id.png",
    "file:///etc/passwd",
    "http://x.test/a.png",
    "\u202egnp.exe",
    "💥.png",
    "<script>.png",
    "..",
    ".",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_files_name_never_names_a_place(api: FlaskClient, web_farm: Farm, name: str) -> None:
    """Whatever the client calls it, a picture is kept under its digest."""
    with_painter(web_farm)
    data = {"prompt": "a cat", "model": "painter", "image": (io.BytesIO(evil.picture()), name)}
    answer = api.post("/api/v1/jobs", data=data)
    assert answer.status_code == 202, answer.text
    image = jobs.get(web_farm, None, answer.get_json()["id"]).brief.image
    folder, digest, file = image.split("/")
    assert (folder, len(digest), file) == ("inputs", 64, "input.png")


LARGE = 5000
"""A side of a picture of as many pixels as are taken."""


def large(kind: str = "PNG", mode: str = "RGB") -> bytes:
    """Return a picture of 25 megapixels that is a small file."""
    out = io.BytesIO()
    Image.new(mode, (LARGE, LARGE), 1).save(out, kind)
    return out.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_large_picture_is_made_smaller(kind: str) -> None:
    """A kept picture has at most four times the pixels that are worth it, in the same shape."""
    data = large(kind)
    assert len(data) < 1 << 20
    _, kept = pictures.clean(pictures.Upload(data))
    with Image.open(io.BytesIO(kept)) as taken:
        assert taken.width == taken.height
        assert 1 <= taken.width * taken.height / decode.KEPT_PIXELS < 4


def test_a_picture_lies_and_shows_as_it_did_when_made_smaller() -> None:
    """Colours, transparency and which way is up are what they were."""
    image = Image.new("RGBA", (6000, 3000), (200, 0, 0, 255))
    image.paste((0, 0, 100, 0), (0, 0, 6000, 1500))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    out = io.BytesIO()
    image.save(out, "PNG", exif=exif.tobytes())
    _, kept = pictures.clean(pictures.Upload(out.getvalue()))
    with Image.open(io.BytesIO(kept)) as taken:
        assert taken.width == 2 * taken.height < 6000
        assert taken.getpixel((9, 9)) == (200, 0, 0, 255)
        assert taken.getpixel((9, taken.height - 9))[3] == 0  # type: ignore[index]


def test_an_account_has_one_place_and_others_theirs() -> None:
    """While one account's pictures are decoded or wait, another account's has a place at once."""
    places = pictures.Places(most=2, waiting=4, seconds=0.05)
    mine, theirs = (pictures.Upload(b"", account=name) for name in ("a", "b"))
    with places.taken(mine):
        with pytest.raises(Unavailable) as none, places.taken(pictures.Upload(b"", account="a")):
            pass
        assert none.value.data["retry_after_seconds"] > 0
        with places.taken(theirs):
            assert theirs.turn.is_set()
    with places.taken(pictures.Upload(b"", account="a")):
        pass


def test_who_waits_for_a_place_is_few() -> None:
    """An account whose pictures stand in line already is told so at once, and memory is bounded."""
    places = pictures.Places(most=1, waiting=2, seconds=60)
    waiting = [pictures.Upload(b"", account="a") for _ in range(2)]

    def stand(upload: pictures.Upload) -> None:
        with suppress(Unavailable), places.taken(upload):
            pass

    with places.taken(pictures.Upload(b"", account="a")), ThreadPoolExecutor(2) as people:
        stood = [people.submit(stand, each) for each in waiting]
        until(lambda: len(places._line) == 2)
        with pytest.raises(TooMany), places.taken(pictures.Upload(b"", account="a")):
            pass
        for each in waiting:
            each.drop()
        for each in stood:
            each.result(30)
    assert not places._line, "who hung up stands in line no more"


def test_no_place_is_had_for_ever(api: FlaskClient) -> None:
    """A picture that finds all places taken is a 503 that says when to come back."""
    full = pictures.Places(most=0, waiting=4, seconds=0.05)
    kept, pictures.places = pictures.places, full
    try:
        file = {"file": (io.BytesIO(evil.picture()), "a.png")}
        answer = api.post("/v1/videos/characters", data={"name": "Rex", "video": file["file"]})
    finally:
        pictures.places = kept
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0


def test_a_hung_up_clients_picture_is_dropped(served: tuple[str, str, str]) -> None:
    """Its child is ended at once, and nothing is kept."""
    url, token, _ = served
    (web,) = [p for p in psutil.Process().children(recursive=True) if _serves(p, url)]
    picture = evil.picture("PNG", (5000, 5000))
    asked = httpx.Request(
        "POST",
        f"{url}/v1/videos/characters",
        headers={"Authorization": f"Bearer {token}"},
        data={"name": "Rex"},
        files={"video": ("a.png", picture)},
    )
    body = asked.read()
    head = "".join(f"{name}: {value}\r\n" for name, value in asked.headers.items())
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as client:
        client.sendall(f"POST /v1/videos/characters HTTP/1.1\r\n{head}\r\n".encode() + body)
        until(web.children)
        (child,) = web.children()
        child.suspend()  # it would be done by itself
    until(lambda: not web.children(), seconds=pictures.WAIT_SECONDS / 2)
    listed = httpx.get(f"{url}/v1/videos/characters", headers={"Authorization": f"Bearer {token}"})
    assert "Rex" not in listed.text
