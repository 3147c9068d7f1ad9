"""The pages over HTTP, as a browser without JavaScript uses them."""

import io
import re

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from orchestrator.farm import Farm, jobs
from orchestrator.farm.accounts import keys, opening, sessions
from orchestrator.settings import Settings
from orchestrator.states import Cause, JobState, KeyKind, Outcome
from orchestrator.store import open_store
from tests.factories import Clock, Hand, account_id, brief, make_farm, submit, with_painter
from web.app import create_app

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63606060000000040001f61738550000000049454e44ae426082"
)


@pytest.fixture
def farm(sqlite_url: str, clock: Clock) -> Farm:
    """A farm on SQLite."""
    return make_farm(open_store(sqlite_url), clock)


@pytest.fixture
def hand(farm: Farm, clock: Clock) -> Hand:
    """A worker moved by hand."""
    return Hand(farm, clock)


@pytest.fixture
def stranger(farm: Farm) -> FlaskClient:
    """A browser that has not signed in."""
    return create_app(farm, Settings(), {"TESTING": True}).test_client()


@pytest.fixture
def browser(farm: Farm, stranger: FlaskClient) -> FlaskClient:
    """A browser that signed in by its link."""
    assert stranger.get(f"/sign-in/{link(farm)}").status_code == 303
    return stranger


def link(farm: Farm) -> str:
    """Return the token of a fresh one-time link."""
    owner = account_id(farm)
    return opening.replace_key(farm, account_id=owner, kind=KeyKind.SIGNIN, name="link")


def send(browser: FlaskClient, path: str, **fields: object) -> TestResponse:
    """Post a form with the CSRF token of the page it is on."""
    found = re.search(r'name="csrf_token" value="([^"]+)"', browser.get("/").text)
    assert found
    data = {"csrf_token": found[1], **fields}
    return browser.post(path, data=data, content_type="multipart/form-data")


def only_job(farm: Farm) -> str:
    """Return the id of the one job there is."""
    (job,) = jobs.listing(farm, account_id(farm)).items
    return job.id


# --- signing in ---------------------------------------------------------------------------


def test_a_stranger_is_sent_to_the_door_and_back(farm: Farm, stranger: FlaskClient) -> None:
    """After signing in one is where one wanted to be."""
    answer = stranger.get("/videos")
    assert answer.status_code == 303
    assert answer.location == "/sign-in?next=/videos"
    page = stranger.get(answer.location).text
    token = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert token
    data = {"csrf_token": token[1], "token": link(farm), "next": "/videos"}
    assert stranger.post("/sign-in", data=data).location == "/videos"


@pytest.mark.parametrize("away", ["https://evil.example/", "//evil.example", "/\\evil.example", ""])
def test_the_way_back_never_leads_to_another_site(
    farm: Farm, stranger: FlaskClient, away: str
) -> None:
    """An address of elsewhere is home."""
    token = re.search(r'name="csrf_token" value="([^"]+)"', stranger.get("/sign-in").text)
    assert token
    data = {"csrf_token": token[1], "token": link(farm), "next": away}
    assert stranger.post("/sign-in", data=data).location == "/"


def test_a_link_works_once(farm: Farm, stranger: FlaskClient) -> None:
    """The second browser is told what to do; the first one stays signed in."""
    token = link(farm)
    assert stranger.get(f"/sign-in/{token}").location == "/"
    assert stranger.get(f"/sign-in/{token}").location == "/"
    other = stranger.application.test_client()
    answer = other.get(f"/sign-in/{token}")
    assert answer.status_code == 401
    assert "farm up" in answer.text


def test_a_browser_that_looks_ahead_does_not_use_the_link_up(
    farm: Farm, stranger: FlaskClient
) -> None:
    """Prefetching from the address bar and HEAD of a link checker leave it whole."""
    token = link(farm)
    stranger.get(f"/sign-in/{token}", headers={"Sec-Purpose": "prefetch;prerender"})
    stranger.head(f"/sign-in/{token}")
    assert stranger.get(f"/sign-in/{token}").location == "/"


def test_an_api_key_opens_the_door_and_a_worker_key_does_not(
    farm: Farm, stranger: FlaskClient
) -> None:
    """Keys of people do, keys of machines don't."""
    owner = account_id(farm)
    page = stranger.get("/sign-in").text
    csrf = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert csrf
    for kind, status in ((KeyKind.JOIN, 401), (KeyKind.USER, 303)):
        _, token = keys.create(farm, account_id=owner, kind=kind, name="k")
        answer = stranger.post("/sign-in", data={"csrf_token": csrf[1], "token": token})
        assert answer.status_code == status


