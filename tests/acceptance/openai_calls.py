"""Every call of OpenAI's `client.videos`, made by the real client against a running farm.

A program of its own, so that `test_openai.py` can run it under each version of the client:
`openai_calls.py BASE_URL API_KEY [NAME…]`. Each function is one promise, and says so.
"""

import asyncio
import base64
import io
import socket
import sys
import threading
import time
import urllib.request
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

warnings.simplefilter("error")
# The client's own notice that OpenAI's service ends: every call of `videos` gives it.
warnings.filterwarnings("ignore", "The Sora API is scheduled", DeprecationWarning)

import av  # noqa: E402
import openai  # noqa: E402 - after the filters

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63606060000000040001f61738550000000049454e44ae426082"
)
SMALL = {"seed": 42, "fps": 8, "steps": 2}
"""Extras of a video that a test can wait for; they travel flat in the form, as text."""

Check = Callable[[openai.OpenAI], None]
CHECKS: list[Check] = []


def check(promise: Check) -> Check:
    """Add a promise to the suite."""
    CHECKS.append(promise)
    return promise


def make(client: openai.OpenAI, **asked: object) -> openai.types.Video:
    """Make a small video and wait for it."""
    extra = SMALL | dict(asked.pop("extra_body", {}))
    facts = {"prompt": "a rocket rises", "seconds": "1", "size": "64x64", **asked}
    video = client.videos.create_and_poll(**facts, extra_body=extra)
    assert video.status == "completed", video
    return video


def refused(call: Callable[[], object]) -> openai.APIStatusError:
    """Return the error that a call must meet."""
    try:
        answer = call()
    except openai.APIStatusError as error:
        return error
    raise AssertionError(f"it was answered: {answer}")


@check
def every_answer_has_a_request_id(client: openai.OpenAI) -> None:
    """`_request_id` of what is answered and `request_id` of what is refused, as OpenAI has them."""
    page = client.videos.list(limit=1)
    models = client.models.list()
    error = refused(lambda: client.videos.retrieve("video_none"))
    own = refused(
        lambda: client.videos.retrieve("video_none", extra_headers={"X-Request-Id": "mine.1"})
    )
    ids = [page._request_id, models._request_id, error.request_id]
    assert all(isinstance(each, str) and each.startswith("req_") for each in ids), ids
    assert len(set(ids)) == 3
    assert own.request_id == "mine.1"
    assert own.body["request_id"] == "mine.1"


@check
def a_video_is_created_polled_and_downloaded(client: openai.OpenAI) -> None:
    """create_and_poll, retrieve and the three variants of download_content."""
    first = client.videos.create(
        prompt="a rocket rises", model="sora-2", seconds="1", size="64x64", extra_body=SMALL
    )
    assert first.status in ("queued", "in_progress")
    assert first.object == "video"
    assert (first.seconds, first.size, first.progress) == ("1", "64x64", 0)
    video = client.videos.poll(first.id)
    assert (video.status, video.progress, video.error) == ("completed", 100, None)
    assert video.completed_at and video.completed_at >= video.created_at
    ours = video.model_extra or {}
    assert ours["seed"] == 42
    assert ours["usage"]["gpu_seconds"] > 0
    assert ours["quote"]["gpu_seconds_p90"] > 0
    assert ours["session_id"].startswith("ses_")
    assert client.videos.retrieve(first.id) == video
    film = client.videos.download_content(video.id)
    assert film.response.headers["content-type"] == "video/mp4"
    assert film.content[4:8] == b"ftyp"
    for variant in ("thumbnail", "spritesheet"):
        picture = client.videos.download_content(video.id, variant=variant).read()
        assert picture.startswith(b"\xff\xd8\xff")


@check
def the_server_says_when_to_poll_again(client: openai.OpenAI) -> None:
    """While a video is made, `openai-poll-after-ms` is the client's interval."""
    raw = client.videos.with_raw_response.create(prompt="a cat", seconds="1", extra_body=SMALL)
    assert int(raw.headers["openai-poll-after-ms"]) > 0
    client.videos.poll(raw.parse().id)


@check
def a_list_is_paged_to_its_end(client: openai.OpenAI) -> None:
    """Iterating a list of small pages meets every video once, in both orders."""
    for _ in range(3):
        make(client)
    newest = [video.id for video in client.videos.list(limit=2)]
    oldest = [video.id for video in client.videos.list(limit=2, order="asc")]
    assert len(newest) == len(set(newest)) >= 3
    assert oldest == newest[::-1]
    page = client.videos.list(limit=1, after=newest[0])
    assert [video.id for video in page.data] == [newest[1]]
    assert page.has_more


