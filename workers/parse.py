"""One parse unit: the words of a prompt into a plan of frames."""

from typing import Final

import structlog

from orchestrator.catalog import Catalog
from orchestrator.errors import BadRequest
from orchestrator.planning import planner
from orchestrator.prompting import parser
from orchestrator.states import Cause, Outcome
from orchestrator.wire import ParseWork
from workers.meter import Meter, Stopped
from workers.result import Result, cause_of

log = structlog.get_logger(__name__)

PARSE: Final = "parse"


def parse(work: ParseWork, catalog: Catalog, meter: Meter) -> Result:
    """Plan the brief of `work`; the same brief, seed and card give the plan that was quoted.

    Never raises for an error of the brief: that is a failed result.
    """
    try:
        meter.before_step()
        with meter.stage(PARSE):
            brief = work.brief
            card = catalog.card(brief.model)
            screenplay = parser.of_brief(brief, card.vocabulary)
            planned = planner.plan(brief, screenplay, card, seed=work.seed)
    except Stopped as stopped:
        return Result(
            outcome=Outcome.STOPPED,
            message=stopped.reason,
            receipt=meter.receipt(Outcome.STOPPED),
        )
    except Exception as error:  # the unit boundary: whatever it is, it is reported
        cause = cause_of(error)
        log.warning("plan failed", cause=cause, exc_info=cause is Cause.FARM)
        return Result(
            outcome=Outcome.FAILED,
            cause=cause,
            message=f"{error} {error.next}" if isinstance(error, BadRequest) else repr(error),
            receipt=meter.receipt(Outcome.FAILED, cause),
        )
    return Result(outcome=Outcome.DONE, receipt=meter.receipt(Outcome.DONE), render_plan=planned)
