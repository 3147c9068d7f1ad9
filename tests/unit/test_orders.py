"""Numbers of a prompt: which are orders, which are ordinary words, and what is said of both."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.catalog import FAKE
from orchestrator.errors import BadRequest
from orchestrator.model import Brief, Screenplay, Size, Vocabulary
from orchestrator.planning import planner, variants
from orchestrator.prompting import parser
from tests.unit.numbers_said import ORDERS, WORDS, Asked
from tests.unit.words import VOCABULARY

PASTED = Path(__file__).with_name("pasted_parameters.txt").read_text()
NOTHING = Vocabulary()


def parse(text: str, *given: str) -> Screenplay:
    """Return the screenplay of a text, with these options given."""
    return parser.parse(text, vocabulary=NOTHING, given=given)


def shots(text: str) -> list[tuple[str, float | None]]:
    """Return description and length of each shot."""
    return [(scene.prompt, scene.seconds) for scene in parse(text).scenes]


def test_the_corpus_is_whole() -> None:
    """There are so many orders and so many ordinary words, each once."""
    assert (len(ORDERS), len(WORDS)) == (103, 119)
    assert len({asked.text for asked in ORDERS}) == 103
    assert len(set(WORDS)) == 119


@pytest.mark.parametrize("asked", ORDERS, ids=[asked.text for asked in ORDERS])
def test_an_order_is_read_and_said(asked: Asked) -> None:
    """An order leaves the description, sets its value, and a note names value and words."""
    made = parse(asked.text)
    size = str(made.size) if made.size else None
    seconds = made.seconds or made.scenes[0].seconds
    assert (made.scenes[0].prompt, size, made.fps, seconds) == asked[1:]
    notes = " ".join(made.notes)
    for value, said in (
        (asked.size, f"The size is {asked.size}, read from"),
        (asked.fps, f"The rate is {asked.fps} frames per second, read from"),
        (asked.seconds, "The length is "),
    ):
        assert (said in notes) == bool(value)


@pytest.mark.parametrize("text", WORDS)
def test_ordinary_words_are_no_orders(text: str) -> None:
    """Words that only look like an order stay in the description, and nothing is noted."""
    made = parse(text)
    assert [scene.prompt for scene in made.scenes] == [text]
    assert (made.size, made.fps, made.seconds, made.seed) == (None, None, None, None)
    assert (made.scenes[0].seconds, made.notes) == (None, ())


@pytest.mark.parametrize(
    ("parts", "size"),
    [
        (("9:16", "1080p"), Size(width=1080, height=1920)),
        (("1:1", "1080p"), Size(width=1080, height=1080)),
        (("portrait", "1080p"), Size(width=1080, height=1920)),
        (("portrait", "4k"), Size(width=2160, height=3840)),
        (("square", "720p"), Size(width=720, height=720)),
        (("3:4", "480p"), Size(width=480, height=640)),
        (("21:9", "full HD"), Size(width=2520, height=1080)),
        (("landscape", "3:4", "480p"), Size(width=640, height=480)),
        (("9:16", "1080p", "24 fps"), Size(width=1080, height=1920)),
    ],
)
def test_a_size_is_the_same_in_any_order(parts: tuple[str, ...], size: Size) -> None:
    """Resolution, shape and the way up make one size, however they are ordered and joined."""
    for order in itertools.permutations(parts):
        for joint in (", ", " ", " and "):
            for text in (f"a dog, {joint.join(order)}", f"{joint.join(order)}, a dog"):
                made = parse(text)
                assert (made.size, made.scenes[0].prompt) == (size, "a dog"), text


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("size", "a dog in 4k, 9:16"),
        ("fps", "a dog at 24 fps"),
        ("seconds", "a dog waits for 5 minutes"),
        ("seconds", "a 5 second clip of a dog"),
        ("seed", "a dog, seed 7"),
    ],
)
def test_an_option_leaves_its_words_in(field: str, text: str) -> None:
    """An option that is given switches off the reading of its own words, and of no others."""
    made = parse(f"{text}, {'12 fps' if field != 'fps' else '360p'}", field)
    assert made.scenes[0].prompt == text
    assert getattr(made, field) is None
    assert made.scenes[0].seconds is None
    assert (made.fps == 12) == (field != "fps")


def test_a_brief_says_which_words_are_read() -> None:
    """Fields of a brief are options; those the farm wrote out itself leave words instructions."""
    asked = Brief(prompt="a dog runs for 2 s, then a cat for 1 s, 24 fps", seconds=6.0)
    assert "for 2 s" in parser.of_brief(asked, NOTHING).scenes[0].prompt
    free = replace(asked, seconds=None)
    plan = planner.plan(free, parser.of_brief(free, NOTHING), FAKE, seed=1)
    again = variants.written_out(free, plan)
    copy = planner.plan(again, parser.of_brief(again, NOTHING), FAKE, seed=1)
    assert (copy.shots, copy.fps) == (plan.shots, plan.fps)
    assert not [note for note in copy.notes if "read from" in note]


@pytest.mark.parametrize(
    ("text", "fps", "named"),
    [
        ("a dog at 23.976 fps", 24, "23.976"),
        ("a dog, 29.97 frames per second", 30, "29.97"),
        ("a dog, 59,94 fps", 60, "59,94"),
        ("a dog, 29.97", 30, "29.97"),
        ("a dog at 12.4 fps", 12, "12.4"),
        ("a dog at 24.0 fps", 24, None),
    ],
)
def test_a_broken_rate_is_rounded_aloud(text: str, fps: int, named: str | None) -> None:
    """A rate that is no whole number is made as the nearest one, which a note says."""
    made = parse(text)
    rounded = [note for note in made.notes if "is made as" in note]
    assert (made.fps, made.scenes[0].prompt) == (fps, "a dog")
    assert len(rounded) == (named is not None)
    assert all(f"{named} is made as {fps}" in note for note in rounded)


@pytest.mark.parametrize("text", ["a dog, 1,000 fps", "a dog at 0.3 fps", "a dog at -29.97 fps"])
def test_an_absurd_rate_is_refused(text: str) -> None:
    """A rate beyond what video has is refused."""
    with pytest.raises(BadRequest, match="frames per second"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (text, [("a dog runs", 3.0), ("a cat sleeps", last)])
        for text, last in (
            ("[00:00-00:03] a dog runs [00:03-00:05] a cat sleeps", 2.0),
            ("0:00-0:03 a dog runs\n0:03-0:05 a cat sleeps", 2.0),
            ("0:00-0:03 a dog runs 0:03-0:05 a cat sleeps", 2.0),
            ("0:00 - 0:03: a dog runs\n0:03 – 0:05: a cat sleeps", 2.0),
            ("(0:00-0:03) a dog runs (0:03-0:05) a cat sleeps", 2.0),
            ("[0s-3s] a dog runs [3s-5s] a cat sleeps", 2.0),
            ("0-3s: a dog runs\n3-5s: a cat sleeps", 2.0),
            ("- [0:00 to 0:03] a dog runs\n- [0:03 to 0:05] a cat sleeps", 2.0),
            ("1. 0:00→0:03 a dog runs\n2. 0:03→0:05 a cat sleeps", 2.0),
            ("Scene 1 (0:00-0:03): a dog runs\nScene 2 (0:03-0:05): a cat sleeps", 2.0),
            ("a dog runs [00:00-00:03] a cat sleeps [00:03-00:05]", 2.0),
            ("My film:\n[00:00-00:03] a dog runs\n[00:03-00:05] a cat sleeps", 2.0),
            ("1\n00:00:00,000 --> 00:00:03,000\na dog runs\n\n"
             "2\n00:00:03,000 --> 00:00:05,500\na cat sleeps", 2.5),
            ("[00:00-00:03 a dog runs] [00:03-00:05 a cat sleeps]", 2.0),
            ("[0:00-0:03: a dog runs]\n[0:03-0:05: a cat sleeps]", 2.0),
            ("**0:00-0:03** a dog runs\n**0:03-0:05** a cat sleeps", 2.0),
            ("__0:00-0:03:__ a dog runs\n__0:03-0:05:__ a cat sleeps", 2.0),
            ("**0:00-0:03:** a dog runs\n**0:03-0:05:** a cat sleeps", 2.0),
            ("## 0:00-0:03\na dog runs\n## 0:03-0:05\na cat sleeps", 2.0),
            ("[00:00] a dog runs [00:03] a cat sleeps", None),
            ("0:00 a dog runs\n0:03 a cat sleeps", None),
        )
    ],
)  # fmt: skip
def test_timestamps_are_shots(text: str, expected: list[tuple[str, float | None]]) -> None:
    """Stamps cut the prompt into shots, which last from stamp to stamp."""
    assert shots(text) == expected
    assert any("read from" in note for note in parse(text).notes)


def test_scenes_with_a_number_and_a_length_are_shots() -> None:
    """ "Scene 1 (3 seconds):" is a label with a mark, and no part of what is shown."""
    for text in (
        "Scene 1 (3 seconds): a dog runs. Scene 2 (2 seconds): a cat sleeps.",
        "Shot 1: [3s] a dog runs. Shot 2: [2s] a cat sleeps.",
        "Scene 1: a dog runs. (3 s) Scene 2: a cat sleeps. (2 s)",
    ):
        assert shots(text) == [("a dog runs.", 3.0), ("a cat sleeps.", 2.0)]


@pytest.mark.parametrize(
    "text",
    ["a shop (9:00-17:00) with a dog", "9:00-17:00 a shop is open", "9:16 in the morning\nat noon"],
)
def test_opening_hours_are_no_timestamps(text: str) -> None:
    """Times of day cut nothing."""
    assert shots(text) == [(" ".join(text.split()), None)]


def test_timestamps_that_cannot_be_are_said() -> None:
    """A stamp that runs backwards is refused; a gap is noted, and a common style kept."""
    with pytest.raises(BadRequest, match="-3 seconds"):
        parse("[00:03-00:00] a dog runs")
    made = parse("cartoon [00:00-00:03] a dog [00:05-00:07] a cat")
    assert any("leave gaps" in note for note in made.notes)
    assert [scene.prompt for scene in made.scenes] == ["a dog, cartoon", "a cat, cartoon"]


@pytest.mark.parametrize(
    ("text", "negative", "seed", "size"),
    [
        (PASTED, "cats, text", 12345, Size(width=512, height=768)),
        (" ".join(PASTED.split()), "cats, text", 12345, Size(width=512, height=768)),
        ("a dog runs. Negative prompt: cats", "cats", None, None),
        ("a dog runs\nNegative: cats", "cats", None, None),
        ("negative prompt: cats\na dog runs", "cats", None, None),
        ("a dog runs\nNegative prompt: (cats:2),\ntext\nSteps: 20", "(cats:2), text", None, None),
        ("a dog runs\nSteps: 9, Seed: 5, Width: 640, Height: 384", "", 5,
         Size(width=640, height=384)),
        ("a dog runs --ar 9:16 --seed 7 --no text, people --v 6", "text, people", 7,
         Size(width=720, height=1280)),
    ],
)  # fmt: skip
def test_pasted_parameters_are_understood(
    text: str, negative: str, seed: int | None, size: Size | None
) -> None:
    """Negative, seed and size of another tool's parameters are taken, and none of it is shown."""
    made = parse(text)
    scene = made.scenes[0]
    assert (scene.prompt.rstrip("."), scene.negative_prompt) == ("a dog runs", negative)
    assert (made.seed, made.size) == (seed, size)