def test_signing_out_forgets_the_browser(browser: FlaskClient) -> None:
    """Nothing is shown afterwards."""
    assert send(browser, "/sign-out").location == "/sign-in"
    assert browser.get("/").status_code == 303


def test_a_form_without_its_token_is_refused(browser: FlaskClient, farm: Farm) -> None:
    """Another site cannot spend anybody's budget."""
    assert browser.post("/", data={"prompt": "a dog"}).status_code == 400
    assert not jobs.listing(farm, account_id(farm)).items


# --- the studio ---------------------------------------------------------------------------


def test_the_empty_studio_has_a_next_step(browser: FlaskClient) -> None:
    """Examples lead to a filled form with its quote."""
    page = browser.get("/").text
    example = re.search(r'class="chip" href="([^"]+)"', page)
    assert example
    assert "It should cost" in browser.get(example[1]).text


def test_the_quote_is_a_fragment_for_htmx_and_a_page_without(browser: FlaskClient) -> None:
    """Both say the same price; nothing is written."""
    page = send(browser, "/quote", prompt="a rocket rises", seconds="2")
    assert "<html" in page.text
    assert "It should cost" in page.text
    csrf = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
    assert csrf
    data = {"csrf_token": csrf[1], "prompt": "a rocket rises", "seconds": "2"}
    part = browser.post("/quote", data=data, headers={"HX-Request": "true"})
    assert "<html" not in part.text
    price = re.search(r'class="figure"><b>[^<]+</b>', part.text)
    assert price
    assert price[0] in page.text


def test_submitting_starts_one_job_however_often_it_is_sent(
    browser: FlaskClient, farm: Farm
) -> None:
    """A double click is one order; a changed form is another."""
    fields = {"prompt": "a rocket rises", "seconds": "2", "request_key": "ask_1"}
    first, second = (send(browser, "/", **fields) for _ in range(2))
    assert first.status_code == 303
    assert first.location == second.location == f"/jobs/{only_job(farm)}"
    assert send(browser, "/", **{**fields, "seconds": "3"}).location != first.location


def test_what_was_typed_is_kept_when_it_is_refused(browser: FlaskClient, farm: Farm) -> None:
    """The fault stands beside its field and nothing was started."""
    answer = send(browser, "/", prompt="<b>dog</b>", size="banana", steps="7")
    assert answer.status_code == 422
    assert 'aria-invalid="true"' in answer.text
    assert "&lt;b&gt;dog&lt;/b&gt;" in answer.text
    assert 'value="banana"' in answer.text
    assert "Nothing was started or charged" in answer.text
    assert not jobs.listing(farm, account_id(farm)).items


def test_a_job_over_budget_is_refused_with_variants_that_fit(
    browser: FlaskClient, farm: Farm
) -> None:
    """Choosing a variant makes a form that is taken."""
    sessions.create(farm, account_id=account_id(farm), name="small", budget_gpu_ms=1_500)
    form = {"prompt": "a rocket rises", "seconds": "2", "session": "small"}
    answer = send(browser, "/", **form)
    assert answer.status_code == 402
    assert "Nothing was charged" in answer.text
    choice = re.search(r'name="alternative" value="([^"]+)"', answer.text)
    assert choice
    page = send(browser, "/quote", **form, alternative=choice[1].replace("&amp;", "&"))
    assert "It does not fit" not in page.text
    assert (
        send(browser, "/", **form, alternative=choice[1].replace("&amp;", "&")).status_code == 303
    )


def test_the_image_field_is_shown_where_a_model_takes_one(browser: FlaskClient, farm: Farm) -> None:
    """A page without such a model asks for no image, and one that is sent is refused."""
    assert 'id="image"' not in browser.get("/").text
    refused = send(browser, "/", prompt="pets", image=(io.BytesIO(PNG), "me.png"))
    assert refused.status_code == 422
    assert "fake takes no reference image." in refused.text
    with_painter(farm)
    assert "Taken by: No model at all" in browser.get("/").text


