"""Conditions on rows name what the rows have."""

from types import UnionType
from typing import Union, get_args, get_origin, get_overloads, get_type_hints

import pytest

from orchestrator.farm.kernel.ports import Transaction
from orchestrator.farm.kernel.where import Bounds
from orchestrator.store.tables import TABLES

ASKED = {
    get_args(hints["cls"])[0]: get_args(hints["where"])[0]
    for hints in map(get_type_hints, get_overloads(Transaction.find))
}


def members(annotation: object) -> set[object]:
    """Return what a union is of; of anything else, that alone."""
    union = get_origin(annotation) in (Union, UnionType)
    return set(get_args(annotation)) if union else {annotation}


def test_every_noun_can_be_asked_for() -> None:
    """`find` knows every noun that has a table, but those that only their own questions read."""
    assert {noun.__name__ for noun in set(TABLES) - set(ASKED)} == {"Shift"}


@pytest.mark.parametrize("noun", ASKED, ids=lambda noun: noun.__name__)
def test_a_row_is_asked_for_by_its_own_fields(noun: type) -> None:
    """Each name is a field's, and its values are of that field's type, or several of them."""
    fields = get_type_hints(noun)
    asked = get_type_hints(ASKED[noun])
    for name in asked.keys() - get_type_hints(Bounds).keys():
        one = members(fields[name])
        (several,) = {each for each in members(asked[name]) if get_origin(each) is tuple}
        assert members(asked[name]) - {several} == one, name
        assert {get_args(several)[0]} == one - {type(None)}, name
