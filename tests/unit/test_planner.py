"""Plans: limits, lengths, seeds, batches, frames and JSON."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from orchestrator.catalog import FAKE, CostPrior, ModelCard
from orchestrator.errors import BadRequest
from orchestrator.model import (
    Brief,
    Cast,
    FrameBatch,
    RenderPlan,
    Scene,
    SceneText,
    Screenplay,
    Size,
)
from orchestrator.planning import planner, variants
from orchestrator.planning.motion import PATHS, layout
from orchestrator.planning.plan_json import digest_of
from orchestrator.prompting import parser
from orchestrator.receipt import Receipt
from orchestrator.states import OnExhausted, Outcome
from orchestrator.wire import CompleteRequest, ParseWork
from tests.unit.words import LAYOUT, VOCABULARY


def plan(
    text: str = "a dog", card: ModelCard = FAKE, *, seed: int = 7, **asked: object
) -> RenderPlan:
    """Return the plan of a prompt, with fields of the request."""
    brief = Brief(prompt=text, **asked)  # type: ignore[arg-type]
    return planner.plan(brief, parse(text, card), card, seed=seed)


def parse(text: str, card: ModelCard) -> Screenplay:
    """Return the screenplay that the card's model understands."""
    return parser.parse(text, vocabulary=card.vocabulary)


def test_defaults_come_from_the_card() -> None:
    """A bare prompt gets the model's own size, rate, steps and length."""
    made = plan()
    assert (made.native, made.output, made.fps, made.steps) == (FAKE.native, FAKE.output, 12, 4)
    assert made.frames_total == 24


def test_the_brief_wins_over_the_words() -> None:
    """A field of the request is stronger than the prompt's own words."""
    made = plan("a dog, 4 seconds, 24 fps, 640x360", fps=10, seconds=1.0)
    assert (made.fps, made.frames_total, str(made.output)) == (10, 10, "640x360")


@pytest.mark.parametrize(
    ("asked", "next_step"),
    [
        ({"size": Size(width=641, height=480)}, "640x480"),
        ({"size": Size(width=8, height=8)}, "16 to 4096"),
        ({"size": Size(width=10**6, height=64)}, "16 to 4096"),
        ({"fps": 0}, "1 to 60"),
        ({"fps": 61}, "1 to 60"),
        ({"steps": -1}, "1 to 1000"),
        ({"steps": 0}, "1 to 1000"),
        ({"seconds": 0.0}, "at most 600 seconds"),
        ({"seconds": -2.0}, "at most 600 seconds"),
        ({"seconds": float("nan")}, "at most 600 seconds"),
        ({"seconds": 1e9}, "at most 600 seconds"),
        ({"seconds": 600.0, "fps": 60}, "at most 120 seconds"),
        ({"seed": -1}, "0 to 2147483647"),
    ],
)
def test_wishes_beyond_the_limits_name_the_limits(asked: dict[str, object], next_step: str) -> None:
    """A video that cannot be made is refused with what can."""
    with pytest.raises(BadRequest) as refused:
        plan(**asked)  # type: ignore[arg-type]
    assert next_step in refused.value.next


@pytest.mark.parametrize(
    ("text", "asked", "counts"),
    [
        ("[1s] a dog [2s] a cat", None, [12, 24]),
        ("a dog [1s], then a cat", None, [12, 24]),
        ("[1s] a dog [2s] a cat", 6.0, [24, 48]),
        ("a dog for 1 second, then a cat, then a bird", 5.0, [12, 24, 24]),
        ("a 1 second clip of a dog", None, [12]),
        ("a dog", 0.01, [1]),
        ("a dog, then a cat, then a bird", 0.1, [1, 1, 1]),
    ],
)
def test_shots_share_the_length(text: str, asked: float | None, counts: list[int]) -> None:
    """Shots with a length keep it, others share the rest, and every shot has a frame."""
    assert [shot.frames for shot in plan(text, seconds=asked).shots] == counts


def test_shots_that_say_no_length_shrink_to_fit_the_model() -> None:
    """Ten default shots of a model that makes five seconds are half a second each."""
    card = replace(FAKE, max_seconds=5.0)
    text = ", then ".join(["a dog"] * 10)
    assert {shot.frames for shot in plan(text, card).shots} == {6}


def test_seeds_follow_from_the_job() -> None:
    """The seed of a shot is a documented hash: equal jobs equal seeds, other shots others."""
    shots = plan("a dog, then a cat", seed=7).shots
    assert [shot.seed for shot in shots] == [planner.shot_seed(7, 0), planner.shot_seed(7, 1)]
    assert planner.shot_seed(0, 0) == 0x5513E3EA  # of sha256(b'0/0')
    assert len({planner.shot_seed(s, i) for s in range(20) for i in range(20)}) == 400


