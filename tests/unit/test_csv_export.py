"""CSV that no spreadsheet takes for a formula."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.csv_export import FORMULA, sheet

cells = st.none() | st.integers() | st.text(st.characters(exclude_characters="\x00\r"))


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "=HYPERLINK(0)", '=cmd|"/C calc"!A0']
)
def test_a_formula_is_text(text: str) -> None:
    """A cell that begins like a formula gets an apostrophe, in the header too."""
    head, row = csv.reader(io.StringIO(sheet([text], [[text]]), newline=""))
    assert head == row == [f"'{text}".replace("\r", "\n")]


def test_numbers_stay_numbers() -> None:
    """A loss is a negative number, which is no formula; nothing is an empty cell."""
    assert sheet(["a", "b", "c"], [[-5, -0.5, None]]) == "a,b,c\n-5,-0.5,\n"


@pytest.mark.parametrize("split", [";", "\t"])
@pytest.mark.parametrize(
    "text", ["a;=1+1", "a\t@SUM(A1)", "a\n=1+1", ';=cmd|"/C calc"!A0', "x;;-1"]
)
def test_a_sheet_that_splits_elsewhere_finds_no_formula(text: str, split: str) -> None:
    """Told to split at `;` or tabs, where quotes in mid-line are none, no cell is a formula."""
    for line in sheet(["a", "b"], [["1", text], [text, "1"]]).splitlines():
        assert not [cell for cell in line.split(split) if cell.lstrip('"').startswith(FORMULA)]


@given(rows=st.lists(st.lists(cells, min_size=2, max_size=2), max_size=5))
def test_no_cell_begins_like_a_formula(rows: list[list[object]]) -> None:
    """Whatever is written, every text that comes back is safe, and is what it was."""
    back = list(csv.reader(io.StringIO(sheet(["a", "b"], rows), newline="")))[1:]
    assert len(back) == len(rows)
    for written, read in zip(rows, back, strict=True):
        for value, cell in zip(written, read, strict=True):
            if isinstance(value, str):
                assert not cell.startswith(FORMULA)
                assert cell.replace("'", "") == value.replace("'", "")
            else:
                assert cell == ("" if value is None else str(value))
