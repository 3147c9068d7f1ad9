"""The studio: the form, the quote beside its button, and the recent videos."""

import hashlib
import json
from dataclasses import asdict, replace
from urllib.parse import urlencode

from flask import make_response, redirect, render_template, request, url_for
from flask_login import login_required
from pydantic import ValidationError
from werkzeug.wrappers import Response

from orchestrator.catalog import ModelCard
from orchestrator.errors import BadRequest, Conflict, Expired, FarmError, NotFound, PlanLimit
from orchestrator.farm import Idempotency, jobs
from orchestrator.farm.kernel.ids import new_id
from orchestrator.model import Brief, Handling, Job, Json, Size
from orchestrator.planning.plan_json import brief_json
from web import errors, uploads
from web.api.submission import going_on, told_like
from web.context import artifacts, farm, settings
from web.errors import STATUS
from web.pages import forms, page_data, words
from web.pages.blueprint import bp
from web.pages.forms import Form, Upload
from web.pages.page_data import Shown, me
from web.policy import rule_on_prompt
from web.threads import in_thread

Answer = Response | tuple[str, int]
MAX_STORYBOARD_BYTES = 1_000_000
MAX_QUERY_CHARS = 3_000
"""Gunicorn takes request lines of 4,094."""


@bp.get("/")
@login_required
def home() -> Answer:
    """Show the form and the recent videos; `like` starts from a job, else fields from the query."""
    form = _with_kept(forms.read(request.args))
    if "like" in request.args:
        found = in_thread(jobs.get, farm(), me(), request.args["like"])
        form = _like(found)
    return _page(form)


@bp.post("/quote")
@login_required
def quote() -> Answer:
    """Price what is typed: the panel alone for htmx, the whole page without JavaScript."""
    form = _received(keep_files="HX-Request" not in request.headers)
    if "HX-Request" in request.headers:
        priced = _priced(form)
        shown = render_template("_quote.html", alone=True, back_here=_again(form), **priced)
        return shown, 200
    return _page(form)


@bp.post("/")
@login_required
def submit() -> Answer:
    """Start the job and go to its page; otherwise say beside the form why not."""
    form = _received(keep_files=True)
    try:
        form, asked = _meant(form, keep_files=True)
    except FarmError as error:
        return _page(form, status=STATUS.get(error.code, 500), refusal=_refusal(error))
    if asked is None:
        return _page(form, status=422, refusal=_faults(form))
    handling = forms.handling(form)
    facts = [brief_json(asked), form["session"], handling.tags, dict(handling.metadata)]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    key = request.form.get("request_key", "")[:100]
    try:
        in_thread(artifacts().check_room)
        submission = in_thread(
            jobs.submit,
            farm(),
            account_id=me(),
            session_id=form["session"] or None,
            brief=asked,
            handling=_told_like(form, handling),
            alternatives=True,
            ruling=rule_on_prompt(asked, me()),
            idempotency=Idempotency(key=f"page {key} {digest}", body_sha256=digest),
        )
    except FarmError as error:
        return _page(form, status=STATUS.get(error.code, 500), refusal=_refusal(error))
    return redirect(url_for("pages.job", job_id=submission.job.id), 303)


@bp.get("/videos")
@login_required
def recent() -> str:
    """Return the list of recent videos, which asks for itself while one of them runs."""
    return render_template("_jobs.html", **in_thread(page_data.recent, me(), _shown_only()))


# --- inside -------------------------------------------------------------------------------


def _shown_only() -> Shown:
    """Return which videos this request wants to see.

    Raises:
        BadRequest: there is no such state, or it is no tag; the message names which.
    """
    try:
        return Shown.model_validate({k: v for k, v in request.args.items() if v.strip()})
    except ValidationError as error:
        raise errors.bad_request(error) from None


def _told_like(form: Form, handling: Handling) -> Handling:
    """Return how a video is handled, with the webhook of the one that it is made like."""
    if not form["told_like"]:
        return handling
    source = in_thread(jobs.get, farm(), me(), form["told_like"])
    url, events = told_like(source, me())
    return replace(handling, webhook_url=url, webhook_events=events)


def _like(job: Job) -> Form:
    """Return the form that asks for a job again; its storyboard is kept as a file of scenes."""
    form = forms.labelled_like(forms.from_brief(job.brief), job, farm().clock())
    form = replace(form, values={**form.values, "session": job.session_id})
    if not form.scenes:
        return form
    scenes = json.dumps([asdict(scene) for scene in form.scenes]).encode()
    return replace(form, storyboard=uploads.keep_storyboard("scenes.json", scenes))


def _meant(form: Form, *, keep_files: bool) -> tuple[Form, Brief | None]:
    """Return the brief that a form means, with the video that it goes on from."""
    form, asked = forms.brief(form)
    if asked is not None and form["extends"]:
        asked = going_on(asked, form["extends"], keep_files=keep_files)
    return form, asked


