"""Prompts: shots, instructions, casts, and what is refused."""

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import BadRequest
from orchestrator.model import Cast, SceneText, Screenplay, Size, Vocabulary
from orchestrator.prompting import parser
from tests.unit.words import VOCABULARY

NOTHING = Vocabulary()


def parse(text: str, vocabulary: Vocabulary = NOTHING) -> Screenplay:
    """Return the screenplay of a text."""
    return parser.parse(text, vocabulary=vocabulary)


def shots(text: str) -> list[tuple[str, float | None]]:
    """Return description and length of each shot."""
    return [(scene.prompt, scene.seconds) for scene in parse(text).scenes]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a dog runs, then a cat sits", [("a dog runs", None), ("a cat sits", None)]),
        ("a dog runs and then a cat sits", [("a dog runs", None), ("a cat sits", None)]),
        ("A dog runs. Cut to a cat", [("A dog runs", None), ("a cat", None)]),
        ("a dog, then cut to: a cat", [("a dog", None), ("a cat", None)]),
        ("[3s] a dog [2.5s] a cat", [("a dog", 3.0), ("a cat", 2.5)]),
        ("a dog [3s] a cat [2s]", [("a dog", 3.0), ("a cat", 2.0)]),
        ("1. a dog\n2. a cat\n   on a mat", [("a dog", None), ("a cat on a mat", None)]),
        ("- a dog for 3 seconds\n- a cat", [("a dog", 3.0), ("a cat", None)]),
        ("My film:\n* a dog\n* a cat", [("a dog", None), ("a cat", None)]),
        ("1) a dog 2) a cat", [("a dog", None), ("a cat", None)]),
        ("Scene 1: a dog. Scene 2: a cat", [("a dog", None), ("a cat", None)]),
        ("كلب يجري، ثم قطة تنام", [("كلب يجري", None), ("قطة تنام", None)]),
        ("一只狗，然后一只猫", [("一只狗", None), ("一只猫", None)]),
        ("a dog and a cat", [("a dog and a cat", None)]),
        ("a dog runs then sits", [("a dog runs", None), ("sits", None)]),
        ("a dog barks now and then", [("a dog barks now and then", None)]),
        ("Please make me a short video of a dog", [("a dog", None)]),
        ("a dog, then zoom in", [("a dog", None), ("a dog", None)]),
    ],
)
def test_shots_are_cut_where_the_words_say_so(
    text: str, expected: list[tuple[str, float | None]]
) -> None:
    """Lists, marks, "then" and "cut to" make shots; commas and "and" do not."""
    assert shots(text) == expected


@pytest.mark.parametrize(
    ("text", "description", "field", "value"),
    [
        ("a 5 second clip of a dog", "a dog", "seconds", 5.0),
        ("a two-minute video of a dog", "a dog", "seconds", 120.0),
        ("a dog at 24 fps", "a dog", "fps", 24),
        ("a dog, 12 frames per second", "a dog", "fps", 12),
        ("a dog, seed 7", "a dog", "seed", 7),
        ("a dog, seed: 0", "a dog", "seed", 0),
        ("a dog 1280x720", "a dog", "size", Size(width=1280, height=720)),
        ("a dog in 4K resolution", "a dog", "size", Size(width=3840, height=2160)),
        ("a dog, 9:16", "a dog", "size", Size(width=720, height=1280)),
        ("a dog, square", "a dog", "size", Size(width=720, height=720)),
        ("a portrait video of a dog", "a dog", "size", Size(width=720, height=1280)),
        ("a portrait of a dog", "a portrait of a dog", "size", None),
        ("a dog on the town square at noon", "a dog on the town square at noon", "size", None),
        ("a car of the 80s", "a car of the 80s", "seconds", None),
        ("seedlings in 3 pots", "seedlings in 3 pots", "seed", None),
    ],
)
def test_instructions_leave_the_description(
    text: str, description: str, field: str, value: object
) -> None:
    """An instruction is read and taken out; a word that only looks like one stays."""
    screenplay = parse(text)
    assert screenplay.scenes[0].prompt == description
    assert getattr(screenplay, field) == value


