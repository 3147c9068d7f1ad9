"""Evil names and prompts at every text_input: refused without a trace, or data and nothing else."""

from pathlib import Path

import pytest
from argon2 import PasswordHasher

from orchestrator.farm.accounts import people
from tests.web.every_input import OpenFarm, built
from tests.web.evil_words import REFUSED, Word, words
from tests.web.text_inputs import TextInput, inputs, nothing

WORDS = words()
TEXT_INPUTS = inputs()
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


def sendable(text_input: TextInput) -> dict[str, Word]:
    """Return the texts that can come through a text_input at all."""

    def fits(word: Word) -> bool:
        text_alone = not any("\ud800" <= char <= "\udfff" for char in word.text)
        return (text_alone or not text_input.utf8) and (text_input.large or len(word.text) < LARGE)

    return {title: word for title, word in WORDS.items() if fits(word)}


def taken_here(name: str) -> dict[str, Word]:
    """Return what an input takes: all where prompts and names come first, elsewhere a part."""
    taken = {
        title: word
        for title, word in sendable(TEXT_INPUTS[name]).items()
        if TEXT_INPUTS[name].takes(word)
    }
    return taken if name in MAIN else part(name, taken)


def refused_here(name: str) -> dict[str, Word]:
    """Return what a text_input refuses; of names behind which there is nothing a part."""
    text_input = TEXT_INPUTS[name]
    refused = {
        title: word for title, word in sendable(text_input).items() if not text_input.takes(word)
    }
    if text_input.takes is not nothing:
        return refused
    odd = {title: word for title, word in refused.items() if title in REFUSED}
    return odd | part(name, refused)


def part(name: str, sent: dict[str, Word]) -> dict[str, Word]:
    """Return every twelfth; those of inputs beside each other are others, and together all."""
    return dict(list(sent.items())[list(TEXT_INPUTS).index(name) % PART :: PART])


def test_the_corpus_is_large() -> None:
    """There are a hundred texts and more, many of each kind, and dozens of inputs."""
    assert len({word.text for word in WORDS.values()}) >= 150
    assert sum(word.prompt and word.name for word in WORDS.values()) >= 100
    assert len(REFUSED) >= 25
    assert sum(word.prompt and not word.name for word in WORDS.values()) >= 20
    assert len(TEXT_INPUTS) >= 60


@pytest.mark.parametrize("name", TEXT_INPUTS)
def test_a_text_is_refused_without_a_trace_or_is_data(name: str, open_farm: OpenFarm) -> None:
    """Each text gets a 4xx and no table a row more, or it is taken; no file appears elsewhere."""
    text_input = TEXT_INPUTS[name]
    open_farm.refuses(text_input, refused_here(name))
    for title, word in taken_here(name).items():
        answer = text_input.send(open_farm.people, word.text)
        done = CONFLICT if (name, title) in TWINS else text_input.done
        assert answer.status_code == done, (title, answer.status_code, answer.text[:300])
    beside = {path.name.partition(".")[0] for path in open_farm.folder.iterdir()}
    assert beside <= {"farm", "home"}
    assert not Path("/tmp/planted").exists()


def test_postgres_is_asked_nothing_that_is_no_text(postgres_url: str, tmp_path: Path) -> None:
    """NULs and half characters, which PostgreSQL does not hold, are a 4xx at every text_input."""
    odd = {title: word for title, word in WORDS.items() if {"\x00", "\ud83d"} & set(word.text)}
    assert len(odd) >= 3
    for open_farm in built(postgres_url, tmp_path):
        for text_input in TEXT_INPUTS.values():
            open_farm.refuses(
                text_input,
                {
                    t: w
                    for t, w in sendable(text_input).items()
                    if t in odd and not text_input.takes(w)
                },
            )
