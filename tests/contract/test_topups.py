"""One top-up ends a metered job that paused, however its device compares with its quote."""

from pathlib import Path

import pytest

from orchestrator.farm import check
from tools.bench import topups


@pytest.mark.slow(seconds=20)
def test_one_top_up_of_what_is_named_is_enough(tmp_path: Path) -> None:
    """In 95 of 100 trials on devices that take 0.2 to 20 times what was quoted."""
    clock = topups.Clock()
    farm = topups.farm_of(tmp_path / "farm.db", clock, 100)
    trials = [topups.trial(farm, clock, number, seed=11) for number in range(100)]
    assert sum(each.ended and each.top_ups <= 1 for each in trials) >= 95
    topped_up = [each for each in trials if each.top_ups]
    assert len(topped_up) >= 50
    # And nobody is asked for much more than it takes.
    shares = sorted(each.used_gpu_ms / each.named_gpu_ms for each in topped_up)
    assert shares[len(shares) // 2] > 0.5
    assert check.violations(farm) == []
    farm.store.close()
