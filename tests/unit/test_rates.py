"""Rate cards: versions, days, and files that cannot be used."""

from pathlib import Path

import pytest

from orchestrator.errors import BadRequest
from orchestrator.money import rates

CARD = """
[[cards]]
version = "{version}"
from = {day}
[cards.price]
cpu = {price}
[cards.cost]
cpu = 36000
"""


def write(folder: Path, *cards: tuple[str, str, object]) -> Path:
    """Write a file of (version, day, price) and return it."""
    file = folder / "rates.toml"
    file.write_text("".join(CARD.format(version=v, day=d, price=p) for v, d, p in cards))
    return file


def test_a_card_holds_until_the_next_one(tmp_path: Path) -> None:
    """The card of a moment is the newest that has begun; before all, the first."""
    loaded = rates.load(write(tmp_path, ("a", "2026-01-01", 10), ("b", "2026-02-01", 20)))
    older, newer = loaded.cards
    assert newer.from_ms == 1_769_904_000_000  # 2026-02-01T00:00:00Z
    assert loaded.at(0) == loaded.at(newer.from_ms - 1) == older
    assert loaded.at(newer.from_ms) == newer
    assert loaded.version("a") == older
    assert loaded.version("c") is None


def test_amounts_are_whole_and_rounded_up(tmp_path: Path) -> None:
    """A begun micro-USD is one; a class that is not named costs what the dearest does."""
    card = rates.load(write(tmp_path, ("a", "2026-01-01", 10))).cards[0]
    assert card.price_microusd(1, "cpu") == 1
    assert card.price_microusd(1_000, "cpu") == 10
    assert card.price_microusd(1_001, "abacus") == 11
    assert card.cost_microusd(100, "cpu") == 1
    assert card.cost_microusd(3_600_000, "cpu") == 36_000


def test_the_shipped_cards_load() -> None:
    """The farm starts with prices and costs for every device class it names."""
    card = rates.shipped().cards[0]
    assert card.price.keys() == card.cost.keys()
    assert min(card.price.values()) > 0


@pytest.mark.parametrize(
    ("cards", "fault"),
    [
        ([("a", "2026-01-01", '"much"')], "price.cpu"),
        ([("a", "2026-01-01", 1.5)], "price.cpu"),
        ([("a", "2026-01-01", -1)], "price.cpu"),
        ([("a", "yesterday", 1)], "rates.toml"),
        ([("a", "2026-02-01", 1), ("b", "2026-01-01", 1)], "does not begin after"),
        ([("a", "2026-01-01", 1), ("a", "2026-02-01", 1)], "one version"),
        ([], "cards"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(
    tmp_path: Path, cards: list[tuple[str, str, object]], fault: str
) -> None:
    """A wrong amount, day or order is one sentence with the file and the fault."""
    with pytest.raises(BadRequest) as refused:
        rates.load(write(tmp_path, *cards))
    assert fault in refused.value.message
    assert "FARM_RATES" in refused.value.advice