@pytest.mark.parametrize("newline", ["\r\n", "\r", "\u2028", "\n"])
@pytest.mark.parametrize("end", ["", " ", ".", ". ", "\n"])
@pytest.mark.parametrize("case", [str, str.lower, str.upper])
def test_pasted_parameters_have_any_newlines_and_letters(
    newline: str, end: str, case: Callable[[str], str]
) -> None:
    """Browsers end lines with two characters, and people write names as they like."""
    text = PASTED.strip().replace("\n", newline) + end.replace("\n", newline)
    head, line, rest = text.partition(f"{newline}Steps")
    made = parse(head + case(line + rest).replace("512X768", "512x768"))
    assert (made.scenes[0].prompt, made.scenes[0].negative_prompt) == ("a dog runs", "cats, text")
    assert (made.size, made.seed) == (Size(width=512, height=768), 12345)
    assert case("not taken: Steps, Sampler, CFG scale.")[11:] in " ".join(made.notes)


@pytest.mark.parametrize(
    ("text", "size", "seed", "negative"),
    [
        ("Prompt: a dog", None, None, ""),
        ("Positive prompt: a dog", None, None, ""),
        ("parameters: a dog", None, None, ""),
        ("prompt: a dog\nNegative prompt: cats\nsteps: 20\nseed: 5", None, 5, "cats"),
        ("seed: 7, size: 640x360, a dog", "640x360", 7, ""),
        ("Steps: 20, Seed: 5\nNegative prompt: cats\na dog", None, 5, "cats"),
        ("a dog --aspect-ratio 9:16", "720x1280", None, ""),
        ("a dog --aspect_ratio=9:16", "720x1280", None, ""),
        ("a dog --ratio 9:16", "720x1280", None, ""),
        ("a dog --AR 9:16", "720x1280", None, ""),
        ("a dog --resolution 1080p --sharpness 7", "1920x1080", None, ""),
        ("a dog --negative-prompt cats, text --seed 5", None, 5, "cats, text"),
    ],
)
def test_names_of_parameters_are_not_shown(
    text: str, size: str | None, seed: int | None, negative: str
) -> None:
    """A name in any spelling goes with its value; words beside the parameters stay."""
    made = parse(text)
    assert (made.scenes[0].prompt, made.scenes[0].negative_prompt) == ("a dog", negative)
    assert (str(made.size) if made.size else None, made.seed) == (size, seed)


