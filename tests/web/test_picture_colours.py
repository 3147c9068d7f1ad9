"""Reference pictures are kept in sRGB, whatever their profile; odd ones of a kind are no fault."""

import io
from typing import Any, Final

import pytest
from flask.testing import FlaskClient
from PIL import Image, ImageCms

from orchestrator.errors import BadRequest
from orchestrator.farm import Farm, jobs
from orchestrator.wire import RenderWork
from tests.factories import Clock, Hand, with_painter
from tests.web.profiles import profile
from web.media import pictures

SIZE: Final = (24, 16)
SRGB: Final = (
    (0.43607, 0.22249, 0.01392),
    (0.38515, 0.71687, 0.09708),
    (0.14307, 0.06061, 0.71410),
)
LITTLE_CMS: Final = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
RED: Final = (234, 51, 35)
"""Of Display P3; in sRGB it is (255, 0, 0)."""


def saved(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Return a picture as a file."""
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def kept(data: bytes) -> Image.Image:
    """Return what the farm keeps of an upload."""
    _, made = pictures.clean(pictures.Upload(data))
    return Image.open(io.BytesIO(made))


def near(found: object, wanted: tuple[int, ...], off: int = 2) -> bool:
    """Tell whether a colour is another one but for rounding."""
    assert isinstance(found, tuple)
    return len(found) == len(wanted) and all(
        abs(a - b) <= off for a, b in zip(found, wanted, strict=True)
    )


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("JPEG", {"quality": 98}), ("WEBP", {"lossless": True})]
)
def test_display_p3_becomes_srgb(kind: str, options: dict[str, Any]) -> None:
    """A red that only a wide screen shows is the reddest there is; gray stays gray."""
    for colour, wanted in ((RED, (255, 0, 0)), ((120, 120, 120),) * 2):
        sent = saved(Image.new("RGB", SIZE, colour), kind, icc_profile=profile(), **options)
        assert near(kept(sent).getpixel((5, 5)), wanted), kind


@pytest.mark.parametrize("mode", ["P", "RGBA", "tRNS"])
def test_a_profile_counts_in_every_kind_of_png(mode: str) -> None:
    """With a palette, and with what is transparent, which stays so."""
    picture, options, wanted = Image.new("RGB", SIZE, RED), {}, (255, 0, 0)
    if mode == "P":
        picture = picture.convert("P", palette=Image.Palette.ADAPTIVE)
    elif mode == "RGBA":
        picture.putalpha(77)
        wanted = (255, 0, 0, 77)
    else:
        options, wanted = {"transparency": RED}, (255, 0, 0, 0)
    assert near(kept(saved(picture, icc_profile=profile(), **options)).getpixel((5, 5)), wanted)


def test_srgb_by_any_name_stays_as_it_is() -> None:
    """With a profile of sRGB or none, no value moves."""
    for icc in (
        None,
        profile(primaries=SRGB),
        LITTLE_CMS,
    ):
        sent = saved(Image.new("RGB", SIZE, RED), icc_profile=icc)
        assert near(kept(sent).getpixel((5, 5)), RED, off=1)


GRAYS: Final = {
    "8 bits": (Image.new("L", SIZE, 100), {}, (100, 100, 100)),
    "8 bits with a gray profile": (
        Image.new("L", SIZE, 100), {"icc_profile": profile(b"GRAY")}, (100, 100, 100)
    ),
    "8 bits with a coloured profile": (
        Image.new("L", SIZE, 100), {"icc_profile": profile()}, (100, 100, 100)
    ),
    "8 bits, half seen": (
        Image.new("LA", SIZE, (100, 50)), {"icc_profile": profile(b"GRAY")}, (100, 100, 100, 50)
    ),
    "8 bits, one unseen": (Image.new("L", SIZE, 100), {"transparency": 100}, (100, 100, 100, 0)),
    "16 bits": (Image.new("I;16", SIZE, 40_000), {}, (156, 156, 156)),
    "16 bits with a profile": (
        Image.new("I;16", SIZE, 40_000), {"icc_profile": profile(b"GRAY")}, (156, 156, 156)
    ),
    "16 bits, one unseen": (
        Image.new("I;16", SIZE, 40_000), {"transparency": 40_000}, (156, 156, 156, 0)
    ),
    "1 bit": (Image.new("1", SIZE, 1), {}, (255, 255, 255)),
}  # fmt: skip


@pytest.mark.parametrize(("picture", "options", "wanted"), GRAYS.values(), ids=GRAYS)
def test_gray_is_gray(
    picture: Image.Image, options: dict[str, Any], wanted: tuple[int, ...]
) -> None:
    """Of any depth, with or without a profile, seen or not."""
    assert near(kept(saved(picture, **options)).getpixel((5, 5)), wanted)


def test_four_inks_become_three_colours() -> None:
    """A JPEG for printers without a profile."""
    sent = saved(Image.new("CMYK", SIZE, (0, 200, 200, 20)), "JPEG", quality=98)
    assert near(kept(sent).getpixel((5, 5)), (235, 51, 51), off=4)


@pytest.mark.parametrize(
    ("mode", "kind", "icc", "said"),
    [
        ("RGB", "PNG", b"no profile", "is none"),
        ("RGB", "JPEG", profile()[:200], "is none"),
        ("RGB", "PNG", profile()[:300] + bytes(400), "is none"),
        ("CMYK", "JPEG", profile(), "CMYK colours and a colour profile for RGB"),
        ("RGB", "PNG", profile(b"GRAY"), "RGB colours and a colour profile for GRAY"),
    ],
)
def test_a_profile_that_is_none_is_refused(mode: str, kind: str, icc: bytes, said: str) -> None:
    """In a sentence: whatever was made of it would have other colours than it had."""
    with pytest.raises(BadRequest, match=said):
        kept(saved(Image.new(mode, SIZE), kind, icc_profile=icc))


def test_fill_bytes_before_a_marker_are_fine() -> None:
    """Any number of them before any marker (ITU T.81, B.1.1.2), and markers without a segment."""
    sent = saved(Image.new("RGB", SIZE, (220, 20, 20)), "JPEG", quality=98)
    at, filled = 2, sent[:2]
    while sent[at + 1] != 0xDA:
        length = 2 + int.from_bytes(sent[at + 2 : at + 4])
        filled += b"\xff" * (1 + at % 5) + sent[at : at + length]
        at += length
    filled += b"\xff\xff" + sent[at:]
    assert len(filled) > len(sent) + 8
    assert pictures.check_picture(filled) == ".jpg"
    assert near(kept(filled).getpixel((5, 5)), (220, 20, 20), off=4)


@pytest.mark.parametrize(
    "body",
    [
        b"\xff" * 5_000_000,
        b"\xff\xfe\x00\x02" * 1_000_000,
        b"\xff\x01" * 1_000_000,
        b"\xff\xd0\xff",
        b"\xff\x00\xff\xc0",
        b"\xff\xc0\x00",
    ],
)
def test_markers_without_end_are_no_picture(body: bytes) -> None:
    """They are refused, and soon."""
    with pytest.raises(BadRequest):
        pictures.check_picture(b"\xff\xd8\xff\xe0\x00\x02" + body)


def post(api: FlaskClient, **fields: str) -> dict[str, Any]:
    """Submit a job with a picture that is half transparent."""
    picture = io.BytesIO(saved(Image.new("RGBA", SIZE, (9, 9, 9, 0))))
    sent = {"prompt": "a ball", "model": "painter", "image": (picture, "a.png"), **fields}
    answer = api.post("/api/v1/jobs", data=sent, content_type="multipart/form-data")
    assert answer.status_code == 202, answer.text
    told: dict[str, Any] = answer.get_json()
    return told


def test_the_background_goes_with_the_job(api: FlaskClient, web_farm: Farm, clock: Clock) -> None:
    """White unless another is chosen; orders have it, and jobs asked for again or by picture."""
    with_painter(web_farm)
    plain, green = post(api), post(api, image_background="#00FF00")
    assert "image_background" not in plain["request"]
    assert green["request"]["image_background"] == "#00ff00"
    again = api.post("/api/v1/jobs", json=green["request"]).get_json()
    by_picture = {"prompt": "x", "model": "painter", "image_of": green["id"]}
    taken = api.post("/api/v1/jobs", json=by_picture).get_json()
    other = api.post("/api/v1/jobs", json=by_picture | {"image_background": "#000000"}).get_json()
    found = {}
    hand = Hand(web_farm, clock, models=("painter",))
    while order := hand.claim():
        if isinstance(order.work, RenderWork):
            found[order.job_id] = order.work.image_background
        hand.done(order)
    wanted = ["#ffffff", "#00ff00", "#00ff00", "#00ff00", "#000000"]
    assert [found[job["id"]] for job in (plain, green, again, taken, other)] == wanted


@pytest.mark.parametrize("colour", ["white", "#fff", "ffffff", "#gggggg", "#ffffff;", "red"])
def test_a_background_that_is_no_colour_is_refused(api: FlaskClient, colour: str) -> None:
    """422 with the field."""
    answer = api.post("/api/v1/jobs", json={"prompt": "a ball", "image_background": colour})
    assert answer.status_code == 422
    assert answer.get_json()["errors"][0]["field"] == "image_background"


def test_openais_clients_choose_it_too(api: FlaskClient, web_farm: Farm, clock: Clock) -> None:
    """Beside `input_reference`; a remix keeps it."""
    with_painter(web_farm)
    picture = (io.BytesIO(saved(Image.new("RGBA", SIZE))), "a.png")
    sent = {"prompt": "a ball", "model": "painter", "input_reference": picture, "seconds": "1"}
    made = api.post(
        "/v1/videos",
        data=sent | {"image_background": "#102030"},
        content_type="multipart/form-data",
    ).get_json()
    assert jobs.get(web_farm, None, made["id"]).brief.image_background == "#102030"
    Hand(web_farm, clock, models=("painter",)).work_off()
    again = api.post(f"/v1/videos/{made['id']}/remix", json={"prompt": "a cat"}).get_json()
    assert jobs.get(web_farm, None, again["id"]).brief.image_background == "#102030"
