"""Each remedy as the command line, the pages and the API say it."""

import json
import shlex
from collections.abc import Iterator
from typing import get_args

import pytest
import rich_click as click
from flask import Flask, render_template_string
from pydantic import TypeAdapter

from orchestrator import remedies
from orchestrator.cli import farm as command_line
from orchestrator.cli import remedies as typed
from orchestrator.farm import Farm
from orchestrator.farm.accounts import sessions
from orchestrator.model import JobError
from orchestrator.remedies import (
    KINDS,
    AddPerson,
    AskForLess,
    Cancel,
    ChangeAlerts,
    ChangeMonthAlerts,
    ChangePlan,
    CreateKey,
    EnableWebhook,
    EndAJob,
    FinishEarly,
    FreeRoom,
    GetLink,
    LiftFreeze,
    Listing,
    LookAt,
    MoveDefault,
    OpenSession,
    Pause,
    RaiseAllowance,
    RaiseLimit,
    RegisterWebhook,
    Remedy,
    Reopen,
    Rerun,
    Resume,
    Say,
    SeeAlternatives,
    StartWorker,
    TakeAlternative,
    TopUp,
    UseKey,
    UseSession,
    WaitForHolders,
    WaitForMonth,
    Watch,
)
from tests.factories import account_id
from web.api import remedies as called
from web.pages import remedies as pressed
from web.pages.budget import Budget

KEPT = TypeAdapter(JobError)
"""As a job's row keeps it."""
EXAMPLES: tuple[tuple[Remedy, str | None, str | None, str | None], ...] = (
    (
        TopUp("ses_1", "small", 1_500),
        "farm session topup small 1.5",
        "POST /api/v1/sessions/ses_1/top-ups",
        None,
    ),
    (RaiseLimit(2_000), "--max-gpu-seconds 2", None, "Allow 2 GPU-seconds"),
    (AskForLess(), None, None, None),
    (TakeAlternative(), "--fit", None, None),
    (SeeAlternatives(), "farm quote PROMPT", "POST /api/v1/quotes", None),
    (OpenSession(), "farm session create NAME", "POST /api/v1/sessions", None),
    (
        Reopen("ses_1", "small"),
        "farm session reopen small",
        "POST /api/v1/sessions/ses_1/reopen",
        "Reopen session small",
    ),
    (
        MoveDefault("ses_1", "two words"),
        "farm session default ses_1",
        "POST /api/v1/sessions/ses_1/default",
        "Make session two words the default",
    ),
    (UseSession("ses_1", "small"), "--session small", None, None),
    (
        RaiseAllowance("key_1", 1_500),
        "farm keys limit key_1 1.5",
        "PUT /api/v1/keys/key_1/limit",
        "Keys",
    ),
    (WaitForMonth("2026-12-01"), None, None, None),
    (WaitForHolders(), None, None, None),
    (
        ChangePlan("acc_1"),
        "farm account set-plan acc_1 PLAN",
        "PUT /api/v1/accounts/acc_1/plan",
        None,
    ),
    (
        ChangeAlerts("ses_1", "two words"),
        "farm session alerts ses_1",
        "PUT /api/v1/sessions/ses_1/alerts",
        None,
    ),
    (
        ChangeMonthAlerts("acc_1"),
        "farm account alerts acc_1",
        "PUT /api/v1/accounts/acc_1/alerts",
        None,
    ),
    (Resume("job_1"), "farm jobs resume job_1", "POST /api/v1/jobs/job_1/resume", "Let it go on"),
    (Pause("job_1"), "farm jobs pause job_1", "POST /api/v1/jobs/job_1/pause", "Pause it"),
    (
        FinishEarly("job_1", 3),
        "farm jobs finish job_1",
        "POST /api/v1/jobs/job_1/finish",
        "Make the video of its 3 finished frames",
    ),
    (Cancel("job_1"), "farm jobs cancel job_1", "POST /api/v1/jobs/job_1/cancel", "Cancel it"),
    (Rerun("job_1"), "farm jobs rerun job_1", None, "Make it again"),
    (Watch("job_1"), "farm jobs watch job_1", "GET /api/v1/jobs/job_1", "Follow it"),
    (EndAJob(), "farm jobs ls", "GET /api/v1/jobs", "Your videos"),
    (LiftFreeze(), "farm freeze --off", "PUT /api/v1/freeze", None),
    (StartWorker(), "farm worker run", None, None),
    (UseKey(), "farm keys create", None, "Sign in"),
    (CreateKey("user"), "farm keys create --kind user", "POST /api/v1/keys", None),
    (
        CreateKey("join", "nvidia-l4"),
        "farm keys create --kind join --device-class nvidia-l4",
        "POST /api/v1/keys",
        None,
    ),
    (GetLink(), "farm up", None, None),
    (AddPerson("a@b.example"), "farm people add a@b.example --sso", "POST /api/v1/people", None),
    (RegisterWebhook(), "farm webhooks create URL", "POST /api/v1/webhooks", None),
    (
        EnableWebhook("hok_1"),
        "farm webhooks enable hok_1",
        "POST /api/v1/webhooks/hok_1/enable",
        None,
    ),
    (FreeRoom(), "farm jobs rm JOB", None, None),
    (LookAt(Listing.JOBS, "See the jobs."), "farm jobs ls", "GET /api/v1/jobs", "Your videos"),
    (
        LookAt(Listing.DELIVERIES, "See what was sent.", "hok_1"),
        "farm webhooks deliveries hok_1",
        "GET /api/v1/webhooks/hok_1/deliveries",
        None,
    ),
    (Say("Breathe."), None, None, None),
)
"""A remedy, its command, its call, and what a page has to press for it."""


