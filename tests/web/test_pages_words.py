"""Numbers and states in words."""

import pytest

from orchestrator.states import Intent, JobState, PauseReason
from web.pages import words


@pytest.mark.parametrize(
    ("gpu_ms", "text"),
    [(0, "0"), (4, "0.00"), (840, "0.84"), (4213, "4.21"), (12_340, "12.3"), (3_600_000, "3,600")],
)
def test_gpu_seconds_show_three_digits(gpu_ms: int, text: str) -> None:
    """A glance needs three digits, not the millisecond."""
    assert words.gpu(gpu_ms) == text


def test_a_bill_is_exact_to_the_millisecond() -> None:
    """A charge is an integer of milliseconds, and is shown as one."""
    assert words.exact(3_600_001) == "3,600.001"


@pytest.mark.parametrize(
    ("microusd", "text"),
    [(0, "$0"), (1, "$0.000001"), (30, "$0.00003"), (4_200, "$0.0042"), (1_234_567, "$1.23")],
)
def test_small_prices_keep_two_digits(microusd: int, text: str) -> None:
    """A fraction of a cent is not rounded to nothing."""
    assert words.price(microusd) == text


def test_a_loss_has_its_sign_before_the_dollar() -> None:
    """A margin may be negative, and as small as a price."""
    assert [words.price(each) for each in (-30, -1_234_567)] == ["−$0.00003", "−$1.23"]


def test_an_amount_for_a_form_is_exact_and_plain() -> None:
    """The amount of a button is read again: no separator of thousands, to the millisecond."""
    assert [words.plain_seconds(each) for each in (1, 60_000, 3_600_001)] == [
        "0.001",
        "60",
        "3600.001",
    ]


def test_a_sentence_begins_with_a_capital_and_keeps_the_rest() -> None:
    """A variant's sacrifice is a label in a list, and a sentence on its button."""
    assert words.sentence("the model XY") == "The model XY"
    assert words.sentence("") == ""


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (-5, "0 s"),
        (2_600, "3 s"),
        (80_000, "1 min 20 s"),
        (1_200_000, "20 min"),
        (7_500_000, "2 h 5 min"),
    ],
)
def test_spans_are_as_long_as_they_need_to_be(ms: float, text: str) -> None:
    """Seconds matter for a minute, not for an hour."""
    assert words.lasting(ms) == text


def test_ages_are_told_in_whole_units() -> None:
    """One minute is singular, two days are not."""
    assert words.ago(0, 59_000) == "just now"
    assert words.ago(0, 61_000) == "1 minute ago"
    assert words.ago(0, 7_300_000) == "2 hours ago"
    assert words.ago(0, 200_000_000) == "2 days ago"


def test_frames_count_from_one() -> None:
    """People count frames from one, the farm from zero."""
    assert words.frames(0, 8) == "1–8"
    assert words.frames(8, 1) == "9"
    assert words.frames(0, 8, 4) == "1, 5 … 29"


def test_every_state_has_a_word_and_a_wish_goes_first() -> None:
    """A job that is about to pause says so while it still renders."""
    assert all(words.state(state, None, None) for state in JobState)
    assert words.state(JobState.RENDERING, Intent.PAUSE, None) == "Pausing"
    assert words.state(JobState.SUCCEEDED, None, None, truncated=True) == "Cut off"
    assert words.tone(JobState.SUCCEEDED, truncated=True) == "warn"
    assert words.state(JobState.CANCELLED, Intent.CANCEL, None) == "Cancelled"
    assert words.state(JobState.PAUSED, None, PauseReason.BUDGET) == "Paused: budget used up"


def test_a_receipt_line_says_what_it_was_for() -> None:
    """Lines of frames name them; an attempt that kept none names where it began."""
    assert words.line_label({"kind": "parse"}) == "Reading the prompt"
    assert words.line_label({"kind": "render", "first_frame": 8, "frames": 8}) == "Frames 9–16"
    assert words.line_label({"kind": "render", "first_frame": 8, "frames": 0}) == "Frames from 9"
