"""A name or a prompt that was taken does nothing where it is shown: pages, streams, sheets."""

import csv
import io
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from orchestrator.cli import destination, output
from orchestrator.csv_export import FORMULA, sheet
from orchestrator.farm import Farm, jobs
from orchestrator.farm.accounts import keys
from orchestrator.safe_text import normal, shown
from orchestrator.settings import Settings
from orchestrator.states import KeyKind
from tests import judges
from tests.factories import Clock, Hand, account_id, make_farm
from tests.web.conftest import Caller
from tests.web.every_input import OpenFarm
from tests.web.evil_words import words
from web.app import create_app

WORDS = words()
TAKEN = [word.text for word in WORDS.values() if word.prompt]
MARKED = [text for text in TAKEN if set(text) & set("<>\"'&{\n\u2028\u202e")]
"""Words that would change a page, a stream or a terminal that does not take care."""
OBEYED = {chr(code) for code in (*range(9), *range(11, 32), *range(127, 160))} | set("\u202e\u2066")
FIELDS = ("id: ", "event: ", "data: ", "retry: ", ":")


class Page(HTMLParser):
    """A page as a browser takes it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.title = ""
        self._in_title = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at a tag: nothing runs, and everything leads to this farm."""
        self._in_title = tag == "h1"
        for name, value in attrs:
            assert not name.startswith("on"), (tag, attrs)
            if name in ("href", "src", "action", "formaction") or name.startswith("hx-"):
                assert not (value or "").lower().startswith(("javascript:", "data:", "//")), attrs
                assert "sign-out" not in (value or "") or tag == "form", attrs
        if tag == "script":
            assert str(dict(attrs).get("src")).startswith("/static/"), attrs

    def handle_endtag(self, tag: str) -> None:
        """See the title's end."""
        self._in_title = self._in_title and tag != "h1"

    def handle_data(self, data: str) -> None:
        """Keep the title."""
        self.title += data if self._in_title else ""


def made(open_farm: OpenFarm, prompt: str) -> str:
    """Submit a prompt and return the job's id."""
    answer = open_farm.people.user.post("/api/v1/jobs", json={"prompt": prompt, "seconds": 1})
    assert answer.status_code == 202, answer.text
    return str(answer.get_json()["id"])


def checked(answer: TestResponse, prompt: str) -> Page:
    """Return a page that has nothing in it of a prompt but its text."""
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'")
    if set(prompt) & set("<>\"'&"):
        assert prompt not in answer.text
    return Page(answer.text)


def test_a_page_shows_a_prompt_and_nothing_of_it_acts(open_farm: OpenFarm) -> None:
    """The job's page has it as its heading, letter for letter; the studio and the quote too."""
    assert len(MARKED) >= 45
    browser = open_farm.browser()
    for prompt in MARKED:
        page = checked(browser.get(f"/jobs/{made(open_farm, prompt)}"), prompt)
        assert page.title.split() == prompt.split(), prompt
    for prompt in MARKED[::5]:
        checked(browser.get("/", query_string={"prompt": prompt}), prompt)
        token = {"csrf_token": _token(browser), "prompt": prompt}
        answer = browser.post("/quote", data=token, headers={"HX-Request": "true"})
        assert answer.status_code == 200
        checked(answer, prompt)
        lost = browser.get(f"/jobs/{'x' if '/' in prompt else prompt}")
        checked(lost, prompt)


def _token(browser: FlaskClient) -> str:
    with browser.session_transaction() as cookie:
        cookie.pop("csrf_token", None)
    found = browser.get("/").text.partition('name="csrf_token" value="')[2]
    return found.partition('"')[0]


def test_a_stream_has_no_event_of_a_clients(open_farm: OpenFarm) -> None:
    """Every line of a job's streams is a field of ours; there are as many events as happened."""
    browser = open_farm.browser()
    for prompt in [text for text in TAKEN if set(text) & set("\n\u2028\u2029")]:
        job = made(open_farm, prompt)
        assert open_farm.people.user.post(f"/api/v1/jobs/{job}/cancel").status_code == 200
        told = open_farm.people.user.get(f"/api/v1/jobs/{job}/events").text
        assert told.count("\nevent: ") == len(jobs.events(open_farm.web_farm, (job,), after=0))
        page = browser.get(f"/jobs/{job}/live").text
        assert page.count("\nevent: ") == 1
        for line in (told + page).split("\n"):
            assert not line or line.startswith(FIELDS), line
            if line.startswith("data: {"):
                json.loads(line.removeprefix("data: "))