@pytest.fixture
def page(app: Flask) -> Iterator[None]:
    """Stand in a request, as templates do."""
    with app.test_request_context("/"):
        yield


def test_every_remedy_has_an_example() -> None:
    """A new remedy is not there before all three interfaces say it."""
    assert {type(remedy) for remedy, *_ in EXAMPLES} == set(get_args(Remedy))
    assert set(typed.LISTS) == set(called.LISTS) == set(Listing)


@pytest.mark.parametrize(("remedy", "command", "call", "action"), EXAMPLES)
def test_three_interfaces_say_a_remedy(
    page: None, remedy: Remedy, command: str | None, call: str | None, action: str | None
) -> None:
    """A command, a call, a button: each its own, from the same data."""
    assert typed.command(remedy) == command
    assert command is None or f"`{command}`" in typed.said(remedy) or isinstance(remedy, UseKey)
    told = called.shown([remedy])["next"]
    made = told["call"]
    assert (made and f"{made['method']} {made['path']}") == call
    (step,) = pressed.steps([remedy])
    assert (step.action and step.action.label) == action
    for text in (remedy.text, told["text"], step.text):
        assert "`farm " not in text
    assert step.text or step.action


@pytest.mark.parametrize("remedy", [remedy for remedy, *_ in EXAMPLES])
def test_a_remedy_goes_through_the_api_and_the_database_whole(remedy: Remedy) -> None:
    """The command line reads from HTTP what the farm meant, and so does a row."""
    assert remedies.from_json(remedies.to_json(remedy)) == remedy
    (read,) = typed.told(called.shown([remedy]))
    assert read == remedy
    failed = JobError(code="x", message="y", remedies=(remedy, remedy))
    kept = json.loads(KEPT.dump_json(failed))
    assert KEPT.validate_python(kept) == failed


@pytest.mark.parametrize("command", sorted({command for _, command, *_ in EXAMPLES if command}))
def test_a_command_is_one_that_there_is(command: str) -> None:
    """Whatever a remedy tells people to type is known to the command line."""
    words = shlex.split(command)
    if words[0] != "farm":
        render = _found(command_line, "render")
        assert words[0] in {name for each in render.params for name in each.opts}
        return
    found: click.Command = command_line
    for word in words[1:]:
        if not isinstance(found, click.Group):
            break
        found = _found(found, word)
    flags = {word for word in words if word.startswith("--")}
    assert flags <= {name for each in found.params for name in (*each.opts, *each.secondary_opts)}


