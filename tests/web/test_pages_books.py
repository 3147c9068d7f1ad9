"""The operator's books as a page, and how good the quotes are, which is everybody's."""

import csv
import io
import re
from html import unescape

import pytest
from flask.testing import FlaskClient

from orchestrator.farm import Farm, jobs
from orchestrator.farm.accounts import accounts, keys, people
from orchestrator.farm.books import economics
from orchestrator.states import Cause, KeyKind, Outcome
from orchestrator.store import open_store
from tests.factories import Clock, Hand, account_id, brief, make_farm, submit
from tests.web.conftest import signed_in
from tests.web.test_pages import send
from tests.web.test_pages_budget import said
from web.pages.statistics import device_bar, money_bars
from web.pages.words import gpu, price

PASSWORD = "correct horse battery staple"


@pytest.fixture
def farm(sqlite_url: str, clock: Clock) -> Farm:
    """A farm on SQLite."""
    return make_farm(open_store(sqlite_url), clock)


@pytest.fixture
def operator(farm: Farm) -> FlaskClient:
    """A browser that came by the link of `farm up`."""
    return signed_in(farm)


@pytest.fixture
def browser(farm: Farm, operator: FlaskClient) -> FlaskClient:
    """A browser that nobody signed in with yet."""
    return operator.application.test_client()


def enter(browser: FlaskClient, **fields: str) -> FlaskClient:
    """Sign a browser in by a form."""
    token = re.search(r'name="csrf_token" value="([^"]+)"', browser.get("/sign-in").text)
    assert token
    assert browser.post("/sign-in", data={"csrf_token": token[1], **fields}).status_code == 303
    return browser


def with_key(farm: Farm, browser: FlaskClient, kind: KeyKind) -> FlaskClient:
    """Sign a browser in by a key of a kind."""
    _, token = keys.create(farm, account_id=account_id(farm), kind=kind, name="t")
    return enter(browser, token=token)


def ran(farm: Farm, clock: Clock) -> None:
    """Let two accounts have a video each, one of them after a device was lost."""
    hand = Hand(farm, clock)
    clock.advance(60)
    hand.claim()
    other = accounts.create(farm, name="Ana <b>", plan="creator").account
    submit(farm)
    jobs.submit(farm, account_id=other.id, session_id=None, brief=brief("a cat sits"))
    order = hand.claim()
    assert order
    clock.advance(1)
    hand.complete(order, Outcome.FAILED, gpu_ms=400, cause=Cause.WORKER)
    hand.work_off(gpu_ms=100)


# --- who may look -----------------------------------------------------------------------------


def test_the_books_are_the_operators(farm: Farm, operator: FlaskClient) -> None:
    """A link of `farm up` and an admin key open them, and every page has their link."""
    by_key = with_key(farm, operator.application.test_client(), KeyKind.ADMIN)
    for browser in (operator, by_key):
        assert 'href="/books"' in browser.get("/").text
        assert browser.get("/books").status_code == 200
        assert browser.get("/books.csv").status_code == 200


def test_who_does_not_operate_the_farm_is_told_so(farm: Farm, browser: FlaskClient) -> None:
    """By a user key or a password there is no link, and the address says whose the books are."""
    people.add(farm, account_id=account_id(farm), name="ana", password=PASSWORD)
    by_password = enter(browser, name="ana", password=PASSWORD)
    by_key = with_key(farm, browser.application.test_client(), KeyKind.USER)
    for each in (by_password, by_key):
        assert "/books" not in each.get("/").text
        for path in ("/books", "/books.csv", "/books?by=user&days=365"):
            answer = each.get(path)
            assert answer.status_code == 403
            assert "The books of this farm are its operator's" in said(answer.text)
        assert each.get("/calibration").status_code == 200
        assert each.get("/calibration.csv").status_code == 200


def test_an_admin_keys_end_closes_the_books(farm: Farm, browser: FlaskClient) -> None:
    """A browser is the operator's only as long as what it signed in by."""
    row, token = keys.create(farm, account_id=account_id(farm), kind=KeyKind.ADMIN, name="t")
    enter(browser, token=token)
    keys.revoke(farm, None, row.id)
    assert browser.get("/books").status_code == 303


def test_nobody_makes_a_link_but_the_farm_itself(farm: Farm, operator: FlaskClient) -> None:
    """That a link is the operator's rests on it: the API makes none, for an admin key neither."""
    _, token = keys.create(farm, account_id=account_id(farm), kind=KeyKind.ADMIN, name="t")
    answer = operator.application.test_client().post(
        "/api/v1/keys",
        json={"kind": "signin", "name": "x"},
        headers={"Authorization": f"Bearer {token}"},
    )
    assert answer.status_code == 422