def test_pasted_parameters_that_mean_nothing_here_are_named() -> None:
    """Steps and samplers of another tool's model, and seeds too large, are noted, not taken."""
    assert "not taken: Steps, Sampler, CFG scale." in " ".join(parse(PASTED).notes)
    assert "Seed" in " ".join(parse(PASTED.replace("12345", "4294967295")).notes)
    assert parse(PASTED, "size", "seed").size is None
    assert 'read from "--ar 9:16"' in " ".join(parse("a dog --ar 9:16").notes)
    assert 'read from "Size: 512x768"' in " ".join(parse(PASTED).notes)
    assert "not taken: --sharpness" in " ".join(parse("a dog --sharpness 7").notes)
    for words in ("a dog, size: big, model: poodle", "a dog --running fast", "steps: a dog climbs"):
        assert shots(words) == [(words, None)]
    assert parse("Steps: a dog climbs").scenes[0].prompt == "Steps: a dog climbs"
    assert parse("a dog -- running").scenes[0].prompt == "a dog -- running"


def test_a_shot_of_camera_words_keeps_its_length() -> None:
    """A camera's move alone shows what is before it, or else what follows, for its own length."""
    text = "the camera pans left for 2 seconds, then zooms in on a dog for 1 s"
    scenes = parse(text).scenes
    assert [(each.prompt, each.seconds, each.camera) for each in scenes] == [
        ("a dog", 2.0, "pan_left"),
        ("a dog", 1.0, "zoom_in"),
    ]
    listed = parse("1. tilt up for 2 s\n2. zoom out for 3 s\n3. a dog for 1 s").scenes
    assert [each.seconds for each in listed] == [2.0, 3.0, 1.0]


