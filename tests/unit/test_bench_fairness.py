"""The simulation of fair shares, small: what it checks holds, and each rule is needed for it."""

import pytest

from tools.bench import fairness


def faults(scenario: str, *, off: str = "") -> list[str]:
    """Return what is wrong with an hour of fifty sessions on sixteen devices."""
    sim = fairness.scenario(scenario, 50, 16, 0.33, 1, off=off)
    sim.run(60 * 60_000)
    return fairness.report(sim)


@pytest.mark.parametrize("scenario", fairness.SCENARIOS)
def test_shares_and_waits_are_as_promised(scenario: str) -> None:
    """Every plan and session is within 2 % of what is due; no wait is beyond its bound."""
    assert faults(scenario) == []


@pytest.mark.parametrize(
    ("scenario", "off", "fault"),
    [
        ("weights", "correction", "off its share"),
        ("floor", "floor", "plan free had"),
        ("debt", "age", "a session of plan studio waited"),
    ],
)
def test_each_rule_is_needed(scenario: str, off: str, fault: str) -> None:
    """Without correcting quotes, without the floor, without ageing, a promise is broken."""
    assert any(fault in each for each in faults(scenario, off=off))


def test_what_is_due_is_at_least_the_floor() -> None:
    """Five hundred free sessions beside as many of studio are due a tenth, not a seventeenth."""
    guests = fairness.scenario("floor", 1000, 1, 0.0, 1).guests
    due = fairness.entitled(guests)
    free = [due[id(each)] for each in guests if each.plan == "free"]
    assert sum(free) == pytest.approx(0.1) and sum(due.values()) == pytest.approx(1)


def test_what_is_printed_is_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The count of units granted by each rule stands in words, no Python object."""
    argv = "fairness --scenario floor --sessions 50 --devices 16 --minutes 60"
    monkeypatch.setattr("sys.argv", argv.split())
    fairness.main()
    told = capsys.readouterr().out
    assert "Counter" not in told and "Lane" not in told and "<" not in told
    assert " by weight" in told and " by floor" in told