def test_an_image_and_a_storyboard_are_kept_over_a_quote(browser: FlaskClient, farm: Farm) -> None:
    """Without JavaScript files need not be chosen twice; the job has both."""
    with_painter(farm)
    board = b"prompt,seconds\na dog,2\na cat,1\n"
    files = {"image": (io.BytesIO(PNG), "me.png"), "storyboard": (io.BytesIO(board), "s.csv")}
    page = send(browser, "/quote", prompt="pets", model="painter", **files).text
    kept = dict(re.findall(r'name="(kept_\w+)" value="([^"]+)"', page))
    assert set(kept) == {"kept_image", "kept_storyboard"}
    assert send(browser, "/", prompt="pets", model="painter", **kept).status_code == 303
    job = jobs.get(farm, account_id(farm), only_job(farm))
    assert job.brief.image == kept["kept_image"]
    assert [scene.prompt for scene in job.brief.scenes] == ["a dog", "a cat"]
    assert job.frames_total == 36


def test_a_variation_begins_with_the_whole_request(browser: FlaskClient, farm: Farm) -> None:
    """The form that is like a job has its scenes, picture and limit; sent, it is the same."""
    with_painter(farm)
    board = b"prompt,seconds,negative_prompt\na dog,2,cats\na cat,1,\n"
    files = {"image": (io.BytesIO(PNG), "me.png"), "storyboard": (io.BytesIO(board), "s.csv")}
    typed = {"prompt": "pets, 6 fps", "model": "painter", "max_gpu_seconds": "300"}
    assert send(browser, "/", **typed, **files).status_code == 303
    first = jobs.get(farm, account_id(farm), only_job(farm))
    page = browser.get(f"/?like={first.id}").text
    kept = dict(re.findall(r'name="(kept_\w+)" value="([^"]+)"', page))
    assert set(kept) == {"kept_image", "kept_storyboard"}
    assert re.search(r'name="max_gpu_seconds"[^>]*value="300"', page)
    assert send(browser, "/", request_key="2", **typed, **kept).status_code == 303
    again = next(j for j in jobs.listing(farm, None).items if j.id != first.id)
    assert again.brief == first.brief


def test_a_picture_that_is_none_is_refused_at_its_field(browser: FlaskClient, farm: Farm) -> None:
    """Its content decides, not its name."""
    fake = (io.BytesIO(b"GIF89a"), "me.png")
    answer = send(browser, "/", prompt="a dog", image=fake)
    assert answer.status_code == 422
    assert "neither PNG, JPEG nor WebP" in answer.text


# --- a job --------------------------------------------------------------------------------


def test_a_running_job_reloads_itself_without_javascript(browser: FlaskClient, farm: Farm) -> None:
    """The page of a job that has not ended asks for itself again; an ended one does not."""
    job_id = submit(farm).id
    assert 'http-equiv="refresh"' in browser.get(f"/jobs/{job_id}").text
    assert send(browser, f"/jobs/{job_id}/cancel").location == f"/jobs/{job_id}"
    page = browser.get(f"/jobs/{job_id}").text
    assert 'http-equiv="refresh"' not in page
    assert "Cancelled" in page


def test_pause_and_resume_are_plain_forms(browser: FlaskClient, farm: Farm) -> None:
    """The farm does what the button says; a button of yesterday's page explains itself."""
    job_id = submit(farm).id
    send(browser, f"/jobs/{job_id}/pause")
    assert jobs.get(farm, None, job_id).state is JobState.PAUSED
    stale = send(browser, f"/jobs/{job_id}/pause")
    assert stale.status_code == 409
    assert "It could not be paused" in stale.text
    send(browser, f"/jobs/{job_id}/resume")
    assert jobs.get(farm, None, job_id).state is JobState.QUEUED


def test_a_paused_job_with_frames_can_end_with_them(
    browser: FlaskClient, farm: Farm, hand: Hand
) -> None:
    """The button is there once there is a frame, and what is pressed too late explains itself."""
    job_id = submit(farm, brief(seconds=20.0)).id
    jobs.pause(farm, None, job_id)
    assert "what is finished" not in browser.get(f"/jobs/{job_id}").text
    stale = send(browser, f"/jobs/{job_id}/finish")
    assert stale.status_code == 409
    assert "It could not be ended with what is finished" in stale.text
    jobs.resume(farm, None, job_id)
    while not jobs.get(farm, None, job_id).frames_done:
        order = hand.claim()
        assert order
        hand.done(order)
    jobs.pause(farm, None, job_id)
    assert "Make a video of what is finished" in browser.get(f"/jobs/{job_id}").text
    send(browser, f"/jobs/{job_id}/finish")
    hand.work_off()
    job = jobs.get(farm, None, job_id)
    assert (job.state, job.truncated) == (JobState.SUCCEEDED, True)


