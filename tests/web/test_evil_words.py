"""Evil names and prompts at every door: refused without a trace, or data and nothing else."""

from pathlib import Path

import pytest
from argon2 import PasswordHasher

from orchestrator.farm.accounts import people
from tests.web.doors import Door, doors, nothing
from tests.web.evil_words import REFUSED, Word, words
from tests.web.street import Street, built

WORDS = words()
DOORS = doors()
CONFLICT = 409
LARGE = 100_000
PART = 12
MAIN = ("prompt of a job", "prompt of a video", "a session's name", "a worker's name")
"""Doors that every text which is taken goes through; the others take every twelfth."""
TWINS = {("a session's name", "the NFD twin")}
"""Names that are there already, in letters put together otherwise."""


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
