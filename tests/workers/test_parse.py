"""A parse unit: the plan that was quoted, or what to change about the brief."""

from orchestrator.catalog import FAKE, Catalog
from orchestrator.model import Brief
from orchestrator.planning import planner
from orchestrator.prompting import parser
from orchestrator.states import Cause, Outcome, Verdict
from orchestrator.wire import ParseWork
from tests.workers.orders import plan_order
from workers.meter import Meter
from workers.parse import parse

CATALOG = Catalog({FAKE.id: FAKE})


def work(text: str, **brief: object) -> ParseWork:
    """Return the work of a parse unit."""
    order = plan_order(text, **brief)
    assert isinstance(order.work, ParseWork)
    return order.work


def test_the_plan_is_the_one_that_was_quoted() -> None:
    """Planned from the same brief and seed, by the same code, and read back without loss."""
    text = "a dog runs on a beach, then it sleeps"
    result = parse(work(text), CATALOG, Meter(limit_gpu_ms=1000))
    quoted = planner.plan(
        Brief(prompt=text, model="fake"),
        parser.parse(text, vocabulary=FAKE.vocabulary),
        FAKE,
        seed=11,
    )
    assert result.outcome is Outcome.DONE
    assert result.render_plan is not None
    assert result.render_plan == quoted
    assert list(result.receipt.by_stage) == ["parse"]


def test_a_brief_that_cannot_be_planned_says_what_to_change() -> None:
    """The request's own fault, with its next sentence."""
    result = parse(work("a dog", steps=-1), CATALOG, Meter(limit_gpu_ms=1000))
    assert (result.outcome, result.cause) == (Outcome.FAILED, Cause.REQUEST)
    assert "steps" in result.message


def test_a_plan_of_a_cancelled_job_is_stopped() -> None:
    """Nothing is parsed and nothing is charged."""
    meter = Meter(limit_gpu_ms=1000, stop=lambda: Verdict.CANCEL)
    result = parse(work("a dog"), CATALOG, meter)
    assert (result.outcome, result.render_plan, result.receipt.gpu_ms) == (Outcome.STOPPED, None, 0)