def test_pictures_keep_the_shape_of_the_video() -> None:
    """A model without layout paints the asked shape, with no more pixels than its own size."""
    card = replace(FAKE, native=Size(width=512, height=512), size_multiple=64)
    made = plan("a dog", card, size=Size(width=1280, height=720))
    assert str(made.native) == "640x384"
    assert made.native.megapixels <= card.native.megapixels
    assert str(plan("a dog", LAYOUT, size=Size(width=1280, height=720)).native) == "256x256"


@given(frames=st.integers(1, 7200), steps=st.integers(1, 50), ms=st.floats(0.01, 1e5))
def test_batches_cover_every_frame_once(frames: int, steps: int, ms: float) -> None:
    """Batches are whole micro-batches, about a second or more, and the frames exactly."""
    prior = CostPrior(ms_per_frame_step_megapixel=ms, decode_ms_per_frame=0, startup_ms=0)
    card = replace(FAKE, priors={"cpu": prior})
    made = plan(card=card, seconds=frames / 12, steps=steps)
    assert sum(batch.frames for batch in made.batches) == frames
    assert [b.first_frame for b in made.batches] == [
        i * made.batches[0].frames for i in range(len(made.batches))
    ]
    cost = ms * steps * card.native.megapixels
    for batch in made.batches[:-1]:
        assert batch.frames % card.micro_batch == 0
        assert batch.frames * cost >= 999.999
        assert (batch.frames - card.micro_batch) * cost < 1000


@given(frames=st.integers(1, 2000))
def test_a_job_that_may_be_cut_off_has_its_key_frames_first(frames: int) -> None:
    """Each pass covers the whole story, and together they have every frame once."""
    made = plan(seconds=frames / 12, on_exhausted=OnExhausted.FINISH)
    indices = [index for batch in made.batches for index in batch.indices]
    assert sorted(indices) == list(range(frames))
    keys = -(-frames // 4)
    assert indices[:keys] == list(range(0, frames, 4))
    assert indices[keys : -(-frames // 2)] == list(range(2, frames, 4))


def test_frames_may_lie_apart() -> None:
    """Every fourth frame is what it is in the whole video."""
    made = plan(seconds=2.0)
    whole = planner.frames(made, 0, 24, FAKE)
    assert planner.frames(made, 2, 6, FAKE, 4) == whole[2::4]
    with pytest.raises(BadRequest, match="not in a plan"):
        planner.frames(made, 2, 7, FAKE, 4)


SCENES = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "a dog runs",
                "a cat and a dog run to the right",
                "a rocket rises, camera pans left",
                "a dog turns into a cat",
                "a bird in the sky, zoom in",
            ]
        ),
        st.one_of(st.none(), st.floats(0.05, 3.0)),
    ),
    min_size=1,
    max_size=5,
)


@given(scenes=SCENES, layout=st.booleans(), data=st.data())
def test_any_range_of_frames_is_the_slice_of_the_whole(
    scenes: list[tuple[str, float | None]], layout: bool, data: st.DataObject
) -> None:
    """Frames do not depend on how they are asked for."""
    card = LAYOUT if layout else FAKE
    texts = tuple(SceneText(prompt=text, seconds=seconds) for text, seconds in scenes)
    screenplay = parser.parse("", vocabulary=card.vocabulary, scenes=texts)
    made = planner.plan(Brief(prompt="", scenes=texts), screenplay, card, seed=1)
    whole = planner.frames(made, 0, made.frames_total, card)
    first = data.draw(st.integers(0, made.frames_total))
    count = data.draw(st.integers(0, made.frames_total - first))
    assert planner.frames(made, first, count, card) == whole[first : first + count]
    assert [frame.index for frame in whole] == list(range(made.frames_total))
    for shot in made.shots:
        mine = whole[shot.first_frame : shot.first_frame + shot.frames]
        assert {frame.seed for frame in mine} == {shot.seed}
        assert mine[0].phase == 0.0
        assert mine[-1].phase == (1.0 if shot.frames > 1 else 0.0)


def test_frames_outside_the_plan_are_refused() -> None:
    """There is no frame after the last one."""
    with pytest.raises(BadRequest):
        planner.frames(plan(), 20, 5, FAKE)


def test_a_prompt_that_becomes_another_is_blended() -> None:
    """ "Turns into" is a schedule from one prompt to the other; a cut is none."""
    frames = planner.frames(plan("a dog turns into a cat, then a bird"), 0, 48, FAKE)
    assert (frames[0].prompt, frames[0].prompt_to, frames[0].blend) == ("a dog", "a cat", 0.0)
    assert frames[23].blend == 1.0
    assert [f.blend for f in frames[:24]] == sorted(f.blend for f in frames[:24])
    assert (frames[24].prompt, frames[24].prompt_to) == ("a bird", "")


