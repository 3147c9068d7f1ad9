"""Budget left, as pages say it: of the session, under the account's month; and topping it up."""

import re
from dataclasses import replace
from html import unescape

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from orchestrator.farm import Farm, jobs
from orchestrator.farm.accounts import accounts, sessions
from orchestrator.model import Month, Session
from orchestrator.states import JobState
from orchestrator.store import open_store
from tests.factories import Clock, Hand, account_id, brief, make_farm, submit
from tests.web.conftest import signed_in
from tests.web.test_pages import send
from web.pages.budget import Budget

FORM = {"prompt": "a rocket rises", "seconds": "2"}


@pytest.fixture
def farm(sqlite_url: str, clock: Clock) -> Farm:
    """A farm on SQLite."""
    return make_farm(open_store(sqlite_url), clock)


@pytest.fixture
def browser(farm: Farm) -> FlaskClient:
    """A browser that signed in by its link."""
    return signed_in(farm)


def said(html: str) -> str:
    """Return what a page says, without its tags, in single spaces."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def leave_of_month(farm: Farm, gpu_ms: int, plan: str = "creator") -> None:
    """Put the home account on a plan and leave it so much of its month."""
    submit(farm)  # the month begins with its first use
    accounts.set_plan(farm, account_id(farm), plan)
    with farm.store.write() as tx:
        (month,) = tx.find(Month, account_id=account_id(farm))
        assert month.limit_gpu_ms
        spent = month.limit_gpu_ms - month.held_gpu_ms - gpu_ms
        tx.save(month, replace(month, spent_gpu_ms=spent))


def default(farm: Farm) -> Session:
    """Return the session that pays where none is named."""
    return sessions.find(farm, account_id(farm), None)


# --- what is left ---------------------------------------------------------------------------


def test_what_is_left_is_what_the_month_has(browser: FlaskClient, farm: Farm) -> None:
    """Header, list of sessions and quote name what a new job could hold, not the session's rest."""
    leave_of_month(farm, 8_485)
    page = said(browser.get("/").text)
    assert "8.48 GPU-s left this month" in page
    assert "default (8.48 GPU-seconds left)" in page
    assert "January 2027, plan creator" in page
    quote = said(send(browser, "/quote", **FORM).text)
    p90 = re.search(r"Nine times in ten at most ([\d.]+) GPU-s", quote)
    rest = re.search(r"Left while it runs, at least ([\d.]+) GPU-s", quote)
    assert p90
    assert rest
    assert "Left in January 2027, plan creator 8.48 GPU-s" in quote
    assert float(p90[1]) + float(rest[1]) == pytest.approx(8.485, abs=0.02)


def test_the_budget_shows_the_session_beside_the_month(browser: FlaskClient, farm: Farm) -> None:
    """Limit, spent, held and left of both, on the studio's page and on a job's."""
    leave_of_month(farm, 8_485)
    (job,) = jobs.listing(farm, account_id(farm)).items
    for path in ("/", f"/jobs/{job.id}"):
        page = said(browser.get(path).text)
        assert "Limit 3,600 36,000" in page
        assert "Left 3,596 8.48" in page
        assert "a new video may hold 8.485 GPU-seconds" in page


def test_a_plan_without_a_limit_says_so(browser: FlaskClient, farm: Farm) -> None:
    """The month of such a plan bounds nothing, so the session's rest is what is left."""
    accounts.set_plan(farm, account_id(farm), "unlimited")
    page = said(browser.get("/").text)
    assert "Limit 3,600 none" in page
    assert "Left 3,600 no limit" in page
    assert "3,600 GPU-s left" in page
    assert "this month" not in page


def test_a_live_message_keeps_the_budget_true(browser: FlaskClient, farm: Farm) -> None:
    """The stream of a job's page carries the header and the table."""
    leave_of_month(farm, 8_485)
    (job,) = jobs.listing(farm, account_id(farm)).items
    jobs.cancel(farm, account_id(farm), job.id)
    told = browser.get(f"/jobs/{job.id}/live").text
    assert 'hx-target="#figures"' in told
    assert "this month" in told


