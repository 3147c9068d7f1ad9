"""Refusals of the databases themselves; both have the tables the code speaks of."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pysqlite3.dbapi2 as sqlite
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from orchestrator import store as store_package
from orchestrator.errors import Conflict, Contended
from orchestrator.farm import Farm
from orchestrator.farm.accounts import keys, opening, sessions
from orchestrator.farm.leases import fleet
from orchestrator.model import Session
from orchestrator.states import KeyKind
from orchestrator.store import Store, engine, migrate, open_store
from orchestrator.store.tables import metadata
from orchestrator.store.transaction import Transaction
from tests.factories import Clock, account_id, make_farm

pytestmark = pytest.mark.core  # PostgreSQL has its part in a quick run


def test_migrations_lead_to_the_tables(store: Store) -> None:
    """The migrated schema is the one that the code declares."""
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_the_newest_migration_is_the_one_a_start_looks_for() -> None:
    """A start skips Alembic when the database is at HEAD, so HEAD must be Alembic's own."""
    folder = Path(store_package.__file__).parent / "migrations"
    assert ScriptDirectory(str(folder)).get_current_head() == store_package.HEAD


def test_migrating_again_changes_nothing(store_url: str) -> None:
    """Every start migrates; a second one finds nothing to do."""
    migrate(store_url)


def test_an_overspent_session_cannot_be_written(farm: Farm) -> None:
    """I1 is a CHECK: SQL refuses held + spent > limit whatever the code above does."""
    session = sessions.find(farm, account_id(farm), None)
    with pytest.raises(DBAPIError), farm.store.write() as tx:
        tx.save(session, replace(session, spent_gpu_ms=session.limit_gpu_ms + 1))
    assert sessions.find(farm, account_id(farm), None) == session


@pytest.mark.parametrize(
    "change",
    [
        *("UPDATE entries SET gpu_ms = 1", "DELETE FROM entries"),
        *("UPDATE plan_periods SET plan = 'free'", "DELETE FROM plan_periods"),
    ],
)
def test_an_entry_cannot_be_changed(store: Store, farm: Farm, change: str) -> None:
    """I6: a trigger refuses to change or delete what the ledger says, and who had which plan."""
    with pytest.raises(DBAPIError, match="never changed"), store.engine.begin() as connection:
        connection.execute(text(change))


@pytest.mark.parametrize(
    ("table", "fresh"), [("entries", "number"), ("entries", "id"), ("audit_log", "at_ms")]
)
@pytest.mark.parametrize("ours", [True, False])
def test_a_row_cannot_be_replaced(
    sqlite_url: str, clock: Clock, table: str, fresh: str, ours: bool
) -> None:
    """SQLite's INSERT OR REPLACE deletes what it meets: refused to us, and to any other client."""
    store = open_store(sqlite_url)
    fleet.freeze(make_farm(store, clock), frozen=False)  # opened with an entry; this logs one more
    store.close()
    engine = store.engine if ours else create_engine(sqlite_url, module=sqlite)
    with engine.connect() as connection:
        row = dict(connection.execute(text(f"SELECT * FROM {table} LIMIT 1")).mappings().one())
    row[fresh] = "new" if fresh == "id" else 7
    names = ", ".join(f":{name}" for name in row)
    with pytest.raises(DBAPIError, match="never changed"), engine.begin() as connection:
        connection.execute(text(f"INSERT OR REPLACE INTO {table} VALUES ({names})"), row)
    engine.dispose()


def test_a_row_that_changed_meanwhile_is_not_overwritten(farm: Farm) -> None:
    """A guarded save of an outdated row raises and writes nothing."""
    session = sessions.find(farm, account_id(farm), None)
    with farm.store.write() as tx:
        tx.save(session, replace(session, held_gpu_ms=5))
    with pytest.raises(Conflict), farm.store.write() as tx:
        tx.save(session, replace(session, held_gpu_ms=7))


def test_a_failed_transaction_leaves_no_trace(farm: Farm) -> None:
    """Nothing that was written before an error is there afterwards."""
    session = sessions.find(farm, account_id(farm), None)
    with pytest.raises(ZeroDivisionError), farm.store.write() as tx:
        tx.save(session, replace(session, held_gpu_ms=5))
        1 / 0  # noqa: B018 - any error
    assert sessions.find(farm, account_id(farm), None).held_gpu_ms == 0


def test_a_home_is_opened_once(farm: Farm) -> None:
    """The first start makes an account, a session and an admin key; later ones make nothing."""
    assert opening.open_home(farm) is None
    names = [s.name for s in sessions.listing(farm, None).items]
    assert names == ["default"]


def test_keys_are_kept_hashed_and_end_at_once(farm: Farm) -> None:
    """A token opens until it is revoked; what is stored does not contain it."""
    from orchestrator.errors import Unauthorized

    owner = account_id(farm)
    key, token = keys.create(farm, account_id=owner, kind=KeyKind.USER, name="mine")
    assert token not in repr(keys.listing(farm, owner))
    assert keys.resolve(farm, token).id == key.id
    keys.revoke(farm, owner, key.id)
    with pytest.raises(Unauthorized):
        keys.resolve(farm, token)


def test_a_sign_in_link_works_once(farm: Farm) -> None:
    """The second use of a link is refused, and so is the link of an earlier start."""
    from orchestrator.errors import Unauthorized

    owner = account_id(farm)
    make = {"account_id": owner, "kind": KeyKind.SIGNIN, "name": "browser"}
    older = opening.replace_key(farm, **make)
    token = opening.replace_key(farm, **make)
    assert keys.redeem_signin(farm, token).account_id == owner
    for used in (token, older):
        with pytest.raises(Unauthorized):
            keys.redeem_signin(farm, used)


def test_one_budget_per_name(farm: Farm) -> None:
    """An account has one session of a name."""
    with pytest.raises(Conflict):
        sessions.create(farm, account_id=account_id(farm), name="default", budget_gpu_ms=1)


def test_reading_sees_one_moment(farm: Farm) -> None:
    """A reader that has begun does not see what is committed afterwards."""
    owner = account_id(farm)
    with farm.store.read() as tx:
        before = len(tx.find(Session))
        sessions.create(farm, account_id=owner, name="later", budget_gpu_ms=1)
        assert len(tx.find(Session)) == before


def test_a_connection_to_sqlite_waits_for_the_next_transaction(sqlite_url: str) -> None:
    """One after the other use the same one; one within the other has its own; none is left open."""
    store = open_store(sqlite_url)

    def raw(tx: Transaction) -> Any:
        return tx.connection.connection.dbapi_connection

    with store.write() as tx:
        first = raw(tx)
    with store.read() as tx:
        assert raw(tx) is first
        with store.write() as other:
            second = raw(other)
            assert second is not first
    store.close()
    for each in (first, second):
        with pytest.raises(sqlite.ProgrammingError, match="closed"):
            each.execute("SELECT 1")


def test_a_writer_waits_for_another_and_then_gives_way(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until `BUSY_MS` it looks again and again; what it then raises may be tried anew."""
    monkeypatch.setattr(engine, "BUSY_MS", 50)
    store = open_store(sqlite_url)
    with store.write(), pytest.raises(Contended), store.write():
        pass
    with store.write() as tx:
        tx.set_fact("frozen", True)
    store.close()
