"""Tags and metadata of jobs, and lists of jobs by what they are."""

import re

import pytest
from sqlalchemy import Connection, text

from orchestrator.errors import BadRequest, NotFound
from orchestrator.farm import Farm, jobs
from orchestrator.farm.accounts import accounts, sessions
from orchestrator.farm.jobs import deleting, labelling
from orchestrator.farm.kernel import audit_log
from orchestrator.farm.kernel.where import JobsWanted
from orchestrator.model import Handling, Job
from orchestrator.states import JobState
from orchestrator.store import Store
from orchestrator.store.listings import _listing
from tests.factories import START_MS, Clock, Hand, account_id, brief

DAY = 86_400
PART = 2


def made(farm: Farm, *tags: str, session: str | None = None, **metadata: str) -> Job:
    """Submit a job with these labels."""
    handling = Handling(tags=tags, metadata=metadata)
    owner = account_id(farm)
    return jobs.submit(
        farm, account_id=owner, session_id=session, brief=brief(), handling=handling
    ).job


def found(farm: Farm, **wanted: object) -> list[str]:
    """Return the ids of all that are wanted, in parts of two."""
    ids: list[str] = []
    after = None
    while True:
        asked = JobsWanted(**wanted)  # type: ignore[arg-type]
        part = jobs.listing(farm, account_id(farm), limit=PART, after=after, wanted=asked)
        assert len(part.items) <= PART
        ids += [job.id for job in part.items]
        after = part.next_cursor
        if after is None:
            return ids


def label(key: str, value: str) -> dict[str, object]:
    """Return what asks for one label."""
    return {"labels": ((key, value),)}


def test_jobs_are_found_by_their_labels_part_by_part(farm: Farm) -> None:
    """Each part has only what matches, the newest first, and the parts are all of it."""
    red = [made(farm, "red", shop="north") for _ in range(3)]
    both = [made(farm, "red", "big", shop="south") for _ in range(3)]
    made(farm, "big")
    made(farm)
    ids = [job.id for job in reversed([*red, *both])]
    assert found(farm, **label("", "red")) == ids
    assert found(farm, **label("shop", "north")) == [job.id for job in reversed(red)]
    assert found(farm, labels=(("", "red"), ("", "big"))) == [job.id for job in reversed(both)]
    assert found(farm, labels=(("", "red"), ("shop", "south"), ("", "big"))) == [
        job.id for job in reversed(both)
    ]
    assert found(farm, **label("", "north")) == [], "a value is no tag"
    assert found(farm, **label("shop", "NORTH")) == []


def test_every_filter_counts_and_they_count_together(farm: Farm, clock: Clock) -> None:
    """State, session, model, time and labels: what is listed is all of what is asked."""
    other = sessions.create(farm, account_id=account_id(farm), name="other", budget_gpu_ms=10**6)
    first = made(farm, "a")
    clock.advance(DAY)
    second = made(farm, "a", session="other")
    clock.advance(DAY)
    third = made(farm, "b")
    jobs.cancel(farm, None, second.id)
    assert found(farm, state=JobState.CANCELLED) == [second.id]
    assert found(farm, state=JobState.QUEUED) == [third.id, first.id]
    assert found(farm, session_id=other.id) == [second.id]
    assert found(farm, model="fake") == [third.id, second.id, first.id]
    assert found(farm, model="painter") == []
    assert found(farm, since_ms=START_MS + DAY * 1000) == [third.id, second.id]
    assert found(farm, since_ms=START_MS + DAY * 1000 + 1) == [third.id]
    assert found(farm, until_ms=START_MS + DAY * 1000) == [first.id]
    assert found(farm, until_ms=START_MS + DAY * 1000 + 1) == [second.id, first.id]
    assert found(farm, since_ms=START_MS, until_ms=START_MS) == []
    assert found(farm, state=JobState.CANCELLED, **label("", "a")) == [second.id]
    assert found(farm, state=JobState.QUEUED, model="fake", **label("", "a")) == [first.id]
    assert found(farm, session_id=other.id, **label("", "b")) == []


def test_another_accounts_labels_are_its_own(farm: Farm) -> None:
    """The same tag of somebody else finds nothing here; an operator finds both."""
    other = accounts.create(farm, name="o", plan="unlimited").account.id
    mine = made(farm, "red")
    theirs = jobs.submit(
        farm,
        account_id=other,
        session_id=None,
        brief=brief(),
        handling=Handling(tags=("red",)),
    ).job
    red = JobsWanted(labels=(("", "red"),))
    assert [job.id for job in jobs.listing(farm, other, wanted=red).items] == [theirs.id]
    assert found(farm, **label("", "red")) == [mine.id]
    everybodys = jobs.listing(farm, None, wanted=red).items
    assert [job.id for job in everybodys] == [theirs.id, mine.id]
    with pytest.raises(NotFound):
        jobs.relabel(farm, other, mine.id, tags=("stolen",))


