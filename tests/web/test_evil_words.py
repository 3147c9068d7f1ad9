"""Evil names and prompts at every door: refused without a trace, or data and nothing else."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from flask import Flask
from sqlalchemy import inspect, text

from orchestrator.farm import Farm, accounts, keys, people
from orchestrator.settings import Settings
from orchestrator.states import KeyKind
from orchestrator.store import open_store
from tests.factories import Clock, account_id, make_farm
from tests.web.doors import Door, People, doors, nothing
from tests.web.evil_words import REFUSED, Word, words
from web.app import create_app

WORDS = words()
DOORS = doors()
REFUSALS = range(400, 500)
CONFLICT = 409
LARGE = 100_000
PART = 12
MAIN = ("prompt of a job", "prompt of a video", "a session's name", "a worker's name")
"""Doors that every text which is taken goes through; the others take every twelfth."""
TWINS = {("a session's name", "the NFD twin")}
"""Names that are there already, in letters put together otherwise."""


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
    config = Settings(home=folder / "home", min_free_disk_mb=1, rate_limit="")
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


@pytest.fixture(scope="module")
def street(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    """A farm on SQLite, the same for all tests here."""
    folder = tmp_path_factory.mktemp("street")
    (folder / "farm.sqlite").write_bytes(sqlite_template.read_bytes())
    yield from built(f"sqlite:///{folder / 'farm.sqlite'}", folder)


@pytest.fixture(autouse=True)
def _quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords are not what is tried here."""
    monkeypatch.setattr(people, "HASHER", PasswordHasher(1, 8, 1))


def sendable(door: Door) -> dict[str, Word]:
    """Return the texts that can come through a door at all."""

    def fits(word: Word) -> bool:
        text_alone = not any("\ud800" <= char <= "\udfff" for char in word.text)
        return (text_alone or not door.utf8) and (door.large or len(word.text) < LARGE)

    return {title: word for title, word in WORDS.items() if fits(word)}


def taken_here(name: str) -> dict[str, Word]:
    """Return what a door takes: all where prompts and names come in first, elsewhere a part."""
    taken = {
        title: word for title, word in sendable(DOORS[name]).items() if DOORS[name].takes(word)
    }
    return taken if name in MAIN else part(name, taken)


def refused_here(name: str) -> dict[str, Word]:
    """Return what a door refuses; of names behind which there is nothing a part."""
    door = DOORS[name]
    refused = {title: word for title, word in sendable(door).items() if not door.takes(word)}
    if door.takes is not nothing:
        return refused
    odd = {title: word for title, word in refused.items() if title in REFUSED}
    return odd | part(name, refused)


def part(name: str, sent: dict[str, Word]) -> dict[str, Word]:
    """Return every twelfth; those of doors beside each other are others, and together all."""
    return dict(list(sent.items())[list(DOORS).index(name) % PART :: PART])


def test_the_corpus_is_large() -> None:
    """There are a hundred texts and more, many of each kind, and dozens of doors."""
    assert len({word.text for word in WORDS.values()}) >= 150
    assert sum(word.prompt and word.name for word in WORDS.values()) >= 100
    assert len(REFUSED) >= 25
    assert sum(word.prompt and not word.name for word in WORDS.values()) >= 20
    assert len(DOORS) >= 60


@pytest.mark.parametrize("name", DOORS)
def test_a_text_is_refused_without_a_trace_or_is_data(name: str, street: Street) -> None:
    """Each text gets a 4xx and no table a row more, or it is taken; no file appears elsewhere."""
    door = DOORS[name]
    street.refuses(door, refused_here(name))
    for title, word in taken_here(name).items():
        answer = door.send(street.crowd, word.text)
        done = CONFLICT if (name, title) in TWINS else door.done
        assert answer.status_code == done, (title, answer.status_code, answer.text[:300])
    beside = {path.name.partition(".")[0] for path in street.folder.iterdir()}
    assert beside <= {"farm", "home"}
    assert not Path("/tmp/planted").exists()


def test_postgres_is_asked_nothing_that_is_no_text(postgres_url: str, tmp_path: Path) -> None:
    """NULs and half characters, which PostgreSQL does not hold, are a 4xx at every door."""
    odd = {title: word for title, word in WORDS.items() if {"\x00", "\ud83d"} & set(word.text)}
    assert len(odd) >= 3
    for street in built(postgres_url, tmp_path):
        for door in DOORS.values():
            street.refuses(
                door, {t: w for t, w in sendable(door).items() if t in odd and not door.takes(w)}
            )