@check
def a_deleted_video_is_gone(client: openai.OpenAI) -> None:
    """delete confirms, and retrieving it afterwards is a NotFoundError of OpenAI's form."""
    video = make(client)
    gone = client.videos.delete(video.id)
    assert (gone.id, gone.deleted, gone.object) == (video.id, True, "video.deleted")
    error = refused(lambda: client.videos.retrieve(video.id))
    assert isinstance(error, openai.NotFoundError)
    assert (error.code, error.type) == ("not_found", "invalid_request_error")


@check
def deleting_a_video_frees_its_device(client: openai.OpenAI) -> None:
    """A long video that is being made is stopped by delete, and the next one is made at once."""
    long = client.videos.create(prompt="a cat", seconds="12", extra_body={"steps": 100})
    while client.videos.retrieve(long.id).status == "queued":
        time.sleep(0.2)
    assert client.videos.delete(long.id).deleted
    began = time.monotonic()
    make(client)
    assert time.monotonic() - began < 30


@check
def pictures_come_in_every_form(client: openai.OpenAI) -> None:
    """A tuple, raw bytes, a data URL and a file's id are read; a model without pictures says so."""
    url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    kept = client.files.create(file=("a.png", PNG), purpose="vision")
    assert client.files.retrieve(kept.id).bytes == len(client.files.content(kept.id).read())
    assert kept.id in [each.id for each in client.files.list()]
    asked: list[dict[str, object]] = [
        {"input_reference": ("cat.png", PNG, "image/png")},
        {"input_reference": PNG},
        # The client takes no mapping here, whatever its types say; `extra_body` carries it.
        {"extra_body": {"input_reference": {"image_url": url}}},
        {"extra_body": {"input_reference": {"file_id": kept.id}}},
    ]
    for facts in asked:
        error = refused(lambda f=facts: client.videos.create(prompt="a cat", **f))
        assert "takes no reference image" in error.message, error.message
    assert client.files.delete(kept.id).deleted
    assert refused(lambda: client.files.retrieve(kept.id)).status_code == 404
    error = refused(lambda: client.videos.create(prompt="a cat", input_reference=b"no picture"))
    assert isinstance(error, openai.BadRequestError)


@check
def a_remix_and_an_edit_are_new_videos(client: openai.OpenAI) -> None:
    """remix takes another prompt, edit adds to it; both keep seed, size and length."""
    video = make(client, extra_body={"seed": 7})
    remix = client.videos.remix(video.id, prompt="a cat sleeps")
    edited = client.videos.edit(prompt="at night", **source(client, video))
    for again in (remix, edited):
        assert again.remixed_from_video_id == video.id
        assert (again.seconds, again.size) == (video.seconds, video.size)
        assert (again.model_extra or {})["seed"] == 7
        assert client.videos.poll(again.id).status == "completed"
    assert remix.prompt == "a cat sleeps"
    assert edited.prompt == "a rocket rises, at night"


def source(client: openai.OpenAI, video: openai.types.Video) -> dict[str, Any]:
    """Return the arguments that name a source: the client refuses to send `video={"id": …}`."""
    return {"video": openai.omit, "extra_body": {"video": {"id": video.id}}}


def download(client: openai.OpenAI, video: openai.types.Video) -> dict[str, Any]:
    """Return the arguments that send a source as it was downloaded, which the farm knows again."""
    return {"video": ("dog.mp4", client.videos.download_content(video.id).content)}


@check
def an_extension_is_one_longer_video(client: openai.OpenAI) -> None:
    """Its seconds are the total, its MP4 holds all frames, and it can be extended again."""
    video = make(client)
    for total, how in (("3", source), ("5", download)):
        longer = client.videos.extend(prompt="it falls", seconds="2", **how(client, video))
        assert (longer.seconds, longer.size) == (total, video.size)
        video = client.videos.poll(longer.id)
        assert video.status == "completed", video
    film = client.videos.download_content(video.id).content
    with av.open(io.BytesIO(film)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 5 * SMALL["fps"]


@check
def the_models_are_listed(client: openai.OpenAI) -> None:
    """models.list and models.retrieve know what create takes."""
    assert "fake" in [model.id for model in client.models.list()]
    assert client.models.retrieve("fake").owned_by == "framefarm"
    assert isinstance(refused(lambda: client.models.retrieve("gpt-4")), openai.NotFoundError)


@check
def a_character_is_kept_by_its_name(client: openai.OpenAI) -> None:
    """create_character takes a video, get_character finds it, and create knows its id."""
    film = client.videos.download_content(make(client).id).content
    made = client.videos.create_character(name="Rex", video=film)
    assert made.id and made.name == "Rex"
    assert client.videos.get_character(made.id).created_at == made.created_at
    asked = {"characters": [{"id": made.id}]}
    error = refused(lambda: client.videos.create(prompt="a dog", extra_body=asked))
    assert "takes no reference image" in error.message, error.message
    lost = refused(lambda: client.videos.get_character("char_nobody"))
    assert isinstance(lost, openai.NotFoundError)


@check
def the_frames_of_a_video_are_a_zip(client: openai.OpenAI) -> None:
    """The native API gives the same job's frames, each a PNG under its number."""
    video = make(client)
    place = f"{str(client.base_url).removesuffix('/v1/')}/api/v1/jobs/{video.id}/frames.zip"
    asked = urllib.request.Request(place, headers={"Authorization": f"Bearer {client.api_key}"})
    with urllib.request.urlopen(asked, timeout=60) as answer:
        archive = zipfile.ZipFile(io.BytesIO(answer.read()))
    with archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"frame_{n:06}.png" for n in range(SMALL["fps"])]