def test_labels_change_in_any_state_and_are_audited(farm: Farm, clock: Clock) -> None:
    """Tags are replaced, metadata is merged, null takes a key away; who did it is on record."""
    job = made(farm, "draft", shop="north", round="1")
    Hand(farm, clock).work_off()
    before = jobs.get(farm, None, job.id)
    after = jobs.relabel(
        farm, account_id(farm), job.id, tags=("final",), metadata={"round": None, "by": "Ada"}
    )
    assert (after.tags, after.metadata) == (("final",), {"shop": "north", "by": "Ada"})
    assert after.revision > before.revision, "an ETag is another one"
    assert after.spent_gpu_ms == before.spent_gpu_ms
    assert found(farm, **label("", "draft")) == found(farm, **label("round", "1")) == []
    assert found(farm, **label("by", "Ada")) == [job.id]
    (noted,) = audit_log.listing(farm, kind="job.label").items
    assert (noted.target, noted.data) == (job.id, {"tags": ["final"], "keys": ["by", "shop"]})
    assert jobs.relabel(farm, account_id(farm), job.id, tags=("final",)).metadata == after.metadata
    assert len(audit_log.listing(farm, kind="job.label").items) == 1, "nothing had changed"
    with pytest.raises(BadRequest, match="16"):
        jobs.relabel(farm, None, job.id, metadata={f"k{n}": "v" for n in range(15)})
    deleting.delete(farm, None, job.id)
    assert found(farm, **label("by", "Ada")) == []
    with farm.store.read() as tx:
        assert not tx.listings.jobs(JobsWanted(labels=(("by", "Ada"),)), 9)


def test_the_widest_labels_fit(farm: Farm) -> None:
    """Sixteen keys and values of the largest characters go into either database's index."""
    wide = {f"{n:02}" + "\U0001f680" * 62: "\U00020000" * 512 for n in range(16)}
    tags = tuple(f"{n:02}" + "\U0001f680" * 38 for n in range(16))
    job = made(farm, *tags, **wide)
    assert found(farm, labels=labelling.labels_of(job)) == [job.id]


LISTS = [
    (facts, words, scoped)
    for scoped in (True, False)
    for facts, words in (
        ((), 0), (("state",), 0), (("model",), 0), (("session_id",), 0), ((), 1), ((), 3),
        (("state", "model"), 2), (("since_ms", "until_ms", "since_id", "until_id"), 0),
        (("since_ms", "since_id", "state"), 1),
    )
]  # fmt: skip


@pytest.mark.parametrize(("facts", "words", "scoped"), LISTS)
def test_no_list_looks_through_a_whole_table(
    store: Store, facts: tuple[str, ...], words: int, scoped: bool
) -> None:
    """The database's own plan of each list: it walks along an index that has what is asked."""
    given = (*facts, "before", *(("account_id",) if scoped else ()))
    values: dict[str, object] = {name: 1 if name.endswith("_ms") else "x" for name in given}
    values |= {"state": JobState.QUEUED} if "state" in given else {}
    values |= {f"{part}_{n}": "x" for n in range(words) for part in ("key", "value")}
    query = _listing(given, words, oldest_first=False)
    with store.engine.connect() as connection:
        plan = explained(connection, query, values | {"limit": 51})
    assert not re.search(r"SCAN (?!.*INDEX)|Seq Scan|TEMP B-TREE|\bSort\b", plan), plan
    walked = "value" if words else facts[0] if len(facts) == 1 else "id"
    assert re.search(rf"(USING|Index Cond).*\b{walked}\b", plan), plan


def explained(connection: Connection, query: object, values: dict[str, object]) -> str:
    """Return how the database would answer a query."""
    dialect = connection.dialect
    compiled = query.compile(dialect=dialect)  # type: ignore[attr-defined]
    asked = "EXPLAIN QUERY PLAN " if dialect.name == "sqlite" else "EXPLAIN "
    if dialect.name != "sqlite":
        connection.execute(text("SET enable_seqscan = off"))
        connection.execute(text("SET enable_bitmapscan = off"))
    given = compiled.construct_params(values)
    parameters = [given[n] for n in compiled.positiontup] if compiled.positional else given
    rows = connection.exec_driver_sql(
        asked + str(compiled), tuple(parameters) if isinstance(parameters, list) else parameters
    )
    return "\n".join(str(row[-1]) for row in rows)
