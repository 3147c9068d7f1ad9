"""Data of the templates: gathered from the farm in one go, on a native thread."""

from flask import url_for
from flask_login import current_user
from pydantic import BaseModel, Field

from orchestrator.farm import Farm, jobs
from orchestrator.farm.accounts import accounts, sessions
from orchestrator.farm.books import receipts
from orchestrator.farm.jobs import forecasts, sharing, waiting
from orchestrator.farm.jobs.labelling import TAG
from orchestrator.farm.kernel.ids import new_id
from orchestrator.farm.kernel.where import JobsWanted
from orchestrator.model import Job, Json, Session
from orchestrator.safe_text import Tag
from orchestrator.states import JobState, WayIn
from web.api.links import state
from web.context import farm
from web.pages import words
from web.pages.budget import Budget
from web.pages.views import Tile, job_bar, job_view, reel

RECENT: int = 24
MOST_LINKS: int = 20
"""Of a job, on its page: the newest; `farm jobs links` lists them all."""
EXAMPLES = (
    "A rocket rises through a starry night sky",
    "A dog runs along the beach at sunset, then it jumps",
    "Two fish swim underwater [4s]",
)


def me() -> str:
    """Return the account that is signed in."""
    return str(current_user.account_id)


def room_of(account_id: str, job_id: str) -> Json:
    """Return everything the page of a job shows. Blocking: SQL."""
    this_farm = farm()
    event_id = jobs.last_event_id(this_farm)
    units = jobs.units(this_farm, account_id, job_id)
    found = jobs.get(this_farm, account_id, job_id)
    card = this_farm.catalog.cards.get(found.model)
    now = this_farm.clock()
    waits = waiting.reason(this_farm, found)
    paying = _paying(this_farm, sessions.get(this_farm, account_id, found.session_id))
    return {
        **paying,
        "back_here": url_for("pages.job", job_id=job_id),
        "waiting": waits.what if waits else "",
        "waits_for": waits.code if waits else "",
        "event_id": event_id,
        "view": job_view(found, units, forecasts.of_one(this_farm, found, waits), waits),
        "job_bar": job_bar(found),
        "receipt": receipts.receipt(this_farm, account_id, job_id),
        "model_title": card.title if card else found.model,
        "ordered_ago": words.ago(found.created_at_ms, now),
    }


def job_page(account_id: str, job_id: str) -> Json:
    """Return what the whole page of a job shows: its room, and its share links. Blocking: SQL."""
    this_farm = farm()
    shared = sharing.listing(this_farm, account_id, job_id=job_id, limit=MOST_LINKS).items
    return {
        **room_of(account_id, job_id),
        "links": [{"link": row, "state": state(row)} for row in shared],
        "by_key": current_user.sign_in.way in (WayIn.ADMIN, WayIn.USER),
    }


class Shown(BaseModel):
    """Which videos of an account a page shows: those with a tag, in a state, behind another."""

    show_tag: Tag | None = None
    show_state: JobState | None = None
    show_after: str | None = Field(None, max_length=100)

    def asked(self, **changes: str | None) -> dict[str, str]:
        """Return it as a query, with these changes."""
        said = self.model_dump(mode="json") | changes
        return {name: value for name, value in said.items() if value}


def recent(account_id: str, shown: Shown) -> Json:
    """Return the newest jobs of an account as cards, of those that are shown. Blocking: SQL."""
    this_farm = farm()
    now = this_farm.clock()
    labels = ((TAG, shown.show_tag),) if shown.show_tag else ()
    wanted = JobsWanted(state=shown.show_state, labels=labels)
    part = jobs.listing(this_farm, account_id, limit=RECENT, after=shown.show_after, wanted=wanted)
    found = part.items
    return {
        "jobs": [_card(job, now) for job in found],
        "shown": shown,
        "states": tuple(JobState),
        "older": shown.asked(show_after=part.next_cursor) if part.next_cursor else None,
        "any_running": any(not job.state.is_terminal for job in found),
        "examples": EXAMPLES,
    }


def budget(account_id: str, name: str | None) -> Json:
    """Return the sessions of an account and the one that pays. Blocking: SQL."""
    this_farm = farm()
    chosen = sessions.find(this_farm, account_id, name)
    return {
        "sessions": sessions.listing(this_farm, account_id).items,
        **_paying(this_farm, chosen),
    }


def is_prepaid(this_farm: Farm, plan: str) -> bool:
    """Tell whether a plan is paid by the month, so that its receipts have no price to pay."""
    account_plan = this_farm.plans.get(plan)
    return account_plan is not None and account_plan.price_month_microusd is not None


def _paying(this_farm: Farm, session: Session) -> Json:
    """Return what a page says of the session that pays, and the key of one top-up of it."""
    month = accounts.look(this_farm, session.account_id).month
    return {
        "budget": Budget(
            session=session,
            month=month,
            plan=this_farm.plans.get(month.plan),
            is_prepaid=is_prepaid(this_farm, month.plan),
        ),
        "top_up_key": new_id("ask", this_farm.clock()),
    }


def _card(job: Job, now_ms: int) -> Json:
    return {
        "job": job,
        "label": words.state(job.state, job.intent, job.pause_reason, truncated=job.truncated),
        "tone": words.tone(job.state, truncated=job.truncated),
        "ago": words.ago(job.created_at_ms, now_ms),
        "tile": None if job.artifacts or not job.frames_done else _first_frames(job),
    }


def _first_frames(job: Job) -> Tile | None:
    """Return the first batch that has landed, the picture of a video that has no poster."""
    units = jobs.units(farm(), job.account_id, job.id)
    return next((tile for tile in reel(job, units) if tile.strip), None)
