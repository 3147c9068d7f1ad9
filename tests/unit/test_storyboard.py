"""Storyboard files in three formats, and errors with line and column."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import BadRequest
from orchestrator.model import SceneText
from orchestrator.prompting import storyboard

DATA = Path(__file__).parents[1] / "data"
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
        (b"prompt,,seconds\na,x,2\n", "a.csv", (2, 2), "no name in the header"),
        (b"prompt,seconds,prompt\na,2,b\n", "a.csv", (1, 3), "the column prompt is there twice"),
        (b"sep=;\nprompt;seconds\na;x\n", "a.csv", (3, 2), "no number"),
        (b"sep=;\n", "a.csv", (2, 1), "no column prompt"),
        (b"prompt,seconds\n,2\n", "a.csv", (2, 1), "the prompt is empty"),
        (b"prompt;seconds\na;1.234,5\n", "a.csv", (2, 2), "no number"),
        (b"prompt,seconds\na,1_5\n", "a.csv", (2, 2), "no number"),
        (b"prompt\ncaf\xe9\n", "a.csv", (2, 4), "UTF-8"),
        ("prompt\na".encode("utf-16-be"), "a.csv", (1, 1), "UTF-16"),
        (b'{"a": 1, "a": 2, "scenes": ["b"]}', "a.json", (1, 10), "'a' is there twice"),
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


DOG = SceneText(prompt="a dog runs", seconds=1.5)


@pytest.mark.parametrize(
    ("file", "scenes"),
    [
        ("semicolon_decimal_comma.csv", [DOG, SceneText(prompt="a cat sleeps", seconds=2)]),
        ("sep_line.csv", [DOG]),
        (
            "trailing_empty_cols.csv",
            [
                SceneText(prompt="a dog runs", seconds=1),
                SceneText(prompt="a cat sleeps", seconds=2),
            ],
        ),
        (
            "space_after_comma_quote.csv",
            [SceneText(prompt="a dog runs, fast", seconds=1), SceneText(prompt="a cat", seconds=2)],
        ),
    ],
)
def test_csv_is_read_as_spreadsheets_write_it(file: str, scenes: list[SceneText]) -> None:
    """Decimal commas, a `sep=` line, empty columns and blanks around quotes change nothing."""
    assert storyboard.load((DATA / file).read_bytes(), file) == tuple(scenes)


@pytest.mark.parametrize(
    "text",
    [
        'sep=,\nprompt,seconds\na dog runs,"1,5"\n',
        '"sep=\t"\r\nprompt\tseconds\r\na dog runs\t1,5\r\n',
        "SEP=|\nprompt|seconds\na dog runs|1.5\n",
        "sep=;;;\nprompt;;seconds;\na dog runs;;1,5;\n;;;\n",
        'prompt , seconds\n "a dog runs" , "1.5" \n',
        "prompt,seconds,negative_prompt\na dog runs,1.5\n",
        "prompt,seconds\ra dog runs,1.50\r",
        "\ufeffprompt;seconds;;;\na dog runs;,15e1;;\n",
    ],
)
def test_csv_may_be_written_in_many_ways(text: str) -> None:
    """Other separators, short rows, old line ends and columns without a name say the same."""
    assert storyboard.load(text.encode(), "board.csv") == (DOG,)


def test_blanks_around_quotes_leave_what_is_quoted() -> None:
    """Blanks go beside a cell's quotes, and none inside them."""
    [scene] = storyboard.load(b'prompt,seconds\n"a ""b"" , c" , 2\n', "a.csv")
    assert scene == SceneText(prompt='a "b" , c', seconds=2)


@pytest.mark.parametrize("end", [".csv", ".txt"])
def test_what_is_not_utf_8_says_how_to_save_it(end: str) -> None:
    """UTF-16 and a Windows code page name the menu entries that write UTF-8."""
    for data in ((DATA / "utf16_excel.txt.csv").read_bytes(), "prompt\ncafé\n".encode("latin-1")):
        with pytest.raises(BadRequest, match="UTF-") as refused:
            storyboard.load(data, f"board{end}")
        [helps] = refused.value.remedies
        assert "CSV UTF-8" in str(helps)