def test_a_layout_frame_says_what_it_shows() -> None:
    """The caption of a frame is made of the vocabulary's own words."""
    made = plan("a puppy and a kitten run through the starry night", LAYOUT)
    (frame,) = planner.frames(made, 3, 1, LAYOUT)
    assert frame.prompt == "a dog and a cat, night"
    assert [place.subject for place in frame.layout] == ["dog", "cat"]


SMALLER = replace(FAKE, default_steps=20, min_steps=6, most_upscale=2)


@pytest.mark.parametrize(
    "text", ["a dog", "[1s] a dog [2s] a cat", "a dog at 60 fps for 20 seconds"]
)
def test_what_may_give_is_a_plan_each_and_named_by_what_it_changes(text: str) -> None:
    """In the order in which people mind; each can be planned by itself and says what is less."""
    brief = Brief(prompt=text, size=Size(width=256, height=256))
    made = planner.plan(brief, parse(text, SMALLER), SMALLER, seed=1)
    whole = variants.written_out(brief, made)
    found = list(variants.gives(made, SMALLER))
    assert [each.change for each in found] == sorted(each.change for each in found)
    assert {each.change for each in found} == set(variants.Change) - {variants.Change.MODEL}
    for each in found:
        other = planner.plan(each.of(whole), parse(text, SMALLER), SMALLER, seed=1)
        assert variants.label(made, other, None)
    assert variants.label(made, made, None) == ""


def test_there_is_nothing_less_than_one_step_of_one_frame() -> None:
    """The smallest plan has nothing to give."""
    made = plan(seconds=0.05, steps=1, fps=1, size=Size(width=16, height=16))
    assert list(variants.gives(made, FAKE)) == []


def test_interpolated_frames_are_painted_less_often_and_as_long() -> None:
    """Half the frames at half the rate: the video has the rate and the length that were asked."""
    whole, half = plan(seconds=2.0), plan(seconds=2.0, interpolate=2)
    assert (whole.frames_total, half.frames_total) == (24, 12)
    assert (half.fps, half.painted_fps, half.seconds) == (12, 6, whole.seconds)
    assert half.frames_total + half.made_frames == whole.frames_total
    assert any("6 frames a second" in note for note in half.notes)


@pytest.mark.parametrize(
    ("interpolate", "words"), [(5, "between two painted"), (4, "every 4 frames")]
)
def test_a_rate_that_cannot_be_painted_is_refused(interpolate: int, words: str) -> None:
    """Too far apart, or at no whole rate: the refusal names what can be had."""
    with pytest.raises(BadRequest, match=words) as refused:
        plan(fps=10, interpolate=interpolate)
    assert "1" in refused.value.next


def test_a_smaller_painting_is_shown_as_large() -> None:
    """Sides half as long, on the model's grid; the output is what was asked."""
    made = plan(card=SMALLER, upscale=2, size=Size(width=128, height=96))
    assert made.output == Size(width=128, height=96)
    assert made.native.megapixels <= FAKE.native.megapixels / 4
    assert plan(card=SMALLER, upscale=2).native == Size(width=32, height=32)
    layout = replace(LAYOUT, most_upscale=2)
    wide = plan(card=layout, upscale=2, size=Size(width=128, height=64)).native
    assert (wide.width * 2, wide.height * 2) == (layout.native.width, layout.native.height)


def test_only_a_model_whose_card_says_so_paints_smaller() -> None:
    """Nobody has measured what others make of it."""
    with pytest.raises(BadRequest, match="2 times shorter"):
        plan(upscale=2)
    with pytest.raises(BadRequest, match="3 times shorter"):
        plan(card=SMALLER, upscale=3)


def report(made: RenderPlan) -> CompleteRequest:
    """Return what a worker says of its plan."""
    receipt = Receipt(gpu_ms=1)
    return CompleteRequest(
        lease_id="l", fence=1, outcome=Outcome.DONE, receipt=receipt, render_plan=made
    )


@given(scenes=SCENES, seed=st.integers(0, 2**31 - 1))
def test_plans_survive_json(scenes: list[tuple[str, float | None]], seed: int) -> None:
    """A plan that was sent comes back equal, with the same digest, and is sent the same again."""
    texts = tuple(SceneText(prompt=text, seconds=seconds) for text, seconds in scenes)
    brief = Brief(prompt="title", scenes=texts, size=Size(width=64, height=64), seed=seed)
    screenplay = parser.parse("title", vocabulary=VOCABULARY, scenes=texts)
    made = planner.plan(brief, screenplay, LAYOUT, seed=seed)
    sent = report(made).model_dump_json()
    got = CompleteRequest.model_validate_json(sent)
    assert got.model_dump_json() == sent
    assert got.render_plan == made
    assert digest_of(got.render_plan) == digest_of(made)
    work = ParseWork(brief=brief, seed=seed)
    assert ParseWork.model_validate_json(work.model_dump_json()) == work


