"""Parts of files, from a folder and from a store behind a URL alike."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import fsspec
import pytest
from flask import Flask, Response

from web.artifacts import Artifacts

DATA = bytes(range(256)) * 40
KEY = "units/unt_1/1/video.mp4"


@pytest.fixture(params=["folder", "store"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Artifacts]:
    """Artifacts with one file, in a folder and in fsspec's store in memory."""
    root = str(tmp_path) if request.param == "folder" else "memory://ranges"
    kept = Artifacts(root)
    kept.put(KEY, [DATA], sha256=sha256(DATA).hexdigest(), max_bytes=len(DATA))
    yield kept
    if request.param == "store":
        fsspec.filesystem("memory").rm("/ranges", recursive=True)


def fetch(files: Artifacts, wanted: str | None, **headers: str) -> Response:
    """Return the answer to a request for the file."""
    sent = headers | ({"Range": wanted} if wanted is not None else {})
    app = Flask("ranges", root_path=str(Path(__file__).parent))
    app.add_url_rule("/", view_func=lambda: files.send(KEY, mimetype="video/mp4"))
    with app.test_client() as client:
        answer = client.get("/", headers=sent)
        answer.get_data()
        answer.close()
        return answer


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=10-19", 10, 19),
        ("bytes=10000-", 10_000, 10_239),
        ("bytes=-100", 10_140, 10_239),
        ("bytes=10-999999999", 10, 10_239),
        ("Bytes=5-6", 5, 6),
    ],
)
def test_one_range_is_a_part(files: Artifacts, wanted: str, first: int, last: int) -> None:
    """A plain range gets its bytes and says which they are."""
    answer = fetch(files, wanted)
    assert answer.status_code == 206
    assert answer.get_data() == DATA[first : last + 1]
    assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(DATA)}"


@pytest.mark.parametrize(
    "wanted",
    [
        *(None, "", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=9-3", "bytes=0-1,5-6"),
        *("bytes=1-2-3", "bytes=0-1,", "lines=0-1", "bytes= 0-1", "bytes=--1", "bytes=0x1-0x2"),
        *("bytes=-10240", "bytes=-999999"),
        "bytes=" + "9" * 40 + "-",
    ],
)
def test_any_other_range_gets_the_whole_file(files: Artifacts, wanted: str | None) -> None:
    """A range that is malformed, or asks for several parts, is answered with everything."""
    answer = fetch(files, wanted)
    assert answer.status_code == 200
    assert answer.get_data() == DATA
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Content-Length"] == str(len(DATA))


def test_a_range_behind_the_end_cannot_be_satisfied(files: Artifacts) -> None:
    """A well-formed range that begins after the file is a 416 that names its size."""
    assert fetch(files, "bytes=999999-").status_code == 416


def test_an_unchanged_file_is_not_sent_again(files: Artifacts) -> None:
    """The ETag of a file stands for its content; If-Range with another one gets the whole file."""
    tag = fetch(files, None).headers["ETag"]
    assert fetch(files, None, **{"If-None-Match": tag}).status_code == 304
    assert fetch(files, "bytes=0-1", **{"If-Range": tag}).status_code == 206
    assert fetch(files, "bytes=0-1", **{"If-Range": '"other"'}).status_code == 200
