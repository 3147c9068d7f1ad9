"""Reference images: what is no honest still picture is refused, the rest is made anew."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from PIL import Image

from orchestrator.errors import BadRequest
from orchestrator.farm import Farm, jobs
from tests.factories import with_painter
from tests.web import evil
from web import decode, pictures

EVIL = evil.uploads()
ROOT = Path(__file__).parent.parent.parent
PAYLOAD = b"<script>alert('planted')</script>"


def test_the_corpus_is_large() -> None:
    """There are at least sixty evil uploads."""
    assert len(EVIL) >= 60


@pytest.mark.parametrize("name", EVIL)
def test_no_evil_upload_is_taken(name: str) -> None:
    """Other formats, bombs, broken, moving and pretending files are all refused in a sentence."""
    with pytest.raises(BadRequest) as refused:
        pictures.clean(EVIL[name])
    assert refused.value.message.endswith((".", "!"))
    assert "Traceback" not in refused.value.message


def test_the_children_stay_within_their_memory() -> None:
    """The largest picture taken uses less memory than a child may have.

    Looked at from a process of its own: the children of this one were larger.
    """
    size = (6250, 4000)
    assert size[0] * size[1] == pictures.MAX_PIXELS == decode.MAX_PIXELS
    program = (
        "import resource; from tests.web import evil; from web import pictures;"
        f"ending, kept = pictures.clean(evil.picture('JPEG', {size}));"
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
    ending, kept = pictures.clean(evil.picture(kind, exif=exif.tobytes()) + PAYLOAD + b"PK\x03\x04")
    assert PAYLOAD not in kept
    with Image.open(io.BytesIO(kept)) as image:
        image.load()
        assert image.size == (48, 64)
        assert not image.getexif()
        assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    assert ending == (".jpg" if kind == "JPEG" else ".png")


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
    _, kept = pictures.clean(out.getvalue())
    with Image.open(io.BytesIO(kept)) as taken:
        assert taken.size == (64, 48)
        assert taken.mode in ("RGB", "RGBA")
        if mode == "I;16":
            assert taken.getpixel((5, 5)) == (127, 127, 127)


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
def test_a_files_name_never_names_a_place(api: FlaskClient, house: Farm, name: str) -> None:
    """Whatever the client calls it, a picture is kept under its digest."""
    with_painter(house)
    data = {"prompt": "a cat", "model": "painter", "image": (io.BytesIO(evil.picture()), name)}
    answer = api.post("/api/v1/jobs", data=data)
    assert answer.status_code == 202, answer.text
    image = jobs.get(house, None, answer.get_json()["id"]).brief["image"]
    folder, digest, file = image.split("/")
    assert (folder, len(digest), file) == ("inputs", 64, "input.png")
