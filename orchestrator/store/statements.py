"""The statements that every transaction runs: made once each, since that costs more than a run."""

from enum import StrEnum
from functools import cache
from typing import Any, Final, TypeAlias

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Select,
    Table,
    Text,
    Update,
    bindparam,
    cast,
    func,
    literal_column,
    select,
    update,
)

from orchestrator.model import Json
from orchestrator.states import RUNNABLE, LeaseState, UnitState
from orchestrator.store.conversion import as_stored
from orchestrator.store.tables import facts, jobs, leases, months, units


def literal(word: StrEnum) -> ColumnElement[str]:
    """Return a word as an index's condition has it: of a parameter nobody knows what it will be."""
    return literal_column(f"'{word.value}'")


Query: TypeAlias = Select[Any]
"""A query of rows, which become nouns and have no types before."""
How: TypeAlias = str | tuple[StrEnum, ...]
"""The kind of a value that rows are found by: `null`, `one`, `many`, or the words themselves."""
_LIMIT: Final[BindParameter[int]] = bindparam("limit")
READY: Final = (
    select(units)
    .join(jobs, jobs.c.id == units.c.job_id)
    .join(months, months.c.id == jobs.c.month_id)
    .where(
        months.c.plan != "",
        units.c.state == literal(UnitState.READY),
        units.c.queue.in_(bindparam("queues", expanding=True)),
        jobs.c.state.in_(RUNNABLE),
        jobs.c.intent.is_(None),
    )
)
"""The units of some queues that may be granted now."""
_BY_AGE: Final = (units.c.created_at_ms, units.c.id)

FACTS: Final = select(facts.c.name, facts.c.value)
READY_UNITS: Final = (
    READY.where(units.c.session_id == bindparam("session_id")).order_by(*_BY_AGE).limit(_LIMIT)
)
UNRUNG_UNITS: Final = (
    READY.where(func.coalesce(units.c.rung_at_ms, 0) < bindparam("before_ms"))
    .order_by(*_BY_AGE)
    .limit(_LIMIT)
)
LAPSED_LEASES: Final = select(leases).where(
    leases.c.state == literal(LeaseState.OPEN), leases.c.expires_at_ms < bindparam("before_ms")
)

RECEIPTS: Final = select(leases.c.id, cast(leases.c.receipt, Text))


@cache
def by_id(table: Table, *, lock: bool) -> Query:
    """Return the query for the row with the id `id_`."""
    query = select(table).where(table.c.id == bindparam("id_"))
    return locked(query) if lock else query


def finding(
    table: Table, order: str, bounds: Json, equal: Json, *, lock: bool
) -> tuple[Query, Json]:
    """Return the query for the rows that match, and its parameters."""
    bounds = {name: value for name, value in bounds.items() if value is not None}
    shape = tuple((name, _how(value)) for name, value in equal.items())
    query = _finding(table, order, tuple(bounds), shape, lock=lock)
    values = {f"is_{name}": equal[name] for name, how in shape if how in ("one", "many")}
    return query, bounds | values


@cache
def looking(table: Table, columns: tuple[str, ...]) -> Query:
    """Return the query for these columns of every row, JSON as it is."""
    asked = (as_stored(table.c[name]).label(name) for name in columns)
    return select(*asked).order_by(table.c.id)


@cache
def changing(table: Table, guards: tuple[str, ...], changed: tuple[str, ...]) -> Update:
    """Return the statement that gives one row its `new_` columns if its `was_` ones are right."""
    query = update(table).where(*(table.c[name] == bindparam(f"was_{name}") for name in guards))
    return query.values(
        {name: bindparam(f"new_{name}", type_=table.c[name].type) for name in changed}
    )


def locked(query: Query) -> Query:
    """Return the query as one that locks its rows until the transaction ends."""
    # NO KEY: rows that only refer to this one (foreign keys) may be written meanwhile.
    return query.with_for_update(key_share=True)


@cache
def _finding(
    table: Table,
    order: str,
    bounds: tuple[str, ...],
    equal: tuple[tuple[str, How], ...],
    *,
    lock: bool,
) -> Query:
    query: Query = select(table).where(*(_equals(table, *one) for one in equal))
    if "after" in bounds:
        query = query.where(table.c.id > bindparam("after"))
    if "before" in bounds:
        query = query.where(table.c.id < bindparam("before"))
    for name in order.split(","):
        column = table.c[name.lstrip("-")]
        query = query.order_by(column.desc() if name.startswith("-") else column)
    if "limit" in bounds:
        query = query.limit(bindparam("limit"))
    return locked(query) if lock else query


def _how(value: object) -> How:
    """Return which kind of value it is; words of ours, which are few, stand in the query itself."""
    if isinstance(value, StrEnum):
        return (value,)
    if isinstance(value, tuple):
        words = tuple(each for each in value if isinstance(each, StrEnum))
        return words if words and len(words) == len(value) else "many"
    return "null" if value is None else "one"


def _equals(table: Table, name: str, how: How) -> ColumnElement[bool]:
    column = table.c[name]
    match how:
        case (word,):
            return column == literal(word)
        case (*words,):
            return column.in_([literal(word) for word in words])
        case "null":
            return column.is_(None)
        case "many":
            return column.in_(bindparam(f"is_{name}", expanding=True))
        case _:
            return column == bindparam(f"is_{name}")
