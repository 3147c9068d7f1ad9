"""A farm with all its inputs, and people before them."""

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
from tests.web.evil_words import Word
from tests.web.text_inputs import People, TextInput
from web.app import create_app

REFUSALS = range(400, 500)


@dataclass(frozen=True)
class OpenFarm:
    """A farm with all its inputs, and somebody with each kind of key."""

    web_farm: Farm
    app: Flask
    people: People
    folder: Path

    def rows(self) -> dict[str, int]:
        """Count the rows of every table."""
        engine = self.web_farm.store.engine  # type: ignore[attr-defined]
        with engine.connect().execution_options(reads=True) as connection:
            tables = inspect(connection).get_table_names()
            return {t: connection.scalar(text(f'SELECT count(*) FROM "{t}"')) for t in tables}

    def browser(self) -> FlaskClient:
        """Return a browser that signed in by its link."""
        owner, client = account_id(self.web_farm), self.app.test_client()
        token = opening.replace_key(
            self.web_farm, account_id=owner, kind=KeyKind.SIGNIN, name="link"
        )
        assert client.get(f"/sign-in/{token}").status_code == 303
        return client

    def refuses(self, text_input: TextInput, sent: dict[str, Word]) -> None:
        """See that a text_input refuses each text with a 4xx, and that nothing is there more."""
        before = self.rows()
        for title, word in sent.items():
            answer = text_input.send(self.people, word.text)
            told = (title, answer.status_code, answer.text[:300])
            assert answer.status_code in REFUSALS, told
            assert "Traceback" not in answer.text, told
        assert self.rows() == before


def built(url: str, folder: Path) -> Iterator[OpenFarm]:
    """Yield a farm that counts no requests, whose account may have any number of jobs."""
    store = open_store(url)
    web_farm = make_farm(store, Clock(), default_session_gpu_seconds=10**6)
    accounts.set_plan(web_farm, account_id(web_farm), "unlimited")
    beside = accounts.create(web_farm, name="beside", plan="unlimited").account.id
    config = Settings(
        home=folder / "home", min_free_disk_mb=1, rate_limit="", sign_in_limit="999999/second"
    )
    app = create_app(web_farm, config)
    app.config["PROPAGATE_EXCEPTIONS"] = False

    clients = []
    for kind in (KeyKind.USER, KeyKind.ADMIN, KeyKind.JOIN, KeyKind.USER):
        owner = beside if len(clients) == 3 else account_id(web_farm)
        _, token = keys.create(web_farm, account_id=owner, kind=kind, name="test")
        clients.append(app.test_client())
        clients[-1].environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    assert clients[0].post("/api/v1/jobs", json={"prompt": "a cat"}).status_code == 202
    yield OpenFarm(web_farm, app, People(*clients), folder)
    store.close()