def _received(*, keep_files: bool) -> Form:
    """Read the form and its files; a kept file stands in until another one is chosen."""
    form = forms.read(request.form)
    story, picture = _upload("storyboard"), _upload("image")
    if story is not None and len(story.data) > MAX_STORYBOARD_BYTES:
        form = form.found_wrong("storyboard", "A storyboard may have 1 MB at most.")
    elif story is not None:
        form = forms.with_storyboard(form, story)
        if keep_files and "storyboard" not in form.wrong:
            form = replace(form, storyboard=uploads.keep_storyboard(story.name, story.data))
    else:
        form = _with_kept(form)
    if picture is not None and keep_files:
        try:
            form = replace(form, image=uploads.keep_picture(picture.data))
        except BadRequest as error:
            form = form.found_wrong("image", error.message)
    return form


def _with_kept(form: Form) -> Form:
    """Read the scenes of a storyboard that was sent before."""
    if not form.storyboard:
        return form
    data = in_thread(artifacts().read, form.storyboard)
    read = forms.with_storyboard(form, Upload(name=form.storyboard.rpartition("/")[2], data=data))
    return replace(read, values=form.values)  # its name here is nobody's title


def _upload(name: str) -> Upload | None:
    sent = request.files.get(name)
    if sent is None or not sent.filename:
        return None
    return Upload(name=sent.filename, data=sent.read())


def _priced(form: Form) -> Json:
    """Return what the quote panel shows: an estimate, a fault, or neither for a blank form."""
    paying = in_thread(page_data.budget, me(), None)
    empty = {"estimate": None, "fault": None, "refusal": None, "form": form}
    if form.is_blank:
        return empty | paying
    try:
        form, asked = _meant(form, keep_files=False)
    except (NotFound, Conflict, Expired) as error:
        return empty | paying | {"fault": {"what": error.message, "remedies": error.remedies}}
    if asked is None:
        return empty | paying | {"form": form, "fault": _faults(form)}
    try:
        paying = in_thread(page_data.budget, me(), form["session"] or None)
        estimate = in_thread(
            jobs.estimate, farm(), account_id=me(), session_id=form["session"] or None, brief=asked
        )
    except (BadRequest, NotFound, PlanLimit) as error:
        return empty | paying | {"fault": {"what": error.message, "remedies": error.remedies}}
    why_not = _refusal(estimate.refusal) if estimate.refusal else None
    return (
        empty
        | paying
        | {"estimate": estimate, "hold_gpu_ms": estimate.hold_gpu_ms, "why_not": why_not}
    )


def _page(form: Form, *, status: int = 200, refusal: Json | None = None) -> Answer:
    this_farm = farm()
    priced = _priced(form)
    form = priced["form"]
    cards = tuple(this_farm.catalog.cards.values())
    card = this_farm.catalog.cards.get(form["model"], this_farm.catalog.default)
    page = render_template(
        "studio.html",
        **{**priced, "refusal": refusal, "focus_refusal": refusal is not None},
        **in_thread(page_data.recent, me(), _shown_only()),
        card=card,
        profiles=", ".join(f"{name} {steps}" for name, steps in card.profiles.items()),
        models=cards,
        most_upscale=max((each.most_upscale for each in cards), default=1),
        upscalers=[_short(each) for each in cards if each.most_upscale > 1],
        painters=[_short(each) for each in cards if each.takes_image],
        sizes=_sizes(card.native, card.output),
        max_prompt_chars=settings().max_prompt_chars,
        request_key=new_id("ask", this_farm.clock()),
        back_here=_again(form),
    )
    answer = make_response(page, status)
    answer.headers["Cache-Control"] = "private, no-cache"
    return answer


def _again(form: Form) -> str:
    """Return the address of this page with what was typed, as long as addresses may be."""
    kept = {"kept_image": form.image, "kept_storyboard": form.storyboard}
    asked = {name: value for name, value in {**form.values, **kept}.items() if value}
    home, query = url_for("pages.home"), urlencode(asked)
    return f"{home}?{query}" if 0 < len(query) <= MAX_QUERY_CHARS else home


def _short(card: ModelCard) -> str:
    """Return a model's title without what it says of itself."""
    return card.title.partition(":")[0]


def _sizes(native: Size, output: Size) -> list[str]:
    """Sizes worth offering: what the model paints, twice that, and the usual video formats."""
    twice = Size(width=native.width * 2, height=native.height * 2)
    wide = Size(width=twice.width * 5 // 4 // 16 * 16, height=twice.width * 45 // 64 // 16 * 16)
    tall = Size(width=wide.height, height=wide.width)
    return list(dict.fromkeys(str(size) for size in (output, native, twice, wide, tall)))


def _faults(form: Form) -> Json:
    return {
        "title": "Something in the form needs a change",
        "what": " ".join(form.wrong.values()),
        "charged": "Nothing was started or charged.",
        "remedies": (),
    }


def _refusal(error: FarmError) -> Json:
    return {
        "title": "It was not started",
        "what": error.message,
        "charged": "Nothing was charged.",
        "remedies": error.remedies,
        "held": words.holders(error.data, farm().clock()),
    }