@pytest.mark.parametrize("change", [{"steps": "four"}, {"extra": 1}, {"native": {"width": 64}}])
def test_what_is_no_plan_is_refused(change: dict[str, object]) -> None:
    """A plan from outside has all fields of a plan, of their types, and no others."""
    facts = json.loads(report(plan()).model_dump_json())
    facts["render_plan"] |= change
    with pytest.raises(ValidationError, match=next(iter(change))):
        CompleteRequest.model_validate_json(json.dumps(facts))


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 5},
        {"shots": ()},
        {"batches": (FrameBatch(first_frame=0, frames=23),)},
        {"guidance_scale": float("nan")},
        {"native": Size(width=0, height=64)},
    ],
)
def test_another_plan_has_another_digest(change: dict[str, object]) -> None:
    """The farm takes no plan from a worker but the one it quoted: any other shows."""
    assert digest_of(replace(plan(), **change)) != digest_of(plan())


@pytest.mark.parametrize("motion", sorted(PATHS))
def test_paths_are_smooth_and_stay_in_the_picture(motion: str) -> None:
    """Between two frames of a 12 fps shot a subject moves, turns and grows a little at most."""
    points = [PATHS[motion](n / 23, 2.0) for n in range(24)]
    for point in points:
        assert 0.05 <= point.x <= 0.95
        assert 0.05 <= point.y <= 0.95
        assert 0.4 <= point.scale <= 1.7
    for a, b in pairwise(points):
        assert abs(a.x - b.x) < 0.12
        assert abs(a.y - b.y) < 0.25
        assert abs(a.turn - b.turn) < 25
        assert abs(a.scale - b.scale) < 0.12
    assert any(a != b for a, b in pairwise(points))


@pytest.mark.parametrize("phase", [n / 11 for n in range(12)])
def test_two_subjects_never_overlap(phase: float) -> None:
    """Whatever two subjects do, their pictures (44 % of the height at scale 1) stay apart."""
    for one in PATHS:
        for other in PATHS:
            cast = (Cast(subject="dog", motion=one), Cast(subject="cat", motion=other))
            a, b = layout(Scene(prompt="", cast=cast), phase, 2.0)
            gap = max(abs(a.x - b.x), abs(a.y - b.y))
            assert gap >= 0.44 * (a.scale + b.scale) / 2, (one, other)


def test_a_camera_moves_the_picture_against_itself() -> None:
    """Panning left shows the subject further right; zooming in makes it larger."""
    start, end = (
        {
            camera: layout(Scene(prompt="", cast=(Cast(subject="dog"),), camera=camera), phase, 2)[
                0
            ]
            for camera in ("pan_left", "tilt_up", "zoom_in", "zoom_out")
        }
        for phase in (0.0, 1.0)
    )
    assert end["pan_left"].x > start["pan_left"].x
    assert end["tilt_up"].y > start["tilt_up"].y
    assert end["zoom_in"].scale > start["zoom_in"].scale
    assert end["zoom_out"].scale < start["zoom_out"].scale


def test_one_subject_becomes_the_other_in_the_middle() -> None:
    """Only one of the two is seen at a time, smallest where they change."""
    scene = parse("a dog turns into a cat", LAYOUT).scenes[0]
    seen = [layout(scene, n / 10, 2.0) for n in range(11)]
    assert [place.subject for (place,) in seen] == ["dog"] * 6 + ["cat"] * 5
    assert min(place.scale for (place,) in seen) == seen[5][0].scale


@pytest.mark.parametrize("card", [FAKE, LAYOUT])
def test_an_image_is_refused_before_anything_starts_by_a_model_that_takes_none(
    card: ModelCard,
) -> None:
    """The refusal names the model and what to do; a card with a strength takes the image."""
    brief = Brief(prompt="a dog", image="inputs/0/input.png")
    screenplay = parse(brief.prompt, card)
    with pytest.raises(BadRequest, match=f"{card.id} takes no reference image") as refused:
        planner.plan(brief, screenplay, card, seed=1)
    assert "Leave the image out" in refused.value.next
    taken = planner.plan(brief, screenplay, replace(card, image_strength=1.0), seed=1)
    assert any("image is the setting" in note for note in taken.notes) == card.uses_layout