def test_a_finished_job_has_player_download_and_receipt(
    browser: FlaskClient, farm: Farm, hand: Hand
) -> None:
    """The file answers ranges, the download is named after the prompt, the bill adds up."""
    job_id = submit(farm, brief("A rocket, rises! 🚀")).id
    hand.work_off()
    job = jobs.get(farm, None, job_id)
    store = browser.application.extensions["artifacts"]
    put(store, job.artifacts["video"].key, b"0123456789")
    page = browser.get(f"/jobs/{job_id}").text
    assert "<video" in page
    part = browser.get(f"/jobs/{job_id}/video", headers={"Range": "bytes=2-4"}, buffered=True)
    assert (part.status_code, part.data) == (206, b"234")
    whole = browser.get(f"/jobs/{job_id}/video?download=1", buffered=True)
    assert "a-rocket-rises.mp4" in whole.headers["Content-Disposition"]
    bill = browser.get(f"/jobs/{job_id}/receipt.json").json
    assert bill
    assert bill["final"]
    assert round(sum(line["gpu_seconds"] for line in bill["lines"]), 3) == bill["gpu_seconds"]


def put(store: object, key: str, data: bytes) -> None:
    """Store a file as a worker's upload does."""
    import hashlib

    store.put(key, [data], sha256=hashlib.sha256(data).hexdigest(), max_bytes=1000)  # type: ignore[attr-defined]


def test_strips_are_served_and_nobody_elses(browser: FlaskClient, farm: Farm, hand: Hand) -> None:
    """Another account's job does not exist for this one."""
    job_id = submit(farm).id
    hand.work_off()
    src = re.search(rf"/jobs/{job_id}/strips/\w+", browser.get(f"/jobs/{job_id}").text)
    assert src
    view = next(v for v in jobs.units(farm, None, job_id) if v.unit.id == src[0].split("/")[-1])
    assert view.lease
    key = f"units/{view.unit.id}/{view.lease.fence}/strip.jpg"
    put(browser.application.extensions["artifacts"], key, b"jpeg")
    assert browser.get(src[0], buffered=True).data == b"jpeg"
    other = browser.application.test_client()
    assert other.get(src[0]).status_code == 303
    assert browser.get("/jobs/job_nobody").status_code == 404


def test_a_failed_job_says_what_where_and_next(
    browser: FlaskClient, farm: Farm, hand: Hand
) -> None:
    """The page has the message, the charge and the next step, escaped."""
    job_id = submit(farm, brief("<script>alert(1)</script> a dog")).id
    order = hand.claim()
    assert order
    hand.clock.advance(1)
    hand.complete(order, Outcome.FAILED, gpu_ms=10, cause=Cause.REQUEST)
    page = browser.get(f"/jobs/{job_id}").text
    assert "said by hand" in page
    assert "0.010 GPU-seconds were charged" in page
    assert "<script>alert" not in page


def test_the_stream_says_what_is_now_and_closes_at_the_end(
    browser: FlaskClient, farm: Farm, hand: Hand
) -> None:
    """Unnamed messages carry fragments for their targets; `done` is the last word."""
    job_id = submit(farm).id
    page = browser.get(f"/jobs/{job_id}").text
    stream = re.search(r'hx-sse:connect="([^"]+)"', page)
    assert stream
    hand.work_off()
    answer = browser.get(stream[1])
    assert answer.mimetype == "text/event-stream"
    messages = [m for m in answer.text.split("\n\n") if m]
    assert messages[-1].startswith("event: done")
    assert 'hx-target="#screen"' in messages[1]
    assert "<video" in messages[1]
    assert all(line.startswith(("id:", "data:")) for line in messages[1].splitlines())
    late = browser.get(stream[1], headers={"Last-Event-ID": "999999"}).text
    assert "event: done" in late


def test_every_page_forbids_inline_code(browser: FlaskClient, farm: Farm) -> None:
    """The policy is strict, and the pages keep to it."""
    job_id = submit(farm).id
    for path in ("/", f"/jobs/{job_id}", "/nowhere"):
        answer = browser.get(path)
        assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
        assert "'unsafe-" not in answer.headers["Content-Security-Policy"]
        assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! src=)", answer.text)
        assert not re.search(r'(src|href)="(https?:)?//', answer.text)
