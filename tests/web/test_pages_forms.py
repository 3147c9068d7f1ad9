"""The upload form: what was typed becomes a brief, or says what is wrong beside its field."""

from dataclasses import replace

import pytest
from werkzeug.datastructures import MultiDict

from orchestrator.model import Brief, Size
from web.pages import forms
from web.pages.forms import Form, Upload


def typed(**values: str) -> Form:
    """Return the form as it was sent."""
    return forms.read(MultiDict(values))


def test_a_full_form_is_a_brief() -> None:
    """Every field arrives with its type; the prompt keeps its own letters."""
    form, asked = forms.brief(
        typed(
            prompt=" كلب يركض 🐕 ",
            negative_prompt="people",
            seconds="2,5",
            size="512 × 256",
            seed="-7",
            steps="12",
            fps="24",
            max_gpu_seconds="4.5",
            model="fake",
        )
    )
    assert not form.wrong
    assert asked == Brief(
        prompt="كلب يركض 🐕",
        negative_prompt="people",
        seconds=2.5,
        size=Size(width=512, height=256),
        seed=-7,
        steps=12,
        fps=24,
        max_gpu_ms=4500,
        model="fake",
    )


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("seconds", "-1"),
        ("seconds", "1e9"),
        ("size", "banana"),
        ("size", "512"),
        ("seed", "1.5"),
        ("steps", "many"),
        ("fps", "0x10"),
        ("max_gpu_seconds", "∞"),
    ],
)
def test_a_bad_field_is_named_and_nothing_is_asked(field: str, text: str) -> None:
    """The fault stands at its field, what was typed stays, and there is no brief."""
    form, asked = forms.brief(typed(prompt="a dog", **{field: text}))
    assert asked is None
    assert set(form.wrong) == {field}
    assert form[field] == text


def test_an_empty_prompt_is_blank_before_it_is_wrong() -> None:
    """Nobody is scolded for a form not yet written; submitting it empty is another matter."""
    assert typed(prompt="  ").is_blank
    form, asked = forms.brief(typed(prompt="  "))
    assert asked is None
    assert "prompt" in form.wrong


def test_a_chosen_alternative_overrules_its_fields_and_no_others() -> None:
    """The button of an alternative carries the fields it changes."""
    cheaper = Brief(prompt="x", steps=4, seconds=1.5, size=Size(width=64, height=64))
    form = typed(prompt="a dog", steps="9", seed="3", alternative=forms.choice(cheaper))
    assert (form["steps"], form["seconds"], form["size"]) == ("4", "1.5", "64x64")
    assert (form["prompt"], form["seed"]) == ("a dog", "3")


def test_a_storyboard_gives_scenes_and_a_title() -> None:
    """Without a prompt the file's name is the title."""
    upload = Upload(name="my_first-film.csv", data=b"prompt,seconds\na dog,2\na cat,3\n")
    form = forms.with_storyboard(typed(), upload)
    assert [scene.prompt for scene in form.scenes] == ["a dog", "a cat"]
    assert form["prompt"] == "my first film"
    assert not form.is_blank


def test_a_broken_storyboard_is_wrong_at_its_field() -> None:
    """The fault names the line, and nothing is quoted."""
    form = forms.with_storyboard(typed(prompt="a"), Upload(name="s.json", data=b'[{"prompt": }]'))
    assert "line" in form.wrong["storyboard"]
    utf_16 = Upload(name="s.csv", data="prompt\na dog".encode("utf-16"))
    form = forms.with_storyboard(typed(prompt="a"), utf_16)
    assert "CSV UTF-8" in form.wrong["storyboard"], "it says how to save the file"
    assert forms.brief(form)[1] is None


@pytest.mark.parametrize("key", ["units/unt_1/1/video.mp4", "inputs/../x/y", "inputs/ab/c.png"])
def test_a_kept_file_can_only_be_an_upload(key: str) -> None:
    """The hidden field cannot be bent to another artifact."""
    assert typed(kept_image=key).image == ""


def test_a_variation_starts_from_the_brief_of_its_job() -> None:
    """A form that was typed once is typed again, and means the same."""
    asked = Brief(
        prompt="a dog", seconds=2.5, size=Size(width=64, height=32), seed=0, max_gpu_ms=1500
    )
    assert forms.brief(forms.from_brief(asked))[1] == asked
    seen_through = replace(asked, image=f"inputs/{'ab' * 32}/input.png", image_background="#00ff00")
    assert forms.brief(forms.from_brief(seen_through))[1] == seen_through


def test_the_background_is_a_colour() -> None:
    """White where nothing is chosen; it opens no folded fields; a word is wrong at its field."""
    form, asked = forms.brief(typed(prompt="a dog", image_background="#00FF00"))
    assert asked
    assert (asked.image_background, form.more_open) == ("#00ff00", False)
    _, asked = forms.brief(typed(prompt="a dog"))
    assert asked
    assert asked.image_background == "#ffffff"
    form, asked = forms.brief(typed(prompt="a dog", image_background="grey"))
    assert (asked, set(form.wrong)) == (None, {"image_background"})