@pytest.mark.parametrize(
    ("text", "camera"),
    [
        ("camera pans left over a beach", "pan_left"),
        ("a dog, slowly panning to the right", "pan_right"),
        ("the camera tilts up at a tree", "tilt_up"),
        ("zoom in on a dog", "zoom_in"),
        ("a dog, zooming out", "zoom_out"),
        ("a dog, the camera moves closer", "zoom_in"),
        ("a dog runs to the left", None),
    ],
)
def test_a_camera_is_moved_by_its_words(text: str, camera: str | None) -> None:
    """Camera words set the camera; a subject's own way does not."""
    assert parse(text).scenes[0].camera == camera


@pytest.mark.parametrize(
    ("text", "description", "negative"),
    [
        ("a dog without a leash", "a dog", "a leash"),
        ("a dog without a hat runs", "a dog runs", "a hat"),
        ("a street, no people, no text", "a street", "people, text"),
        ("a street with no people in the background", "a street", "people in the background"),
        ("a dog without a leash on the beach", "a dog on the beach", "a leash"),
        ("there is no dog", "there is no dog", ""),
    ],
)
def test_negatives_go_where_they_belong(text: str, description: str, negative: str) -> None:
    """Words after "without" or "no" are the negative prompt, up to the end of its clause."""
    scene = parse(text).scenes[0]
    assert (scene.prompt, scene.negative_prompt) == (description, negative)


@pytest.mark.parametrize(
    ("text", "understood"),
    [
        ("a rocket rises through a starry night sky", "rocket · rises · night"),
        ("rising rocket in space", "rocket · rises · space"),
        ("a rocket ship in the sky", "rocket · rises · sky"),
        ("a cat and a dog run to the right in the grass", "cat and dog · moves right · meadow"),
        ("puppies jump on the beach", "dog · bounces · beach"),
        ("a dog runs to the left on the beach", "dog · moves left · beach"),
        ("a dog runs and a rocket rises in the sky", "dog · moves right · rocket · rises · sky"),
        ("🚀 floating in the clouds", "rocket · floats · sky"),
        ("a dog turns into a cat on the beach", "dog becomes cat · moves right · beach"),
        ("a rocket rises. The rocket spins in space", "rocket · rises · space"),
        ("a dog running left on the beach", "dog · moves left · beach"),
        ("a dog moves leftwards on the beach", "dog · moves left · beach"),
        ("a dog comes from the left on the beach", "dog · moves right · beach"),
        ("a dog jumps on the left of the beach", "dog · bounces · beach"),
        ("two kittens jump on the beach", "two cats · bounces · beach"),
        ("a pair of small dogs and a cat jump on the beach", "dog and cat · bounces · beach"),
        ("a robot walks towards the camera in the grass", "robot · moves right · meadow"),
        ("a bird floats over the dark grass", "bird · floats · meadow"),
        ("a balloom floats by a pond", "balloon · floats · beach"),
        ("a pupppy jumps in the milky way", "dog · bounces · space"),
    ],
)
def test_phrases_become_a_cast(text: str, understood: str) -> None:
    """Phrases are matched longest first, plurals and word order included."""
    assert parse(text, VOCABULARY).scenes[0].understood == understood


def test_a_later_shot_keeps_what_it_does_not_say() -> None:
    """ "It" is the subject of the shot before, in the same place."""
    second = parse("a dog runs on the beach, then it jumps", VOCABULARY).scenes[1]
    assert second.cast == (Cast(subject="dog", motion="bounces"),)
    assert second.setting == "beach"


def test_what_is_not_understood_is_said() -> None:
    """Nothing is chosen silently: stand-ins, defaults, left-outs and unknown words are noted."""
    notes = " ".join(parse("a wizard with a sword", VOCABULARY).notes)
    for part in ("'wizard'", "a robot is shown", "No motion", "No setting", "sword"):
        assert part in notes
    assert "left out: bird" in " ".join(parse("a dog, a cat and a bird", VOCABULARY).notes)
    assert "two subjects" not in " ".join(parse("a dog and a cat", VOCABULARY).notes)
    assert "two subjects: one cat and one cat" in " ".join(parse("six cats", VOCABULARY).notes)
    assert "no way to the left" in " ".join(parse("a dog jumps to the left", VOCABULARY).notes)
    assert "model: bear" in " ".join(parse("a dog turns into a bear", VOCABULARY).notes)
    assert "read as balloon" in " ".join(parse("a ballon floats", VOCABULARY).notes)
    assert "picture in this model: wizard" in " ".join(
        parse("a wizard and a dog", VOCABULARY).notes
    )


