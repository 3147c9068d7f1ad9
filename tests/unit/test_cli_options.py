"""Options of the command line that mean more than their text."""

import click
import pytest

from orchestrator.cli import keys, render


@pytest.mark.parametrize(
    ("typed", "colour"),
    [
        ("white", "#ffffff"),
        ("Black", "#000000"),
        ("ff8800", "#ff8800"),
        ("#FF8800", "#ff8800"),
    ],
)
def test_a_colour_is_typed_with_or_without_its_sign(typed: str, colour: str) -> None:
    """A shell takes `#` for the beginning of a comment."""
    assert render._colour(typed) == colour


@pytest.mark.parametrize("typed", ["red", "fff", "#ff88001", "", "gggggg"])
def test_what_is_no_colour_is_refused(typed: str) -> None:
    """With what would be one."""
    with pytest.raises(click.BadParameter, match="six hexadecimal digits"):
        render._colour(typed)


def test_uses_are_a_number_or_any() -> None:
    """Of a join key."""
    assert [keys._uses(text) for text in (None, "any", "1", "30")] == [None, "any", 1, 30]
    for typed in ("0", "-1", "many", "1.5", ""):
        with pytest.raises(click.BadParameter, match="a number of workers, or any"):
            keys._uses(typed)


def test_a_list_of_keys_says_what_a_join_key_lets_in() -> None:
    """Of other keys nothing is said."""
    row = {"kind": "join", "times_used": 1, "uses": 3, "device_classes": ["cpu", "nvidia-l4"]}
    assert keys._enrols(row) == "1 of 3, cpu or nvidia-l4"
    assert keys._enrols(row | {"uses": None, "device_classes": None}) == "1 of any, any"
    assert keys._enrols(row | {"kind": "user"}) is None
