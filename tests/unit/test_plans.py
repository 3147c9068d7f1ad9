"""Files of plans: the shipped one, and what is wrong with others."""

from pathlib import Path

import pytest

from orchestrator.errors import BadRequest
from orchestrator.model import Watermark
from orchestrator.money import plans


def test_the_shipped_plans_are_four() -> None:
    """free, creator, studio and unlimited, each with the alerts of the documentation."""
    shipped = plans.shipped().plans
    assert list(shipped) == ["free", "creator", "studio", "unlimited"]
    for plan in shipped.values():
        assert [alert.percent for alert in plan.alerts] == [50, 75, 90, 95, 100]
        *before, last = (alert.action.value for alert in plan.alerts)
        assert set(before) == {"notify"}
        assert last == ("pause_new" if plan.name == "free" else "notify")
    assert shipped["unlimited"].month_gpu_ms is None
    assert shipped["free"].mark == Watermark(text="Framefarm", plan="free")
    assert shipped["creator"].mark is None
    prices = {name: plan.price_month_microusd for name, plan in shipped.items()}
    assert prices == {"free": 0, "creator": 15_000_000, "studio": None, "unlimited": 95_000_000}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "plan"),
        ("[plan.Free]\nsession_gpu_seconds = 1\nmodels = []", "plan.Free"),
        ("[plan.a]\nmodels = []", "session_gpu_seconds"),
        ("[plan.a]\nsession_gpu_seconds = -1\nmodels = []", "greater"),
        ("[plan.a]\nsession_gpu_seconds = 1\nmodels = []\nwatt = 1", "watt"),
        ('[plan.a]\nsession_gpu_seconds = 1\nmodels = []\nwatermark = "été"', "watermark"),
        ('[plan.a]\nsession_gpu_seconds = 1\nmodels = []\nalerts = { 0 = "notify" }', "alerts.0"),
        ('[plan.a]\nsession_gpu_seconds = 1\nmodels = []\nalerts = { 9 = "stop" }', "pause_new"),
        ("[plan.a]\nsession_gpu_seconds = 1\nmodels = []\nprice_month_microusd = 0.5", "price"),
        ("[plan.a]\nsession_gpu_seconds = 1\nmodels = []\nprice_month_microusd = -1", "price"),
        ("[plan.a", "Expected"),
    ],
)
def test_a_wrong_file_is_named_with_its_fault(tmp_path: Path, text: str, fault: str) -> None:
    """A file that cannot be used is refused by its name and what is wrong in it."""
    file = tmp_path / "plans.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(BadRequest, match=fault) as refused:
        plans.load(file)
    assert str(file) in refused.value.message
    assert "FARM_PLANS" in refused.value.next
