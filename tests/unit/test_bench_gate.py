"""The bench of the gate runs, says what it found, and judges it by its bound."""

import sys

import pytest

from tools.bench import gate


def measured(patch: pytest.MonkeyPatch, bound_ns: float) -> None:
    """Run the bench shortly, under a bound."""
    patch.setattr(sys, "argv", ["gate", "--times", "50", "--rounds", "2"])
    patch.setattr(gate, "BOUND_NS", bound_ns)
    gate.main()


def test_it_says_what_a_question_costs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a machine of any speed: the nanoseconds of a question and of a whole step."""
    measured(monkeypatch, 10**12)
    told = capsys.readouterr().out
    assert "ns a question" in told
    assert "of a whole step" in told


def test_it_fails_over_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """No question is free, so a bound of nothing is passed; the real one is a microsecond."""
    assert gate.BOUND_NS == 1000
    with pytest.raises(SystemExit, match="more than its bound"):
        measured(monkeypatch, 0)


def test_what_disturbs_one_round_is_not_what_a_question_costs() -> None:
    """The quietest round counts: one slow call in the first of two changes nothing."""
    naps = iter([0.2])

    def ask() -> None:
        for seconds in naps:
            gate.time.sleep(seconds)

    assert gate.cost_ns(ask, 1, 2) < 0.1 * 10**9