def _found(group: click.Group, word: str) -> click.Command:
    context = click.Context(group)
    command = group.resolve_command(context, [word])[1]
    assert command, word
    return command


def test_a_remedy_of_another_version_is_said() -> None:
    """An unknown code, other data and an older farm's sentence are plain words."""
    for sent in (
        {"code": "pray", "text": "Pray.", "data": {"how": "often"}},
        {"code": "top_up", "text": "Pray.", "data": {}},
        {"code": "look_at", "text": "Pray.", "data": {"what": "stars"}},
        {"code": "resume", "text": "Pray.", "data": None},
    ):
        assert typed.told({"next": sent}) == (Say("Pray."),)
    assert typed.told({"next": "Pray."}) == (Say("Pray."),)
    assert typed.told({}) == ()
    old = KEPT.validate_python({"code": "x", "message": "y", "next": "Pray."})
    assert old.remedies == (Say("Pray."),)


def test_others_stand_beside_the_best() -> None:
    """`also` is there where there is more than one; the order stays."""
    told = called.shown([Resume("job_1"), FinishEarly("job_1", 2)])
    assert (told["next"]["code"], [each["code"] for each in told["also"]]) == (
        "resume",
        ["finish_early"],
    )
    assert "also" not in called.shown([AskForLess()])


def test_a_name_that_a_shell_would_read_is_typed_by_its_id() -> None:
    """Spaces, quotes and dashes in a session's name never reach a command."""
    for name in ("two words", "; reboot", "-x", "a'b", ""):
        assert typed.command(TopUp("ses_1", name, 1)) == "farm session topup ses_1 0.001"
    assert typed.command(AddPerson("; reboot")) == "farm people add '; reboot' --sso"


def test_a_page_tops_up_the_session_it_shows(page: None, web_farm: Farm) -> None:
    """Its button sends the budget's own form; for another session there is none to send."""
    mine = sessions.find(web_farm, account_id(web_farm), None)
    month = _month(web_farm)
    budget = Budget(session=mine, month=month, plan=web_farm.plans.get(month.plan))
    (step,) = pressed.steps([TopUp(mine.id, mine.name, 1_500)], budget)
    assert isinstance(step.action, pressed.Button)
    assert (step.action.form, step.action.value, step.text) == ("top-up", "1.5", "")
    (other,) = pressed.steps([TopUp("ses_other", "other", 1_500)], budget)
    assert (other.action, other.text) == (None, "Top up session 'other' by 1.5 GPU-seconds.")


def _month(farm: Farm):
    from orchestrator.farm.accounts import accounts

    return accounts.look(farm, account_id(farm)).month


def test_a_button_is_a_form_with_a_token(page: None) -> None:
    """A remedy's button works without JavaScript, and no other site presses it."""
    shown = render_template_string(
        '{% from "_parts.html" import advice with context %}{{ advice(helping | steps) }}',
        helping=(Resume("job_1"), AskForLess(), Rerun("job_1")),
    )
    assert '<form method="post" action="/jobs/job_1/resume">' in shown
    assert 'name="csrf_token"' in shown
    assert "Or: Ask for less" in shown
    assert 'href="/?like=job_1"' in shown


def test_codes_are_what_they_were() -> None:
    """A program that knows a code may rely on it: more may come, none goes."""
    assert set(KINDS) >= {
        "top_up", "raise_limit", "ask_for_less", "take_alternative", "open_session",
        "wait_for_month", "wait_for_holders", "change_plan", "change_alerts",
        "change_month_alerts", "resume", "pause", "finish_early", "cancel", "rerun", "watch",
        "end_a_job", "lift_freeze", "start_worker", "use_key", "create_key", "get_link",
        "add_person", "register_webhook", "enable_webhook", "free_room", "look_at", "say", "reopen",
        "move_default", "use_session", "raise_allowance",
        "see_alternatives",
    }  # fmt: skip
