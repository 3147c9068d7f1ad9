"""A farm with all its doors, and people before them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import inspect, text

from orchestrator.farm import Farm
from orchestrator.farm.accounts import accounts, keys, opening
from orchestrator.settings import Settings
from orchestrator.states import KeyKind
from orchestrator.store import open_store
from tests.factories import Clock, account_id, make_farm
from tests.web.doors import Door, People
from tests.web.evil_words import Word
from web.app import create_app

REFUSALS = range(400, 500)


@dataclass(frozen=True)
class Street:
    """A farm with all its doors, and somebody with each kind of key."""

    house: Farm
    app: Flask
    crowd: People
    folder: Path

    def rows(self) -> dict[str, int]:
        """Count the rows of every table."""
        engine = self.house.store.engine  # type: ignore[attr-defined]
        with engine.connect().execution_options(reads=True) as connection:
            tables = inspect(connection).get_table_names()
            return {t: connection.scalar(text(f'SELECT count(*) FROM "{t}"')) for t in tables}

    def browser(self) -> FlaskClient:
        """Return a browser that signed in by its link."""
        owner, client = account_id(self.house), self.app.test_client()
        token = opening.replace_key(self.house, account_id=owner, kind=KeyKind.SIGNIN, name="link")
        assert client.get(f"/sign-in/{token}").status_code == 303
        return client

    def refuses(self, door: Door, sent: dict[str, Word]) -> None:
        """See that a door refuses each text with a 4xx, and that nothing is there more."""
        before = self.rows()
        for title, word in sent.items():
            answer = door.send(self.crowd, word.text)
            told = (title, answer.status_code, answer.text[:300])
            assert answer.status_code in REFUSALS, told
            assert "Traceback" not in answer.text, told
        assert self.rows() == before


def built(url: str, folder: Path) -> Iterator[Street]:
    """Yield a farm that counts no requests, whose account may have any number of jobs."""
    store = open_store(url)
    house = make_farm(store, Clock(), default_session_gpu_seconds=10**6)
    accounts.set_plan(house, account_id(house), "unlimited")
    beside = accounts.create(house, name="beside", plan="unlimited").account.id
    config = Settings(
        home=folder / "home", min_free_disk_mb=1, rate_limit="", sign_in_limit="999999/second"
    )
    app = create_app(house, config)
    app.config["PROPAGATE_EXCEPTIONS"] = False

    clients = []
    for kind in (KeyKind.USER, KeyKind.ADMIN, KeyKind.JOIN, KeyKind.USER):
        owner = beside if len(clients) == 3 else account_id(house)
        _, token = keys.create(house, account_id=owner, kind=kind, name="test")
        clients.append(app.test_client())
        clients[-1].environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    yield Street(house, app, People(*clients), folder)
    store.close()
