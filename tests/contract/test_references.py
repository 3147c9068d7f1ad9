"""Files and characters: storage counted exactly, expiry, and pictures that nobody needs."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest

from orchestrator.errors import Conflict, NotFound, StorageFull
from orchestrator.farm import Farm, jobs
from orchestrator.farm.accounts import accounts, references
from orchestrator.farm.jobs import deleting, pictures
from orchestrator.farm.kernel import audit_log
from orchestrator.model import Account, Picture, Reference
from orchestrator.money.plans import Plans
from tests.factories import Clock, account_id, brief, submit, with_painter

KB = 1024
CROWD = 8


def key(letter: str = "a") -> str:
    """Return the key of a picture."""
    return f"inputs/{letter * 64}/input.png"


def nothing() -> None:
    """Store a file that no test looks for."""


def keep(farm: Farm, name: str, letter: str = "a", *, size: int = KB, **more: object) -> Reference:
    """Keep a file of the home account."""
    facts = {"account_id": account_id(farm), "kind": "file", **more}
    return references.keep(
        farm, name=name, image=key(letter), size_bytes=size, store=nothing, **facts
    )  # type: ignore[arg-type]  # facts of several types


def on_plan(farm: Farm, **changes: object) -> Farm:
    """Return the farm with other limits in the home account's plan."""
    named = dict(farm.plans.plans)
    named["studio"] = replace(named["studio"], **changes)  # type: ignore[arg-type]
    return replace(farm, plans=Plans(named))


def from_picture(farm: Farm, letter: str = "a") -> str:
    """Submit a job that starts from a picture; its id."""
    return submit(farm, brief(model="painter", image=key(letter))).id


def used(farm: Farm) -> int:
    """Return the bytes that the home account uses."""
    return accounts.look(farm, account_id(farm)).storage.used_bytes


def test_storage_is_what_files_and_characters_take(farm: Farm) -> None:
    """Each counts as it is kept, the same under the same name once; deleting gives back."""
    farm = on_plan(farm, storage_bytes=3 * KB)
    one = keep(farm, "a.png")
    assert keep(farm, "a.png").id == one.id
    keep(farm, "Ada", kind="character")
    keep(farm, "b.png", "b")
    with pytest.raises(StorageFull) as refused:
        keep(farm, "c.png", "c", size=1)
    told = refused.value
    assert "2 files (0.002 MB) and 1 character (0.001 MB)" in told.message
    assert told.data == {"limit_bytes": 3 * KB, "used_bytes": 3 * KB, "asked_bytes": 1}
    assert [type(each).__name__ for each in told.remedies] == ["LookAt", "LookAt", "ChangePlan"]
    gone: list[str] = []
    references.delete(farm, None, "file", one.id, gone.append)
    assert gone == [], "the character has the same picture"
    keep(farm, "c.png", "c")
    assert used(farm) == 3 * KB


def test_no_storage_keeps_nothing_and_no_plan_has_none(farm: Farm) -> None:
    """A quota of 0 refuses the first byte, and so does an account without a plan."""
    with pytest.raises(StorageFull, match="gives 0 MB"):
        keep(on_plan(farm, storage_bytes=0), "a.png", size=1)
    accounts.set_plan(farm, account_id(farm), "none")
    with pytest.raises(StorageFull, match="without a plan has 0 MB"):
        keep(farm, "a.png", size=1)
    accounts.set_plan(farm, account_id(farm), "unlimited")
    assert keep(farm, "a.png", size=10**12).expires_at_ms is None


def at_once(*verbs: Callable[[], object]) -> list[object]:
    """Call each in a thread of its own at one moment; return results and errors."""
    start = Barrier(len(verbs))

    def run(verb: Callable[[], object]) -> object:
        start.wait(10)
        try:
            return verb()
        except (StorageFull, NotFound, Conflict) as error:
            return error

    with ThreadPoolExecutor(len(verbs)) as crowd:
        return list(crowd.map(run, verbs))


def test_uploads_at_once_fill_the_storage_exactly(farm: Farm) -> None:
    """Of eight that come at one moment into room for three, three are kept."""
    farm = on_plan(farm, storage_bytes=3 * KB)
    made = at_once(*(lambda n=n: keep(farm, f"{n}.png", "abcdef01"[n]) for n in range(CROWD)))
    assert sum(isinstance(each, Reference) for each in made) == 3
    assert used(farm) == 3 * KB
    same = at_once(*(lambda: keep(farm, "same.png", "a", kind="character") for _ in range(CROWD)))
    assert all(isinstance(each, StorageFull) for each in same)


def test_a_picture_goes_with_its_last_file_alone(farm: Farm) -> None:
    """Not while a character, another account's file or another account's video has it."""
    with_painter(farm)
    other = Account(
        id="acc_other", name="other", plan="studio", default_session_id="ses_none", created_at_ms=0
    )
    with farm.store.write() as tx:
        tx.add(other)
    gone: list[str] = []
    mine, theirs = keep(farm, "a.png"), keep(farm, "a.png", account_id=other.id)
    references.delete(farm, account_id(farm), "file", mine.id, gone.append)
    assert gone == []
    with pytest.raises(NotFound):
        references.delete(farm, account_id(farm), "file", mine.id, gone.append)
    with pytest.raises(NotFound):
        references.delete(farm, account_id(farm), "file", theirs.id, gone.append)
    with pytest.raises(NotFound):
        references.delete(farm, None, "character", theirs.id, gone.append)
    jobs.cancel(farm, None, from_picture(farm))
    references.delete(farm, other.id, "file", theirs.id, gone.append)
    assert gone == [], "a video of another account started from it"
    again = keep(farm, "a.png")
    references.delete(farm, None, "file", again.id, gone.append)
    assert gone == [key()]
    assert audit_log.listing(farm).items[0].verb == "file.delete", "an operator did it"