# --- what stands there ------------------------------------------------------------------------


def test_the_books_say_what_the_farm_says(farm: Farm, clock: Clock, operator: FlaskClient) -> None:
    """Each row has its sums; idle time, the total and the devices are there, too."""
    ran(farm, clock)
    told = economics.economics(farm, "plan", 0)
    page = said(operator.get("/books").text)
    for row in told["rows"][:-1]:
        assert f"{row['key']} $" in page
    assert told["rows"][-1]["key"] == economics.IDLE
    assert "Idle devices" in page
    total = told["total"]
    assert total["lost_gpu_ms"] >= 400
    assert f"0 {gpu(total['gpu_ms'])} {gpu(total['lost_gpu_ms'])} Revenue:" in page
    assert f"{price(-told['total']['idle_cost_microusd'])}" in page
    (device,) = told["devices"]
    assert device["busy_cost_microusd"] > device["lost_cost_microusd"] > 0
    assert "cpu" in page


@pytest.mark.parametrize("by", economics.BY)
def test_the_books_are_kept_by_four_things(
    farm: Farm, clock: Clock, operator: FlaskClient, by: str
) -> None:
    """Plan, user, model and month each have their page, with the way to the others and to CSV."""
    ran(farm, clock)
    answer = operator.get(f"/books?by={by}&days=7")
    page = unescape(answer.text)
    assert f'href="/books?by={by}&days=7" aria-current="true"' in page
    assert "Ana <b>" not in answer.text
    assert ("Ana <b>" in page) == (by == "user")
    link = re.search(r'href="(/books.csv[^"]+)"', page)
    assert link
    sheet = operator.get(link[1])
    assert sheet.mimetype == "text/csv"
    header, *rows = csv.reader(io.StringIO(sheet.text))
    assert header[0] == by
    assert [row[0] for row in rows[-2:]] == ["(idle)", "total"]


def test_books_of_what_nobody_asked_for_are_the_usual_ones(operator: FlaskClient) -> None:
    """An unknown grouping or span shows the first one, and breaks nothing."""
    page = unescape(operator.get("/books?by=zodiac&days=x").text)
    assert 'href="/books?by=plan&days=30" aria-current="true"' in page


def test_a_new_farms_books_have_a_next_step(operator: FlaskClient) -> None:
    """Nothing ran: the page says how something will."""
    page = said(operator.get("/books").text)
    assert "Nothing in these books" in page
    assert "farm worker run" in page
    assert "Make a video" in page


def test_quotes_are_held_against_what_videos_took(
    farm: Farm, clock: Clock, operator: FlaskClient
) -> None:
    """The figure, its goal and the rows are there, and the same as CSV."""
    empty = said(operator.get("/calibration").text)
    assert "No video has ended yet" in empty
    assert "Make the first one" in empty
    ran(farm, clock)
    page = said(operator.get("/calibration?jobs=50").text)
    assert "100 % 2 of 2; the goal is 88 to 92 %" in page
    assert "fake on cpu quoted from a pace or its model card 100 % 2" in page
    rows = list(csv.reader(io.StringIO(operator.get("/calibration.csv").text)))
    assert rows[1][0] == "fake"


def test_bars_are_shares_of_the_largest() -> None:
    """No bar leaves its box, a loss has none, and without any money there is no division by it."""
    rows = [
        {"revenue_microusd": 50, "cost_microusd": 200},
        {"revenue_microusd": -5, "cost_microusd": 0},
    ]
    assert money_bars(rows[0], rows) == (25.0, 100.0)
    assert money_bars(rows[1], rows) == (0.0, 0.0)
    assert money_bars(rows[1], [rows[1]]) == (0.0, 0.0)
    bar = device_bar({"present_ms": 100, "busy_ms": 40, "lost_gpu_ms": 10})
    assert (bar.spent, bar.held) == (30.0, 10.0)
    late = device_bar({"present_ms": 10, "busy_ms": 40, "lost_gpu_ms": 50})
    assert late.spent + late.held == 100.0


def test_a_user_of_the_pages_still_spends(farm: Farm, browser: FlaskClient) -> None:
    """The way in which a browser signed in changes nothing of what an account may do."""
    mine = with_key(farm, browser, KeyKind.USER)
    assert send(mine, "/", prompt="a dog runs", seconds="2").status_code == 303
