"""`farm doctor` and the ledger: on a live farm, on none, on a forged one, and without triggers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from orchestrator.cli.checks import Finding, ledger_findings
from orchestrator.farm import Farm, check
from orchestrator.farm.leases import fleet, reconcile
from orchestrator.settings import settings
from orchestrator.store import Store
from tests.factories import Clock, Hand, submit


@pytest.fixture(autouse=True)
def _here(store_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The farm of this machine is the test's."""
    monkeypatch.setenv("FARM_DATABASE_URL", store_url)
    monkeypatch.setenv("FARM_FAKE_MODEL", "1")
    yield
    settings.cache_clear()


def found() -> list[Finding]:
    """Return what the doctor says of the ledger."""
    settings.cache_clear()
    return list(ledger_findings(settings()))


def rendered(farm: Farm, clock: Clock) -> None:
    """Have a finished job on the books."""
    submit(farm)
    Hand(farm, clock).work_off(gpu_ms=10)


def drop(store: Store, *, table: str = "entries", verb: str = "update") -> None:
    """Take a trigger away."""
    with store.engine.begin() as connection:
        if store.one_writer:
            connection.execute(text(f"DROP TRIGGER {table}_no_{verb}"))
        else:
            connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER {table}_unchanged"))


def test_honest_books_are_in_order_while_the_farm_runs(farm: Farm, clock: Clock) -> None:
    """With the farm's own connections open, a writing one too, the doctor reads and is content."""
    rendered(farm, clock)
    with farm.store.write() as tx:
        tx.set_fact("epoch", 1)
        (finding,) = found()
    assert (finding.name, finding.state) == ("ledger", "ok")


def test_a_forged_entry_is_broken_and_named(farm: Farm, clock: Clock, store: Store) -> None:
    """The entry, and what to do; the trigger that is gone is told too."""
    rendered(farm, clock)
    drop(store)
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE entries SET price_microusd = 0 WHERE number = 3"))
        (victim,) = connection.execute(text("SELECT id FROM entries WHERE number = 3")).one()
    findings = found()
    assert {(each.name, each.state) for each in findings} == {("ledger", "broken")}
    assert any(victim in each.found for each in findings)
    assert all("farm freeze" in each.mend for each in findings)


@pytest.mark.parametrize("table", ["entries", "audit_log"])
def test_a_trigger_that_is_gone_is_broken(farm: Farm, store: Store, table: str) -> None:
    """Nothing was forged yet, but nothing would refuse it: broken."""
    drop(store, table=table)
    (finding,) = found()
    assert finding.state == "broken"
    assert f"{table}_" in finding.found
    assert finding.found in check.violations(farm)


def test_a_machine_without_a_farm_is_not_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The doctor says so where there is no database yet, and makes none."""
    file = tmp_path / "new" / "farm.sqlite"
    monkeypatch.setenv("FARM_DATABASE_URL", f"sqlite:///{file}")
    (finding,) = found()
    assert finding.state == "ok"
    assert "none yet" in finding.found
    assert not file.parent.exists()


def test_another_version_s_tables_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables that are not this version's are neither read nor upgraded: a warning."""
    file = tmp_path / "older.sqlite"
    file.touch()
    monkeypatch.setenv("FARM_DATABASE_URL", f"sqlite:///{file}")
    (finding,) = found()
    assert finding.state == "warning"
    assert "farm up" in finding.mend


def test_a_database_that_does_not_answer_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is down is a finding with a next step, no traceback."""
    monkeypatch.setenv("FARM_DATABASE_URL", "postgresql+psycopg://farm@127.0.0.1:1/farm")
    (finding,) = found()
    assert finding.state == "broken"
    assert finding.mend


def test_what_the_periodic_look_found_stays_until_it_finds_nothing(
    farm: Farm, clock: Clock, store: Store
) -> None:
    """The dispatcher's look leaves its faults and its time where `farm status` reads them."""
    assert fleet.looked(farm) == {"at_ms": None, "faults": 0, "first": []}
    assert reconcile.look(farm) == []
    assert fleet.looked(farm) == {"at_ms": clock(), "faults": 0, "first": []}
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE sessions SET limit_gpu_ms = limit_gpu_ms + 1"))
    clock.advance(300)
    faults = reconcile.look(farm)
    assert faults
    assert fleet.looked(farm) == {"at_ms": clock(), "faults": len(faults), "first": faults[:5]}
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE sessions SET limit_gpu_ms = limit_gpu_ms - 1"))
    clock.advance(300)
    assert reconcile.look(farm) == []
    assert fleet.looked(farm)["faults"] == 0
