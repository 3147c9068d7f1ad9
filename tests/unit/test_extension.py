"""The plan of an extension: where the video before it ended, it begins."""

from dataclasses import replace

from orchestrator.model import Brief, Origin, RenderPlan
from orchestrator.money import pricing
from orchestrator.planning import planner, variants
from orchestrator.prompting import parser
from orchestrator.wire import ParseWork
from tests.unit.test_planner import plan
from tests.unit.words import LAYOUT


def after(source: RenderPlan, text: str) -> RenderPlan:
    """Return the plan of two more seconds behind a video."""
    lead = Origin(
        job_id="job_1", how="extension", frames=source.frames_total, last=source.shots[-1]
    )
    brief = Brief(prompt=text, seconds=2.0, origin=lead)
    assert (
        ParseWork.model_validate_json(ParseWork(brief=brief, seed=99).model_dump_json()).brief
        == brief
    )
    screenplay = parser.parse(text, vocabulary=LAYOUT.vocabulary, before=brief.before)
    return planner.plan(brief, screenplay, LAYOUT, seed=99)


def test_a_subject_begins_where_it_was() -> None:
    """The first new frame has the last one's place, and the last new frame its own path's."""
    source = plan("a dog runs on the beach", LAYOUT)
    longer = after(source, "the dog bounces")
    was = planner.frames(source, source.frames_total - 1, 1, LAYOUT)[0].layout
    begins, *_, ends = planner.frames(longer, 0, longer.frames_total, LAYOUT)
    assert begins.layout == was
    plain = replace(longer, lead=None)
    assert ends.layout == planner.frames(plain, longer.frames_total - 1, 1, LAYOUT)[0].layout
    assert begins.layout != planner.frames(plain, 0, 1, LAYOUT)[0].layout


def test_what_is_left_unsaid_stays() -> None:
    """Setting and subject are the last shot's where the new words name none; so is the noise."""
    source = plan("a cat sleeps in space. Then a dog runs on the beach", LAYOUT)
    longer = after(source, "it jumps")
    scene, last = longer.shots[0].scene, source.shots[-1]
    assert (scene.setting, scene.cast[0].subject) == ("beach", "dog")
    assert longer.shots[0].seed == last.seed
    named = after(source, "a robot spins in a meadow").shots[0].scene
    assert (named.setting, named.cast[0].subject) == ("meadow", "robot")


def test_joining_what_is_there_is_priced() -> None:
    """The encode unit decodes the whole video for its sheet, so it counts the whole video."""
    source = plan("a dog runs", LAYOUT)
    longer = after(source, "it jumps")
    work = pricing.work_of(pricing.UnitKind.ENCODE, longer, longer.frames_total)
    frames = source.frames_total + longer.frames_total
    assert work == frames * longer.output.megapixels


def test_alternatives_of_an_extension_keep_its_size() -> None:
    """A variant for a small budget must still be joined: fewer steps, fewer seconds, no less."""
    longer = after(plan("a dog runs", LAYOUT), "it jumps")
    whole = variants.written_out(Brief(prompt="it jumps"), longer)
    card = replace(LAYOUT, most_upscale=2)
    found = [each.of(whole) for each in variants.gives(longer, card)]
    assert {(each.size, each.fps, each.upscale) for each in found} == {
        (longer.output, longer.fps, 1)
    }
    assert {each.seconds for each in found} > {2.0, 1.0}