@pytest.mark.parametrize(
    ("text", "shown", "camera", "left_out"),
    [
        ("a dog runs, pan left for 2 s, zoom in for 1 s", "a dog runs", "zoom_in", "pan left"),
        ("camera pans left for 2s. zoom out for 3s. a dog", "a dog", "zoom_out", "pan left"),
        ("zoom in, the camera moves up, a dog", "a dog", "tilt_up", "zoom in"),
        ("the camera moves up. Zoom in. a dog", "a dog", "zoom_in", "tilt up"),
        ("a dog. zoom in. zooming in. A cat", "a dog. A cat", "zoom_in", None),
    ],
)
def test_one_move_of_the_camera_is_taken_aloud(
    text: str, shown: str, camera: str, left_out: str | None
) -> None:
    """The last move in a shot is taken, in the order of the words; a note names the other."""
    made = parse(text)
    assert [(each.prompt, each.camera) for each in made.scenes] == [(shown, camera)]
    said = [note for note in made.notes if "is left out" in note]
    assert len(said) == (left_out is not None)
    assert all(f"{left_out} is left out" in note for note in said)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (10.0, "stretched to 2.00 times"),
        (2.5, "shortened to 0.50 times"),
        (5.0, None),
        (None, None),
    ],
)
def test_lengths_that_give_way_are_said(seconds: float | None, said: str | None) -> None:
    """A length of the whole that is not the sum of the shots' own ones stretches them aloud."""
    brief = Brief(prompt="[00:00-00:03] a dog [00:03-00:05] a cat", seconds=seconds)
    notes = [note for note in parser.of_brief(brief, NOTHING).notes if "by their own" in note]
    assert len(notes) == (said is not None)
    assert all(f"{said} its length" in note for note in notes)


