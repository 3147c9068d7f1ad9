"""A job's place in line, and the words for the time."""

import pytest

from orchestrator.scheduling.positions import JobInLine, Line, Position, SessionInLine, about


def party(
    name: str, virtual_us: int, *work_ms: int, weight: int = 1, floor: float = 0.0
) -> SessionInLine:
    """Return a session with a job for each amount of work."""
    jobs = tuple(JobInLine(f"{name}{n}", "m", work) for n, work in enumerate(work_ms))
    return SessionInLine(
        session_id=name, virtual_us=virtual_us, weight=weight, plan=name, floor=floor, jobs=jobs
    )


def line(*parties: SessionInLine, free_in_ms: int = 0) -> Line:
    """Return them in line for two devices of model `m` and one of another."""
    serving = {"render.m": frozenset({"w1", "w2"}), "render.other": frozenset({"w3"})}
    free = {"w1": free_in_ms, "w2": free_in_ms}
    return Line(at_ms=0, parties=parties, serving=serving, free_in_ms=free)


def test_the_first_waits_for_a_device_to_be_free() -> None:
    """Nobody is before the session with the lowest pass; a device is busy for a while."""
    here = line(party("a", 0, 500), party("b", 1_000_000, 500), free_in_ms=700)
    assert here.place("a0", "render.m") == Position(jobs_ahead=0, wait_ms=700)


def test_work_ahead_is_what_others_get_until_the_turn() -> None:
    """A session 10 s behind with weight 2 gets 20 s of its jobs done first, on two devices."""
    ahead = party("a", 0, 15_000, 15_000, 15_000, weight=2)
    here = line(ahead, party("b", 10_000_000, 4_000))
    assert here.place("b0", "render.m") == Position(jobs_ahead=2, wait_ms=10_000)


def test_older_jobs_of_the_session_are_ahead_and_let_others_pass() -> None:
    """The second job waits for the first, and for what others get in that time."""
    here = line(party("a", 0, 6_000, 1_000), party("b", 2_000_000, 100_000))
    assert here.place("a1", "render.m") == Position(jobs_ahead=2, wait_ms=5_000)


def test_a_floor_shortens_the_wait() -> None:
    """A tenth of two devices is due to the plan, however much the others have before it."""
    here = line(party("a", 0, 10**9), party("f", 10**12, 2_000, 2_000, floor=0.1))
    place = here.place("f1", "render.m")
    assert place and place.wait_ms == 10_000


def test_other_models_are_not_ahead() -> None:
    """Jobs whose model none of these devices serves are in another line."""
    other = SessionInLine(
        session_id="o",
        virtual_us=0,
        weight=1,
        plan="o",
        floor=0,
        jobs=(JobInLine("o0", "other", 10**6),),
    )
    here = line(other, party("a", 10**9, 500))
    assert here.place("a0", "render.m") == Position(jobs_ahead=0, wait_ms=0)
    assert here.place("a0", "render.nobodys") is None
    assert here.place("gone", "render.m") is None


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        (0, "1 s"),
        (2_300, "3 s"),
        (41_000, "45 s"),
        (58_000, "1 min"),
        (101_000, "2 min"),
        (700_000, "15 min"),
        (4_000_000, "1 h 30 min"),
    ],
)
def test_times_are_told_in_steps(ms: int, words: str) -> None:
    """A time is rounded up, the more the longer it is."""
    assert about(ms) == words