@pytest.mark.parametrize(
    ("month", "session", "left", "binds"),
    [(None, 5, 5, False), (9, 5, 5, False), (5, 5, 5, False), (4, 5, 4, True), (0, 5, 0, True)],
)
def test_the_lesser_of_the_two_is_left(
    month: int | None, session: int, left: int, binds: bool
) -> None:
    """If both have the same, it is the session that a top-up helps no more than the month."""
    budget = Budget(
        session=Session(id="s", account_id="a", name="s", limit_gpu_ms=session, created_at_ms=0),
        month=Month(id="a.2026-11", account_id="a", plan="x", limit_gpu_ms=month),
        plan=None,
    )
    assert (budget.available_gpu_ms, budget.month_binds) == (left, binds)
    assert budget.month_name == "November 2026"


# --- topping up -----------------------------------------------------------------------------


def top_up(browser: FlaskClient, page: str = "/", **fields: str) -> TestResponse:
    """Send the form beside the budget of a page, as a browser without JavaScript would."""
    form = re.search(
        r'<form class="field" id="top-up".*?</form>', browser.get(page).text, re.DOTALL
    )
    assert form
    kept = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form[0])
    data = {name: unescape(value) for name, value in kept}
    return browser.post("/top-ups", data=data | fields)


def test_a_top_up_raises_the_session_and_leads_back(browser: FlaskClient, farm: Farm) -> None:
    """The form has all it needs, and what was typed for the video is kept."""
    before = default(farm).limit_gpu_ms
    answer = top_up(browser, "/?prompt=a+dog+runs&seconds=3", gpu_seconds="4.5")
    assert answer.status_code == 303
    assert default(farm).limit_gpu_ms == before + 4_500
    page = browser.get(answer.headers["Location"]).text
    assert 'name="seconds" inputmode="decimal" value="3"' in page
    assert "a dog runs</textarea>" in page


def test_a_top_up_sent_twice_counts_once(browser: FlaskClient, farm: Farm) -> None:
    """A double click is one top-up; another amount from the same page is another."""
    before = default(farm).limit_gpu_ms
    fields = {"request_key": "k", "session": default(farm).id, "gpu_seconds": "5"}
    for _ in range(2):
        assert send(browser, "/top-ups", **fields).status_code == 303
    send(browser, "/top-ups", **fields | {"gpu_seconds": "6"})
    assert default(farm).limit_gpu_ms == before + 11_000


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("", "must be GPU-seconds"),
        ("much", "must be GPU-seconds"),
        ("1,000", "without a thousands separator"),
        ("0.0001", "three decimal places"),
        ("-5", "must be GPU-seconds"),
        ("nan", "must be GPU-seconds"),
        ("0", "is not possible"),
        ("9999999999", "is not possible"),
        ("20000", "The plan creator allows a session 18000 GPU-seconds"),
    ],
)
def test_an_amount_that_cannot_be_is_refused_in_its_place(
    browser: FlaskClient, farm: Farm, typed: str, says: str
) -> None:
    """The typed amount stays beside what is wrong with it, and the session is as it was."""
    accounts.set_plan(farm, account_id(farm), "creator")
    before = default(farm)
    answer = top_up(browser, gpu_seconds=typed)
    assert answer.status_code in (403, 422)
    assert says in said(answer.text)
    assert f'value="{typed}"' in answer.text
    assert default(farm) == before


def test_nobody_tops_up_a_session_of_another_account(browser: FlaskClient, farm: Farm) -> None:
    """It does not exist for this one, and has no more than before."""
    other = accounts.create(farm, name="other", plan="free").account
    (theirs,) = sessions.listing(farm, other.id).items
    answer = send(browser, "/top-ups", session=theirs.id, gpu_seconds="5")
    assert answer.status_code == 404
    assert sessions.get(farm, None, theirs.id).limit_gpu_ms == theirs.limit_gpu_ms