def test_a_shot_without_anything_is_noted() -> None:
    """A length without a picture or a camera is left out aloud."""
    made = parse("a dog for 2 seconds, then for 3 seconds, then a cat")
    assert [scene.prompt for scene in made.scenes] == ["a dog", "a cat"]
    assert "A shot of 3 seconds shows nothing and is left out." in made.notes


@pytest.mark.parametrize(
    ("text", "colours"),
    [
        ("a red rocket rises in the sky", "red"),
        ("a blue dog runs on the beach", "blue"),
        ("a turquoise bird and a pink cat jump on the beach", "turquoise, pink"),
        ("a dog turns into a green cat on the beach", "green"),
        ("a dog runs on the beach", None),
    ],
)
def test_colours_do_not_vanish(text: str, colours: str | None) -> None:
    """A colour that a vocabulary cannot show is noted."""
    notes = parser.parse(text, vocabulary=VOCABULARY).notes
    said = [note for note in notes if "colours" in note]
    assert said == ([f"This model's subjects have their own colours; not shown: {colours}."]
                    if colours else [])  # fmt: skip


def test_a_contradiction_is_said() -> None:
    """Two values of one thing are noted, in one shot or in several."""
    for text in ("a dog, 4k, 1080p", "a dog, 4k, then a cat, 1080p"):
        assert "resolution" in " ".join(parse(text).notes), text
    assert "640x360, not 1920x1080" in " ".join(parse("a dog, 640x360, 1080p").notes)


@given(
    st.lists(
        st.sampled_from(
            ["a", "dog", ",", "\n", "9:16", "1080p", "portrait", "4x4", "[0:00-0:03]", "0:03", "in",
             "at", "video", "for 3 s", "5s", "Steps: 20,", "Negative prompt:", "--ar 1:1", ".", "("]
        ),
        min_size=1,
        max_size=40,
    )
)  # fmt: skip
def test_any_mix_of_orders_is_understood_or_refused(words: list[str]) -> None:
    """Orders and stamps in any mix give prompts, or a refusal with a next step."""
    try:
        made = parse(" ".join(words))
    except BadRequest as refused:
        assert refused.advice
        return
    assert all(scene.prompt == scene.prompt.strip() != "" for scene in made.scenes)