@check
def a_wrong_request_names_its_parameter(client: openai.OpenAI) -> None:
    """Errors have message, type, param and code where the client looks for them."""
    error = refused(lambda: client.videos.create(prompt="a cat", size="wide"))
    assert isinstance(error, openai.BadRequestError)
    assert (error.param, error.code) == ("size", "bad_request")
    error = refused(lambda: client.videos.create(prompt="a cat", model="gpt-4"))
    assert "fake" in error.message, "it names the models there are"
    stranger = client.with_options(api_key="farm_user_nobody")
    assert isinstance(refused(stranger.videos.list), openai.AuthenticationError)


@check
def over_budget_is_said_once(client: openai.OpenAI) -> None:
    """402 with what is needed and what would fit, and no second try."""
    tries: list[int] = []
    with lossy(client, lose=0, seen=tries) as near:
        asked = {"max_gpu_seconds": "0.001"}
        error = refused(lambda: near.videos.create(prompt="a cat", extra_body=asked))
    assert (error.status_code, error.code) == (402, "budget_exceeded")
    body = error.body
    assert isinstance(body, dict)
    assert body["needed_gpu_seconds"] > 0.001
    assert tries == [1]


@check
def a_lost_answer_is_one_video(client: openai.OpenAI) -> None:
    """The client tries again after an answer was lost on its way: one job, one bill."""
    before = [video.id for video in client.videos.list(limit=100)]
    with lossy(client, lose=2) as near:
        video = near.videos.create(prompt="lost twice", seconds="1", extra_body=SMALL)
        again = near.videos.create(prompt="lost twice", seconds="1", extra_body=SMALL)
    after = [video.id for video in client.videos.list(limit=100)]
    assert set(after) - set(before) == {video.id, again.id}
    assert video.id != again.id, "who asks twice gets two"
    for each in (video, again):
        assert client.videos.poll(each.id).status == "completed"


@check
def the_async_client_works_too(client: openai.OpenAI) -> None:
    """AsyncOpenAI says the same things in its own way."""

    async def talk() -> str:
        async with openai.AsyncOpenAI(
            base_url=str(client.base_url), api_key=client.api_key
        ) as there:
            video = await there.videos.create_and_poll(prompt="a cat", seconds="1")
            found = [each.id async for each in await there.videos.list(limit=100)]
            assert video.id in found
            return video.status

    assert asyncio.run(talk()) == "completed"


@contextmanager
def lossy(
    client: openai.OpenAI, *, lose: int, seen: list[int] | None = None
) -> Iterator[openai.OpenAI]:
    """Yield a client behind a proxy that drops the first answers after the farm gave them."""
    door = socket.create_server(("127.0.0.1", 0))
    left = [lose]

    def serve() -> None:
        while True:
            try:
                near, _ = door.accept()
            except OSError:
                return
            if seen is not None:
                seen.append(1)
            with (
                near,
                socket.create_connection((client.base_url.host, client.base_url.port or 80)) as far,
            ):
                near.settimeout(60)
                far.settimeout(60)
                _pass_on(near, far)
                answer = far.recv(1 << 20)
                if left[0] > 0:
                    left[0] -= 1
                    continue
                near.sendall(answer)
                while answer := far.recv(1 << 20):
                    near.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    port = door.getsockname()[1]
    base = f"http://127.0.0.1:{port}/v1"
    with openai.OpenAI(base_url=base, api_key=client.api_key) as near:
        yield near
    door.shutdown(socket.SHUT_RDWR)
    door.close()
    thread.join(10)


def _pass_on(near: socket.socket, far: socket.socket) -> None:
    """Send one whole request on, asking the farm to close the connection after its answer."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += near.recv(1 << 16)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    length = next(
        (int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length:")),
        0,
    )
    while len(body) < length:
        body += near.recv(1 << 16)
    far.sendall(b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n" + body)


def main(base_url: str, api_key: str, *names: str) -> None:
    """Hold the farm to every promise, or to those that are named."""
    print("openai", openai.__version__, flush=True)
    for promise in CHECKS:
        if names and promise.__name__ not in names:
            continue
        began = time.monotonic()
        with openai.OpenAI(base_url=base_url, api_key=api_key) as client:
            promise(client)
        print(f"{time.monotonic() - began:6.1f} s  {promise.__name__}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
