"""Quotes on how they came about, and prices for whoever pays them."""

import re
from html import unescape

import pytest
from flask.testing import FlaskClient

from orchestrator.farm import Farm, jobs
from orchestrator.farm.accounts import accounts, sessions
from orchestrator.money import pricing
from orchestrator.store import open_store
from tests.factories import Clock, Hand, account_id, brief, make_farm, submit
from tests.web.conftest import signed_in
from tests.web.test_pages import send
from tests.web.test_pages_budget import said
from web.pages.words import exact, price

FORM = {"prompt": "a rocket rises", "seconds": "2"}


@pytest.fixture
def farm(sqlite_url: str, clock: Clock) -> Farm:
    """A farm on SQLite."""
    return make_farm(open_store(sqlite_url), clock)


@pytest.fixture
def browser(farm: Farm) -> FlaskClient:
    """A browser that signed in by its link."""
    return signed_in(farm)


def test_the_quote_says_how_it_was_reckoned(browser: FlaskClient, farm: Farm) -> None:
    """Each stage has its price; the rate card is named, and the start-up that nobody pays."""
    told = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=brief()).quote
    page = said(send(browser, "/quote", **FORM).text)
    for stage in told.stages:
        p50, p90 = exact(stage.p50_gpu_ms), exact(stage.p90_gpu_ms)
        assert f"{p50} – {p90} · {price(stage.price_microusd)}" in page
    assert f"Rate card {told.rates}" in page
    assert f"{exact(told.startup_gpu_ms)}, not charged" in page
    assert "less than the sum of the stages" not in page


def test_a_quote_from_ended_jobs_says_why_its_bound_is_no_sum(
    browser: FlaskClient, farm: Farm, clock: Clock
) -> None:
    """Once enough jobs have ended the whole's p90 is less than the stages', and that is told."""
    hand = Hand(farm, clock)
    for _ in range(pricing.ENOUGH_JOBS + 10):
        submit(farm)
        hand.work_off(gpu_ms=100)
    told = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=brief()).quote
    assert told.p90_gpu_ms < sum(stage.p90_gpu_ms for stage in told.stages)
    assert "is less than the sum of the stages" in said(send(browser, "/quote", **FORM).text)


def test_each_variant_has_its_price(browser: FlaskClient, farm: Farm) -> None:
    """Whoever chooses among what fits sees what each would cost, and what it gives up."""
    sessions.create(farm, account_id=account_id(farm), name="small", budget_gpu_ms=1_500)
    told = jobs.estimate(farm, account_id=account_id(farm), session_id="small", brief=brief())
    page = said(send(browser, "/quote", **FORM, session="small").text)
    assert told.alternatives
    for each in told.alternatives:
        assert f"likely {price(each.quote.price_microusd)}" in page
        assert each.label[1:] in page


def test_what_a_plan_includes_has_no_price(browser: FlaskClient, farm: Farm, clock: Clock) -> None:
    """A payer by the month is told so, in the quote, its variants, the meter and the receipt."""
    accounts.set_plan(farm, account_id(farm), "creator")
    sessions.create(farm, account_id=account_id(farm), name="small", budget_gpu_ms=1_500)
    quote = said(send(browser, "/quote", **FORM).text)
    assert "GPU-seconds · included in plan creator" in quote
    assert "$" not in quote + said(send(browser, "/quote", **FORM, session="small").text)
    job = submit(farm)
    Hand(farm, clock).work_off()
    page = said(browser.get(f"/jobs/{job.id}").text)
    assert "price included in plan creator" in page
    assert "Charged to session default, included in plan creator" in page
    assert "$" not in page


def test_who_pays_by_the_gpu_second_sees_prices(
    browser: FlaskClient, farm: Farm, clock: Clock
) -> None:
    """The plan of a new farm's account has no price a month, so its receipts have prices."""
    job = submit(farm)
    Hand(farm, clock).work_off()
    page = unescape(browser.get(f"/jobs/{job.id}").text)
    assert re.search(r"<td class=\"number\">\$0\.0", page)
    assert "included in" not in page


def test_code_in_a_sentence_is_set_as_code(browser: FlaskClient) -> None:
    """Words that a sentence quotes read as such; what people wrote stays text."""
    parts = browser.application.jinja_env.get_template("_parts.html").module
    assert parts.coded("Set `a <b>`, then wait.") == "Set <code>a &lt;b&gt;</code>, then wait."
    assert parts.coded("a ` b") == "a ` b"


def test_a_quote_that_does_not_fit_has_buttons(browser: FlaskClient, farm: Farm) -> None:
    """The page tops its session up, by name and by what is missing; no id and no command."""
    sessions.create(farm, account_id=account_id(farm), name="small", budget_gpu_ms=1_500)
    page = send(browser, "/quote", **FORM, session="small").text
    assert re.search(r'form="top-up" name="exactly" value="[0-9.]+"', page)
    assert "Top up session small by" in page
    advice = page.partition("does-not-fit")[2].partition("choices")[0]
    assert "ses_" not in advice and "farm " not in advice