def test_a_top_up_without_the_pages_token_is_refused(browser: FlaskClient, farm: Farm) -> None:
    """Another site cannot give anybody budget."""
    before = default(farm)
    fields = {"session": before.id, "gpu_seconds": "5"}
    assert browser.post("/top-ups", data=fields).status_code == 400
    assert default(farm) == before


def test_htmx_is_answered_with_the_card_alone(browser: FlaskClient, farm: Farm) -> None:
    """The card says what came, the header follows, and the quote is told to ask again."""
    token = re.search(r'name="csrf_token" value="([^"]+)"', browser.get("/").text)
    assert token
    fields = {"csrf_token": token[1], "session": default(farm).id, "gpu_seconds": "5"}
    answer = browser.post("/top-ups", data=fields, headers={"HX-Request": "true"})
    assert answer.headers["HX-Trigger"] == "topped-up"
    assert "was given 5.000 GPU-seconds" in said(answer.text)
    assert 'hx-target="#left-over"' in answer.text
    assert "<html" not in answer.text


def test_a_refusal_tops_up_by_what_is_missing(browser: FlaskClient, farm: Farm) -> None:
    """One press of the button in the notice and the video fits."""
    sessions.create(farm, account_id=account_id(farm), name="small", budget_gpu_ms=1_500)
    form = FORM | {"session": "small"}
    page = send(browser, "/", **form)
    assert page.status_code == 402
    amount = re.search(r'form="top-up" name="exactly" value="([^"]+)"', page.text)
    assert amount
    small = sessions.find(farm, account_id(farm), "small")
    send(browser, "/top-ups", session=small.id, exactly=amount[1], gpu_seconds="")
    assert send(browser, "/", **form).status_code == 303


def test_a_job_paused_for_budget_goes_on_by_the_button_in_its_notice(
    browser: FlaskClient, farm: Farm, clock: Clock
) -> None:
    """The amount is enough for the rest, at its page, without the CLI."""
    job = run_dry(farm, clock)
    page = browser.get(f"/jobs/{job}").text
    amount = re.search(r'form="top-up" name="exactly" value="([^"]+)"', page)
    assert amount
    answer = top_up(browser, f"/jobs/{job}", exactly=amount[1], gpu_seconds="")
    assert answer.headers["Location"] == f"/jobs/{job}"
    assert jobs.get(farm, None, job).state is not JobState.PAUSED


def run_dry(farm: Farm, clock: Clock) -> str:
    """Return a job of the session `small` that was paused since its session has too little."""
    hand, asked = Hand(farm, clock), brief(seconds=8.0)
    quote = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=asked).quote
    sessions.create(farm, account_id=account_id(farm), name="small", budget_gpu_ms=quote.p90_gpu_ms)
    job = submit(farm, asked, session="small")
    while order := hand.claim():
        hand.done(order, order.gpu_ms_limit, seconds=39)
    assert jobs.get(farm, None, job.id).state is JobState.PAUSED
    return job.id


def test_no_top_up_is_offered_where_it_would_bring_nothing(
    browser: FlaskClient, farm: Farm
) -> None:
    """With the month used up the way out is the operator, or the next month."""
    leave_of_month(farm, 100)
    for path in ("/", "/?prompt=a+dog+runs"):
        page = browser.get(path).text
        assert 'id="top-up"' not in page
        assert 'form="top-up"' not in page
        assert "would bring nothing this month: ask the operator" in page


def test_what_the_plan_does_not_allow_is_not_offered(browser: FlaskClient, farm: Farm) -> None:
    """At the plan's most for a session, or without a plan, the card says whom to ask."""
    accounts.set_plan(farm, account_id(farm), "free")
    page = browser.get("/").text
    assert "all that plan free allows a session: ask the operator" in page
    assert 'id="top-up"' not in page
    accounts.set_plan(farm, account_id(farm), accounts.NO_PLAN)
    assert "Without a plan nothing may run" in browser.get("/").text