def test_a_file_that_an_open_job_needs_stays(farm: Farm, clock: Clock) -> None:
    """Neither its owner nor its expiry removes it before the job has ended."""
    with_painter(farm)
    file = keep(farm, "a.png", seconds=60)
    job = from_picture(farm)
    gone: list[str] = []
    with pytest.raises(Conflict, match=job):
        references.delete(farm, None, "file", file.id, gone.append)
    clock.advance(60)
    assert references.expire(farm, gone.append) == []
    with farm.store.read() as tx:
        assert tx.get(Reference, file.id) == file
    jobs.cancel(farm, None, job)
    assert references.expire(farm, gone.append) == [file]
    assert gone == [key()]
    assert audit_log.listing(farm).items[0].verb == "file.expire"


def test_what_expired_is_gone_for_its_owner_and_then_removed(farm: Farm, clock: Clock) -> None:
    """It is neither shown nor counted from its moment on; the look after removes it, once."""
    file, stays = keep(farm, "a.png", seconds=60), keep(farm, "b.png", "b")
    clock.advance(59)
    assert references.get(farm, None, "file", file.id) == file
    gone: list[str] = []
    assert references.expire(farm, gone.append) == []
    clock.advance(1)
    with pytest.raises(NotFound):
        references.get(farm, None, "file", file.id)
    with pytest.raises(NotFound):
        references.delete(farm, None, "file", file.id, gone.append)
    assert references.listing(farm, None, "file").items == (stays,)
    assert used(farm) == KB
    assert references.expire(farm, gone.append) == [file]
    assert references.expire(farm, gone.append) == []
    assert gone == [key()]


def test_a_plan_says_how_long_files_stay(farm: Farm, clock: Clock) -> None:
    """Its days are the most, a shorter time may be asked for, and what comes again begins anew."""
    farm = on_plan(farm, file_days=2)
    day = 86_400
    for asked, lasts in ((None, 2 * day), (day, day), (9 * day, 2 * day)):
        file = keep(farm, f"{asked}.png", seconds=asked)
        assert file.expires_at_ms == clock.now_ms + lasts * 1000
    first = keep(farm, "again.png")
    clock.advance(day)
    again = keep(farm, "again.png")
    assert (again.id, again.expires_at_ms) == (first.id, clock.now_ms + 2 * day * 1000)


def test_many_expired_files_go_in_one_look(farm: Farm, clock: Clock) -> None:
    """More than are read at once, and one in their midst that a job needs."""
    with_painter(farm)
    made = [keep(farm, f"{n}.png", "b", seconds=1) for n in range(references.AT_ONCE + 5)]
    keep(farm, "needed.png", "a", seconds=1)
    from_picture(farm)
    clock.advance(1)
    gone: list[str] = []
    assert {row.id for row in references.expire(farm, gone.append)} == {row.id for row in made}
    assert gone == [key("b")]


def test_a_job_whose_picture_is_gone_is_refused_by_name(farm: Farm) -> None:
    """Its request again names the file that was deleted; sent again, the picture is there."""
    with_painter(farm)
    file = keep(farm, "my cat.png")
    jobs.cancel(farm, None, from_picture(farm))
    references.delete(farm, None, "file", file.id, lambda _: None)
    for ask in (from_picture, lambda f: pictures.check_there(f, key())):
        with pytest.raises(NotFound, match=r"'my cat\.png'.*deleted or has expired"):
            ask(farm)
    with pytest.raises(NotFound, match="my cat"):
        jobs.estimate(
            farm,
            account_id=account_id(farm),
            session_id=None,
            brief=brief(model="painter", image=key()),
        )
    with pytest.raises(NotFound):
        from_picture(farm, "c")
    stored: list[str] = []
    pictures.keep(farm, key(), KB, lambda: stored.append(key()))
    assert stored == [key()]
    from_picture(farm)


def test_a_job_and_a_deletion_at_once_leave_no_job_without_its_picture(farm: Farm) -> None:
    """Whichever comes first, a job that was taken has its picture."""
    with_painter(farm)
    for turn in range(8):
        letter = "abcdef01"[turn]
        file = keep(farm, "a.png", letter)
        gone: list[str] = []
        job, _ = at_once(
            lambda letter=letter: from_picture(farm, letter),
            lambda file=file, gone=gone: references.delete(
                farm, None, "file", file.id, gone.append
            ),
        )
        assert isinstance(job, str) != bool(gone), (job, gone)
        if isinstance(job, str):
            jobs.cancel(farm, None, job)


def test_a_refused_upload_leaves_nothing(farm: Farm) -> None:
    """Its picture is dropped where nobody else has it, and stays where a file or a video does."""
    gone: list[str] = []
    assert pictures.drop(farm, key(), gone.append)
    with farm.store.read() as tx:
        assert (picture := tx.get(Picture, key()))
    assert picture.removed_at_ms is not None
    keep(farm, "a.png", "b")
    assert not pictures.drop(farm, key("b"), gone.append)
    with_painter(farm)
    pictures.keep(farm, key("c"), KB, nothing)
    job = from_picture(farm, "c")
    assert not pictures.drop(farm, key("c"), gone.append)
    jobs.cancel(farm, None, job)
    assert key("c") in deleting.delete(farm, None, job)
    assert pictures.drop(farm, key("c"), gone.append)
    assert gone == [key(), key("c")]
