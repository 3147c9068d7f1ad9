"""Storyboard files in three formats, and errors with line and column."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import BadRequest
from orchestrator.model import SceneText
from orchestrator.prompting import storyboard

SCENES = (
    SceneText(prompt="a dog, running 🚀", seconds=2.5, negative_prompt="text"),
    SceneText(prompt="a cat"),
)


@pytest.mark.parametrize("name", ["board", "board.of.scenes"])
@pytest.mark.parametrize(
    "text",
    [
        '[{"prompt": "a dog, running 🚀", "seconds": 2.5, "negative_prompt": "text"}, "a cat"]',
        '{"scenes": [{"prompt": "a dog, running \\ud83d\\ude80", "seconds": 2.5,\n'
        '\t"negative_prompt": "text"}, {"prompt": "a cat", "seconds": null}]}',
        "scenes:\n- prompt: a dog, running 🚀\n  seconds: 2.5\n  negative_prompt: text\n- a cat\n",
        'prompt,seconds,negative_prompt\n"a dog, running 🚀",2.5,text\n\na cat,,\n',
        "\ufeffPrompt;Seconds;Negative_Prompt\r\na dog, running 🚀;2.5;text\r\na cat;;\r\n",
    ],
)
def test_every_format_says_the_same(text: str, name: str) -> None:
    """JSON, YAML and CSV are told apart by their content where the name says nothing."""
    assert storyboard.load(text.encode(), name) == SCENES


@pytest.mark.parametrize(
    ("text", "name", "place", "says"),
    [
        (b"", "a.json", (1, 1), "empty"),
        (b'[\n {"prompt": "a",}\n "b"]', "a.json", (3, 2), "expected"),
        (b'[{"prompt": "a"},\n {"seconds": 2}]', "a.json", (2, 2), "no prompt"),
        (b'[{"prompt": "a",\n  "secs": 2}]', "a.json", (2, 3), "'secs' is not one of"),
        (b'["a", 1, [2]]', "a.json", (1, 10), "a scene is a text"),
        (b'["a", ""]', "a.json", (1, 7), "empty"),
        (b"- prompt: a\n  seconds: soon\n", "a.yaml", (2, 12), "'soon', which is no number"),
        (b"- prompt: a\n  seconds: -1\n", "a.yaml", (2, 12), "more than 0"),
        (b"- prompt: a\n  prompt: b\n", "a.yaml", (2, 3), "twice"),
        (b"- &a [*a]\n", "a.yaml", (1, 7), "refers to itself"),
        (b"[" * 9000, "a.yaml", (1, 5), "nested too deeply"),
        (b"- a\n- b\x00", "a.yaml", (2, 4), "control characters"),
        (b"a dog", "a.txt", (1, 1), "list of scenes"),
        (b"[]", "a.json", (1, 1), "no scenes"),
        (b"prompt,length\na,2\n", "a.csv", (1, 2), "'length' is not one of"),
        (b"seconds\n2\n", "a.csv", (1, 1), "no column prompt"),
        (b'prompt,seconds\n"a\nb",2\nc,x\n', "a.csv", (4, 2), "no number"),
        (b"prompt,seconds\na,2,3\n", "a.csv", (2, 3), "3 cells"),
        (b'prompt\n"a\n', "a.csv", (2, 1), "unexpected end"),
        (b"prompt\n" + b"a\n" * 65, "a.csv", (66, 1), "more than 64"),
        (b"- a\n" * 65, "a.yml", (65, 3), "more than 64"),
        (b"- a\n- \xff\n", "a.yml", (2, 3), "UTF-8"),
        (b"x" * 1_000_001, "a.csv", (1, 1), "bytes"),
    ],
)
def test_a_fault_has_its_place(text: bytes, name: str, place: tuple[int, int], says: str) -> None:
    """The error says which line and column, in words and as data."""
    with pytest.raises(BadRequest) as refused:
        storyboard.load(text, name)
    assert (refused.value.data["line"], refused.value.data["column"]) == place
    assert says in refused.value.message
    assert f"line {place[0]}, column {place[1]}" in refused.value.message


@given(
    st.lists(
        st.builds(
            SceneText,
            prompt=st.text(
                st.characters(codec="utf-8", exclude_categories=("Cc", "Z")), min_size=1
            ),
            seconds=st.one_of(st.none(), st.floats(0.01, 3600)),
        ),
        min_size=1,
        max_size=10,
    )
)
def test_what_json_writes_is_read(scenes: list[SceneText]) -> None:
    """Any list of scenes survives JSON, escaped or not."""
    facts = [{"prompt": scene.prompt, "seconds": scene.seconds} for scene in scenes]
    assert storyboard.load(json.dumps(facts).encode(), "a.json") == tuple(scenes)


@given(st.binary(max_size=200), st.sampled_from(["a.json", "a.yaml", "a.csv", "a"]))
def test_any_bytes_are_read_or_refused(data: bytes, name: str) -> None:
    """No file breaks the reader."""
    try:
        assert storyboard.load(data, name)
    except BadRequest as refused:
        assert refused.data["line"] >= 1