def test_without_a_vocabulary_nothing_is_said_about_one() -> None:
    """A model that takes any words gets them as they are."""
    screenplay = parse("a wizard in a forest")
    assert (screenplay.scenes[0].cast, screenplay.notes) == ((), ())


def test_a_storyboard_makes_the_shots() -> None:
    """Scenes of a storyboard are shots as they stand; the prompt is their style."""
    screenplay = parser.parse(
        "watercolour, 24 fps",
        vocabulary=NOTHING,
        scenes=(
            SceneText(prompt="a dog, then a cat", seconds=2.0),
            SceneText(prompt="a bird", negative_prompt="text"),
        ),
    )
    assert [s.prompt for s in screenplay.scenes] == [
        "a dog, then a cat, watercolour",
        "a bird, watercolour",
    ]
    assert (screenplay.fps, screenplay.scenes[1].negative_prompt) == (24, "text")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        (" \n\t ", "empty"),
        ("a\x00b", "U+0000"),
        ("\x7fELF\x02", "U+007F"),
        ("…!?", "no words"),
        ("x" * 10_001, "10001 characters"),
        ("a dog for 0 seconds", "length of 0 seconds"),
        ("a dog for -3 seconds", "length of -3 seconds"),
        ("a dog for 1000000000 seconds", "length of 1000000000 seconds"),
        ("[0s] a dog", "length of 0 s"),
        ("a dog at 0 fps", "0 frames per second"),
        ("a dog, seed 99999999999", "99999999999 as its seed"),
        ("at 24 fps, 3 seconds", "nothing to show"),
        ("\n".join(f"- shot of dog {n}" for n in range(65)), "65 shots"),
    ],
)
def test_absurd_prompts_are_refused_with_a_way_on(text: str, says: str) -> None:
    """A prompt that cannot be a video is refused by a sentence and a next step."""
    with pytest.raises(BadRequest) as refused:
        parse(text)
    assert says in refused.value.message
    assert refused.value.advice.strip()


@pytest.mark.parametrize(
    "unit",
    ["1", "no ", "1x", "camera ", "[1", ", then ", "slowly ", "🚀", "without a ", ",", "1.", "dog ",
     "seed ", "for 1 ", "zoom ", "and ", "a\n", "dog and ", "becomes ", "1 second ",
     "x" * 50 + "ly ", "1080p ", "9:16, ", "in 4k ", "0:00 ", "0:00-0:01 ", "\n0:00-0:01 ",
     "Seed: 1, ", "Steps: 1, Aa: ", "negative prompt: ", "--ar 1:1 ", "--no a ", "640x640 and "],
)  # fmt: skip
def test_ten_thousand_characters_take_no_time(unit: str) -> None:
    """Reading is linear: the worst 10,000 characters take some 100 ms of CPU, on a crowded machine
    too far less than the minutes of a pattern that backtracks."""
    text = (unit * 10_000)[:9_999] + "a"
    began = time.process_time()
    with contextlib.suppress(BadRequest):
        parse(text, VOCABULARY)
    assert time.process_time() - began < 5


@given(st.text(max_size=300))
def test_any_text_is_understood_or_refused(text: str) -> None:
    """Whatever is written, the answer is a screenplay with prompts, or a BadRequest; always."""
    try:
        screenplay = parse(text, VOCABULARY)
    except BadRequest as refused:
        assert refused.message
    else:
        assert screenplay.scenes
        assert all(scene.prompt and "\x00" not in scene.prompt for scene in screenplay.scenes)
        assert all(len(scene.cast) in (1, 2) for scene in screenplay.scenes)
        assert screenplay == parse(text, VOCABULARY)


@given(
    st.lists(
        st.sampled_from(
            ["a", "dog", ",", "\n-", "then", "cut to", "[3s]", "no", "seed 7", "24 fps", "zoom in"]
        ),
        min_size=1,
        max_size=40,
    )
)
def test_any_mix_of_instructions_is_understood_or_refused(words: list[str]) -> None:
    """Instructions in any order never break the parser."""
    try:
        screenplay = parse(" ".join(words), VOCABULARY)
    except BadRequest:
        return
    assert all(scene.prompt == scene.prompt.strip() != "" for scene in screenplay.scenes)
