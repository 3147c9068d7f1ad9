"""`farm jobs receipt`, `farm usage` and `farm session ledger` against a farm over HTTP."""

import csv
import io
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from flask import Flask
from sqlalchemy import text
from werkzeug.serving import make_server

from orchestrator import cli
from orchestrator.farm import Farm
from orchestrator.farm.accounts import accounts, keys
from orchestrator.money.plans import Plans
from orchestrator.settings import settings
from orchestrator.states import KeyKind, Outcome
from tests.factories import Clock, Hand, account_id, brief, submit

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(
    app: Flask, web_farm: Farm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Run `farm` in this process with an admin key; returns exit code, stdout and stderr."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    _, token = keys.create(
        web_farm, account_id=account_id(web_farm), kind=KeyKind.ADMIN, name="command line"
    )
    monkeypatch.setenv("FARM_SERVER", f"http://127.0.0.1:{server.port}")
    monkeypatch.setenv("FARM_API_KEY", token)
    settings.cache_clear()

    def farm(*args: str) -> tuple[int, str, str]:
        code = cli._run(list(args))
        told = capsys.readouterr()
        return code, told.out, told.err

    yield farm
    server.shutdown()
    settings.cache_clear()


@pytest.fixture
def done(web_farm: Farm, clock: Clock) -> str:
    """A finished job."""
    job = submit(web_farm)
    Hand(web_farm, clock).work_off(gpu_ms=10)
    return job.id


def test_a_bill_is_verified_and_a_forged_one_named(run: Run, done: str, web_farm: Farm) -> None:
    """`--verify` says what it checked; after a forgery it exits with 1 and names the entry."""
    code, out, err = run("jobs", "receipt", "--verify", done)
    assert code == 0
    assert "entries of 4 leases" in out
    assert "is what the ledger says" in err
    store = web_farm.store
    with store.engine.begin() as connection:  # type: ignore[attr-defined]
        connection.execute(text("DROP TRIGGER entries_no_update"))
        connection.execute(text("UPDATE entries SET price_microusd = 0 WHERE number = 3"))
    code, out, err = run("jobs", "receipt", "--verify", done)
    assert code == 1
    assert "Entry 3 (ent_" in err
    assert "Next:" in err
    code, out, _ = run("jobs", "receipt", "--verify", done, "--json")
    assert (code, json.loads(out)["fault"]["number"]) == (1, 3)


def test_a_bill_says_its_rate_card_and_what_was_not_charged(
    run: Run, web_farm: Farm, clock: Clock
) -> None:
    """The receipt names the card, every attempt, and the reason of each GPU-ms at no charge."""
    job = submit(web_farm)
    hand = Hand(web_farm, clock)
    order = hand.claim()
    assert order
    clock.advance(1)
    hand.release(order, gpu_ms=30)
    hand.work_off(gpu_ms=10)
    code, out, _ = run("jobs", "receipt", job.id)
    assert code == 0
    assert "by rate card 2026-11" in out
    assert "not charged: 0.03 GPU-seconds, handed back" in out
    code, out, _ = run("jobs", "receipt", job.id, "--csv")
    lines = list(csv.DictReader(io.StringIO(out)))
    assert [line["attempt"] for line in lines] == ["1", "2", "1", "1", "1"]


def test_a_bill_shows_stages_energy_and_reasons_of_each_line(
    run: Run, web_farm: Farm, clock: Clock
) -> None:
    """Table and CSV have the time of each stage, the energy and why something was not charged;
    the last line has the energy of all."""
    job = submit(web_farm)
    hand = Hand(web_farm, clock)
    stages = {"denoise": 1500, "decode": 250}
    while order := hand.claim():
        clock.advance(2)
        hand.complete(
            order, Outcome.DONE, gpu_ms=1750, by_stage=stages, energy_mj=2500, load_gpu_ms=40
        )
    _, out, _ = run("jobs", "receipt", job.id)
    head, first, *_ = out.splitlines()
    assert "BY STAGE" in head and "NOT CHARGED" in head
    assert "decode 0.25, denoise 1.5" in first
    assert "2.5" in first.split()
    assert "model load and checkpoints" in first
    assert ", 10 J" in out
    _, out, _ = run("jobs", "receipt", job.id, "--csv")
    line = next(csv.DictReader(io.StringIO(out)))
    assert line["by_stage"] == "denoise: 1.5; decode: 0.25"
    assert line["energy_mj"] == "2500"
    assert line["not_charged"].startswith("model load and checkpoints: 0.04; over the lease")