def test_a_sheet_has_one_cell_of_each_text() -> None:
    """No text of the corpus is a formula, or more than one cell of one row."""
    for word in WORDS.values():
        rows = list(csv.reader(io.StringIO(sheet(["a", "b"], [[word.text, "end"]]), newline="")))
        assert len(rows) == 2, word
        assert not rows[1][0].startswith(FORMULA), word
        assert rows[1][1:] == ["end"], word


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "@SUM(1+1)", '","=1+1'])
def test_a_workers_name_is_no_formula(
    name: str, web_farm: Farm, clock: Clock, caller: Caller
) -> None:
    """A sheet of usage by worker shows a worker that calls itself a formula as a text."""
    made = caller().post("/api/v1/jobs", json={"prompt": "a cat", "seconds": 1})
    assert made.status_code == 202
    Hand(web_farm, clock, name=name).work_off()
    answer = caller(KeyKind.ADMIN).get(
        "/api/v1/usage", query_string={"by": "worker", "format": "csv"}
    )
    rows = list(csv.reader(io.StringIO(answer.text)))
    assert answer.headers["Content-Disposition"] == 'attachment; filename="usage.csv"'
    assert len({len(row) for row in rows}) == 1
    assert not any(cell.startswith(FORMULA) for row in rows for cell in row)
    receipt = caller().get(f"/api/v1/jobs/{made.get_json()['id']}/receipt?format=csv")
    workers = [row["worker"] for row in csv.DictReader(io.StringIO(receipt.text))]
    assert workers
    assert not any(each.startswith(FORMULA) for each in workers)


def test_a_terminal_obeys_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Tables, facts, sentences and documents show a terminal's commands instead of giving them."""
    for word in WORDS.values():
        text = word.text[:1000]
        output.say(text)
        output.table(("NAME",), [(text,)], empty="")
        output.facts({"name": text})
        output.document({"name": text})
        told = capsys.readouterr()
        assert not OBEYED & set(told.out + told.err), word.text
    output.document({"name": "\x1b[31m\x9b\u202e\ud83d"})
    assert json.loads(capsys.readouterr().out)["name"] == "\x1b[31m\x9b\u202e\ud83d"


def test_a_file_named_after_a_prompt_lies_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`farm render` names its file by letters and digits, in the folder where it is called."""
    monkeypatch.chdir(tmp_path)
    for word in WORDS.values():
        path = Path(destination.free_name(word.text))
        assert path.parts == (path.name,)
        assert path.stem.replace("-", "").isalnum(), word
        path.touch()
    assert len(list(tmp_path.iterdir())) == len(WORDS)


def test_a_policy_hears_the_prompt_and_may_repeat_it(web_farm: Farm, tmp_path: Path) -> None:
    """It is asked with what was typed, and its own words are a line that is shown to people."""
    config = Settings(
        home=tmp_path / "home", min_free_disk_mb=1, policy_prompt="tests.judges:echoes"
    )
    judged = make_farm(web_farm.store, Clock(), judges_prompts=True)
    _, token = keys.create(judged, account_id=account_id(judged), kind=KeyKind.USER, name="t")
    client = create_app(judged, config).test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    judges.ASKED.clear()
    for prompt in TAKEN[::4]:
        answer = client.post("/api/v1/jobs", json={"prompt": prompt})
        assert (answer.status_code, answer.get_json()["code"]) == (422, "policy_refused"), prompt
        assert judges.ASKED[-1]["prompt"] == prompt
        assert not (OBEYED | {"\n"}) & set(answer.get_json()["detail"]), prompt


def test_no_address_leads_away_after_signing_in(open_farm: OpenFarm) -> None:
    """Whatever `next` says, a browser that signs in stays on this farm."""
    paths = [
        "//evil.test",
        "/\\evil.test",
        "/\t/evil.test",
        "/\r\nSet-Cookie: a=b",
        "https:evil.test",
    ]
    for text in [*paths, *(word.text for word in WORDS.values())]:
        browser = open_farm.app.test_client()
        text_input = browser.get("/sign-in", query_string={"next": shown(text)})
        token = text_input.text.partition('name="csrf_token" value="')[2].partition('"')[0]
        key = open_farm.people.user.environ_base["HTTP_AUTHORIZATION"].removeprefix("Bearer ")
        form = {"csrf_token": token, "token": key, "next": text.encode("utf-8", "replace").decode()}
        answer = browser.post("/sign-in", data=form)
        assert answer.status_code == 303, (text, answer.text)
        place = answer.headers["Location"]
        assert place.startswith("/"), place
        assert not place.startswith(("//", "/\\")), place
        assert "evil" not in (answer.headers.get("Set-Cookie") or "")


def test_twins_are_one_name(open_farm: OpenFarm) -> None:
    """Composed or not, with blanks around it or without, a session is found by its name."""
    user = open_farm.people.user
    made = user.post("/api/v1/sessions", json={"name": " twin caf\u00e9 ", "budget_gpu_seconds": 9})
    assert made.get_json()["name"] == normal("twin cafe\u0301") == "twin caf\u00e9"
    found = user.get("/api/v1/sessions/twin cafe\u0301")
    assert found.get_json()["id"] == made.get_json()["id"]
    asked = {"prompt": "a cat", "session_id": "twin cafe\u0301 "}
    assert user.post("/api/v1/jobs", json=asked).get_json()["session_id"] == found.get_json()["id"]