def test_the_ledger_as_csv(run: Run, done: str) -> None:
    """`session ledger --csv` prints every entry, the newest first."""
    code, out, _ = run("session", "ledger", "default", "--csv")
    numbers = [int(row["number"]) for row in csv.DictReader(io.StringIO(out))]
    assert code == 0
    assert numbers == list(range(len(numbers), 0, -1))


def test_the_books_have_a_total_and_the_idle_time(run: Run, done: str) -> None:
    """`usage --money` shows each row, the total, and the devices; by what no books are, it says."""
    code, out, _ = run("usage", "--money", "--by", "user")
    assert code == 0
    assert "total" in out
    assert "IDLE COST" in out
    assert "(idle)" in out
    assert "margin is revenue less cost" in out
    assert "caps hit are counted by day, from 20" in out
    code, out, _ = run("usage", "--money", "--csv")
    assert [row["plan"] for row in csv.DictReader(io.StringIO(out))][-2:] == ["(idle)", "total"]
    assert run("usage", "--money", "--by", "worker")[0] == 2
    assert run("usage", "--by", "plan")[0] == 2
    assert run("usage", "--money", "--calibration")[0] == 2


def test_plans_say_what_they_cost_and_mark(run: Run, web_farm: Farm) -> None:
    """`account plans` shows price and watermark; with a name everything that one says."""
    code, out, _ = run("account", "plans")
    assert code == 0
    assert "WATERMARK" in out and "Framefarm" in out and "by GPU-s" in out
    code, out, _ = run("account", "plans", "free")
    assert code == 0
    for fact in (
        "GPU-seconds a month",
        "10% of each device",
        "Framefarm",
        "100=pause_new",
        "0 USD",
    ):
        assert fact in out
    assert "by the GPU-second" in run("account", "plans", "studio")[1]
    assert json.loads(run("account", "plans", "free", "--json")[1])["data"][0]["floor"] == 0.1
    assert run("account", "plans", "gold")[0] == 2


def test_an_account_whose_plan_is_gone_says_so(run: Run, web_farm: Farm) -> None:
    """Lists name the plan that the farm offers no more; of one account, that nothing may run."""
    own = replace(web_farm.plans.named("studio"), name="own")
    before = replace(web_farm, plans=Plans({**web_farm.plans.plans, "own": own}))
    assert "may_run" in run("account", "show", "--json")[1]
    accounts.set_plan(before, account_id(web_farm), "own")
    assert "own (offered no more)" in run("account", "ls")[1]
    assert "own (offered no more): nothing may run" in run("account", "show")[1]
    assert json.loads(run("account", "show", "--json")[1])["may_run"] is False
    accounts.set_plan(web_farm, account_id(web_farm), accounts.NO_PLAN)
    assert "none: nothing may run" in run("account", "show")[1]


def test_calibration_without_a_job_says_what_to_do(run: Run, web_farm: Farm, clock: Clock) -> None:
    """An empty table has a next step; one job later there is a share."""
    code, out, err = run("usage", "--calibration")
    assert (code, out) == (0, "")
    assert "farm render" in err
    submit(web_farm)
    Hand(web_farm, clock).work_off(gpu_ms=10)
    code, out, _ = run("usage", "--calibration")
    assert "1 of the last 1 jobs came in under their p90: 100 %" in out


def test_usage_of_the_week_is_as_it_was(run: Run, done: str) -> None:
    """Without options usage is by session, as a table, a document or CSV."""
    assert "SESSION" in run("usage")[1]
    assert json.loads(run("usage", "--json")[1])["data"][0]["units"] == 4
    assert run("usage", "--csv")[1].startswith("session,units,gpu_seconds,lost_gpu_seconds\n")


def test_the_head_can_be_kept_and_looked_for(run: Run, done: str, web_farm: Farm) -> None:
    """`session show` prints the whole head; `--verify --head` finds it later, and no other."""
    shown = json.loads(run("session", "show", "default", "--json")[1])
    head = shown["head_sha256"]
    assert head in run("session", "show", "default")[1]
    submit(web_farm)
    code, out, err = run("session", "ledger", "default", "--verify", "--head", head)
    assert (code, "the digest you kept" in err) == (0, True)
    assert f"{shown['entries'] + 1} entries" in out
    code, out, err = run("session", "ledger", "default", "--verify", "--head", "0" * 64)
    assert (code, "Next:" in err) == (1, True)
    code, out, _ = run("session", "ledger", "default", "--verify", "--json")
    assert (code, json.loads(out)["ok"]) == (0, True)
    code, _, err = run("session", "ledger", "default", "--verify", "--head", head[:12])
    assert (code, "64 of" in err) == (2, True)
    assert run("session", "ledger", "default", "--head", head)[0] == 2


def test_options_of_which_there_is_one_answer(run: Run, done: str) -> None:
    """Two answers at once are a usage error: nothing is left unverified without a word."""
    for words in (
        ("jobs", "receipt", done, "--csv", "--verify"),
        ("jobs", "receipt", done, "--csv", "--json"),
        ("session", "ledger", "default", "--csv", "--json"),
        ("session", "ledger", "default", "--csv", "--verify"),
        ("usage", "--csv", "--json"),
        ("usage", "--calibration", "--by", "user"),
        ("usage", "--calibration", "--since", "1d"),
        ("usage", "--jobs", "5"),
    ):
        code, out, _ = run(*words)
        assert (words, code, out) == (words, 2, "")


def test_the_ledger_shows_money_beside_device_time(run: Run, done: str) -> None:
    """A settlement's row has its price and the two accounts of money that it moves between."""
    rows = run("session", "ledger", "default")[1].splitlines()
    (settled,) = [row for row in rows if " settle " in row and "receivable:ses_" in row][:1]
    assert "revenue" in settled
    assert "0.000001" in settled


def test_alerts_are_given_and_shown_on_the_command_line(run: Run, web_farm: Farm) -> None:
    """As words, for a new session, for one that is there, and for an account."""
    code, out, _ = run("session", "create", "s", "--alert", "50", "--alert", "80=pause_new")
    assert code == 0 and "50=notify 80=pause_new (by the session)" in out
    assert "80=pause_new" in run("session", "show", "s")[1]
    code, out, _ = run("session", "alerts", "s", "90=pause_all")
    assert code == 0 and "90=pause_all (by the session)" in out
    assert run("session", "alerts", "s") == (0, out, "")
    assert "none (by the session)" in run("session", "alerts", "s", "none")[1]
    assert "100=notify (by the plan)" in run("session", "alerts", "s", "plan")[1]
    mine = account_id(web_farm)
    assert "99=pause_all (by the account)" in run("account", "alerts", mine, "99=pause_all")[1]
    assert "99=pause_all (by the account)" in run("account", "show")[1]
    for bad in ("fifty", "50=shout", "50%", "=notify"):
        code, _, err = run("session", "alerts", "s", bad)
        assert code == 2 and "80=pause_new" in err
    code, _, err = run("session", "alerts", "s", "90", "50")
    assert code == 2 and "ascend" in err


def test_a_job_is_finished_early_on_the_command_line(
    run: Run, web_farm: Farm, clock: Clock
) -> None:
    """`farm jobs finish` starts its video; while it is not paused the refusal says what to do."""
    job, hand = submit(web_farm, brief(seconds=8.0)), Hand(web_farm, clock)
    code, _, err = run("jobs", "finish", job.id)
    assert code == 1 and f"farm jobs pause {job.id}" in err
    for _ in range(2):
        order = hand.claim()
        assert order
        hand.done(order, 10)
    assert f"farm jobs finish {job.id}" in run("jobs", "pause", job.id)[2]
    code, out, _ = run("jobs", "finish", job.id, "--json")
    assert code == 0 and json.loads(out)["state"] == "encoding"
