"""Storyboard files: scenes as JSON, YAML or CSV, with line and column in every error.

JSON and YAML: a list of scenes, or a mapping with the key `scenes`; a scene is a text, or a
mapping of `prompt`, `seconds` and `negative_prompt`. CSV: a header row with those names
(`prompt` is required), one row per scene, as spreadsheets write it: separated by commas,
semicolons or tabs, with decimal commas and empty columns. The file's name decides; a name that
says nothing leaves it to the content. docs/prompts.md shows examples.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from math import isfinite
from pathlib import PurePath
from typing import Any, Final, NoReturn

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from orchestrator import safe_text
from orchestrator.errors import BadRequest
from orchestrator.model import SceneText
from orchestrator.remedies import Say

MAX_BYTES: Final = 1_000_000
MAX_SCENES: Final = 64
MAX_SECONDS: Final = 3600.0
MAX_DEPTH: Final = 4
"""Mappings and lists in one another: a storyboard needs three."""
FIELDS: Final = ("prompt", "seconds", "negative_prompt")
NEXT: Final = (
    "Mend that place; a scene has prompt, seconds and negative_prompt, see docs/prompts.md."
)
SAVE_AS: Final = (
    'Save it in UTF-8: "CSV UTF-8 (Comma delimited)" in Excel, "Unicode (UTF-8)" as the character '
    "set in LibreOffice; nothing was charged."
)
SEPARATORS: Final = ",;\t"
_UTF_16: Final = re.compile(rb"\xff\xfe|\xfe\xff|(?:[^\x00]\x00){2}|(?:\x00[^\x00]){2}")
_SEP_LINE: Final = re.compile(
    r'"?sep=(?P<separator>[^"\r\n])"?[ ;,\t]*(?:\r\n|\r|\n|$)', re.IGNORECASE
)
"""The first line that Excel writes and reads to say what separates cells."""
_NUMBER: Final = re.compile(
    r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:e[+-]?\d+)?", re.IGNORECASE | re.ASCII
)


def load(data: bytes, filename: str) -> tuple[SceneText, ...]:
    """Read the scenes of a storyboard file.

    Raises:
        BadRequest: the file cannot be understood; the message has its line and column.
    """
    name = safe_text.one_line(PurePath(filename).name[:80]) or "storyboard"
    if len(data) > MAX_BYTES:
        _refuse(name, 1, 1, f"it has {len(data)} bytes; {MAX_BYTES} is the most")
    if _UTF_16.match(data):  # without its mark it may be UTF-8 too: full of NULs
        _refuse(name, 1, 1, "it is UTF-16, which some spreadsheets call Unicode text", SAVE_AS)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        column = error.start - (before.rfind(b"\n") + 1) + 1
        _refuse(name, before.count(b"\n") + 1, column, "it is not text in UTF-8", SAVE_AS)
    if not text.strip():
        _refuse(name, 1, 1, "it is empty")
    scenes = tuple(_from_csv(text, name) if _is_csv(text, name) else _from_yaml(text, name))
    if not scenes:
        _refuse(name, 1, 1, "it has no scenes")
    return scenes


# --- CSV ----------------------------------------------------------------------------------


def _is_csv(text: str, name: str) -> bool:
    suffix = PurePath(name).suffix.lower()
    if suffix in (".csv", ".tsv"):
        return True
    if suffix in (".json", ".yaml", ".yml"):
        return False
    if _SEP_LINE.match(text):
        return True
    head = text.lstrip().splitlines()[0].lower().replace('"', "")
    names = [each.strip() for each in head.replace(";", ",").replace("\t", ",").split(",")]
    return "prompt" in names and set(names) <= {*FIELDS, ""}


def _from_csv(text: str, name: str) -> Iterator[SceneText]:
    """Yield the scenes of CSV rows; the header tells the separator, unless a `sep=` line does."""
    said = _SEP_LINE.match(text)
    first = 1 if said is None else 2
    text = text if said is None else text[said.end() :]
    head = (text.splitlines() or [""])[0]
    separator = said["separator"] if said else max(SEPARATORS, key=head.count)
    lines = io.StringIO(_quotes_close(text, separator), newline="")
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
    try:
        names = [each.strip().lower() for each in next(reader, [])]
        _check_header(names, name, first)
        start = reader.line_num + first
        for count, row in enumerate(reader):
            if any(cell.strip() for cell in row):
                cells = _cells(row, names, start, name)
                if count >= MAX_SCENES:
                    _refuse(name, start, 1, f"there are more than {MAX_SCENES} scenes")
                yield _csv_scene(cells, names, start, name)
            start = reader.line_num + first
    except csv.Error as error:
        _refuse(name, reader.line_num + first - 1, 1, str(error))


def _quotes_close(text: str, separator: str) -> str:
    """Return CSV without blanks between a closing quote and the separator, which csv refuses."""
    begin = re.escape(separator)
    quoted = rf'(?P<lead>(?:^|[{begin}\r\n]) *)(?P<cell>"(?:[^"]|"")*+") *(?=[{begin}\r\n]|$)'
    return re.sub(quoted, r"\g<lead>\g<cell>", text)


def _check_header(names: list[str], name: str, line: int) -> None:
    """Refuse a header with other names than a scene has; a column without one may be there."""
    for column, each in enumerate(names, start=1):
        if each and (each not in FIELDS or each in names[: column - 1]):
            fault = f"the column {each[:40]!r} is not one of {', '.join(FIELDS)}"
            fault = f"the column {each} is there twice" if each in FIELDS else fault
            _refuse(name, line, column, fault)
    if "prompt" not in names:
        _refuse(name, line, 1, "there is no column prompt")


def _cells(row: list[str], names: list[str], line: int, name: str) -> dict[str, str]:
    """Return a row's cells by name; spreadsheets leave empty ones out, or add more at its end."""
    for column, cell in enumerate(row, start=1):
        if cell.strip() and not (column <= len(names) and names[column - 1]):
            fault = f"it has {len(row)} cells, the header has {len(names)}"
            if column <= len(names):
                fault = "its column has no name in the header"
            _refuse(name, line, column, fault)
    return dict(zip(names, row, strict=False))


def _csv_scene(row: Mapping[str, str], names: list[str], line: int, name: str) -> SceneText:
    prompt = row.get("prompt", "").strip()
    if not prompt:
        _refuse(name, line, names.index("prompt") + 1, "the prompt is empty")
    seconds = row.get("seconds", "").strip()
    column = names.index("seconds") + 1 if seconds else 0
    return SceneText(
        prompt=prompt,
        seconds=_seconds(seconds, line, column, name) if seconds else None,
        negative_prompt=row.get("negative_prompt", "").strip(),
    )


# --- JSON and YAML ------------------------------------------------------------------------


def _from_yaml(text: str, name: str) -> Iterator[SceneText]:
    """Yield the scenes of a YAML document; JSON is YAML, and its nodes know their places."""
    root = _composed(text, name)
    if isinstance(root, MappingNode):
        _check_keys([key for key, _ in root.value], name)
        found = [value for key, value in root.value if _text(key, name) == "scenes"]
        if len(found) != 1:
            _refuse_at(root, name, "there must be one list named scenes")
        root = found[0]
    if not isinstance(root, SequenceNode):
        _refuse_at(root, name, "there must be a list of scenes")
    if len(root.value) > MAX_SCENES:
        _refuse_at(root.value[MAX_SCENES], name, f"there are more than {MAX_SCENES} scenes")
    for node in root.value:
        yield _yaml_scene(node, name)


def _check_keys(keys: list[Node], name: str) -> None:
    """Refuse a mapping that says one thing twice."""
    seen: set[str] = set()
    for key in keys:
        field = _text(key, name)
        if field in seen:
            _refuse_at(key, name, f"{field[:40]!r} is there twice")
        seen.add(field)


def _composed(text: str, name: str) -> Node:
    """Return the document's nodes; anchors and deep nesting are refused before they cost."""
    if text.lstrip()[:1] in ("[", "{"):
        text = text.replace("\t", " ")  # JSON may be indented by tabs, which YAML forbids
    depth = 0
    root: Node | None = None
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or depth > MAX_DEPTH:
                _refuse_at(event, name, "it refers to itself or is nested too deeply")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        _refuse(name, line, column, str(error.problem or error.context))
    except yaml.YAMLError as error:
        place = getattr(error, "position", 0) or 0
        line = text.count("\n", 0, place) + 1
        _refuse(name, line, place - text.rfind("\n", 0, place), "it has control characters")
    if root is None:
        _refuse(name, 1, 1, "it is empty")
    return root


def _yaml_scene(node: Node, name: str) -> SceneText:
    if isinstance(node, ScalarNode):
        return SceneText(prompt=_prompt(node, name))
    if not isinstance(node, MappingNode):
        _refuse_at(node, name, "a scene is a text, or has a prompt")
    found: dict[str, Node] = {}
    for key, value in node.value:
        field = _text(key, name)
        if field not in FIELDS:
            _refuse_at(key, name, f"{field[:40]!r} is not one of {', '.join(FIELDS)}")
        if field in found:
            _refuse_at(key, name, f"{field} is there twice")
        found[field] = value
    if "prompt" not in found:
        _refuse_at(node, name, "the scene has no prompt")
    return SceneText(
        prompt=_prompt(found["prompt"], name),
        seconds=_optional_seconds(found.get("seconds"), name),
        negative_prompt=_text(found["negative_prompt"], name) if "negative_prompt" in found else "",
    )


def _optional_seconds(node: Node | None, name: str) -> float | None:
    if node is None or node.tag.endswith(":null"):
        return None
    line, column = node.start_mark.line + 1, node.start_mark.column + 1
    return _seconds(_text(node, name), line, column, name)


def _prompt(node: Node, name: str) -> str:
    text = _text(node, name)
    if not text or node.tag.endswith(":null"):
        _refuse_at(node, name, "the prompt is empty")
    return text


def _text(node: Node, name: str) -> str:
    if not isinstance(node, ScalarNode):
        _refuse_at(node, name, "here must be a text or a number")
    if node.tag.endswith(":null"):
        return ""
    try:  # JSON writes an emoji as two escapes, which YAML leaves apart
        return str(node.value).encode("utf-16", "surrogatepass").decode("utf-16").strip()
    except UnicodeDecodeError:
        _refuse_at(node, name, "it has half a character (a lone surrogate)")


# --- both ---------------------------------------------------------------------------------


def _seconds(text: str, line: int, column: int, name: str) -> float:
    """Return a length; its comma is a decimal one."""
    if not _NUMBER.fullmatch(text):
        _refuse(name, line, column, f"seconds is {text[:40]!r}, which is no number")
    seconds = float(text.replace(",", "."))
    if not (isfinite(seconds) and 0 < seconds <= MAX_SECONDS):
        _refuse(name, line, column, f"seconds must be more than 0 and at most {MAX_SECONDS:g}")
    return seconds


def _refuse_at(node: Any, name: str, fault: str) -> NoReturn:
    _refuse(name, node.start_mark.line + 1, node.start_mark.column + 1, fault)


def _refuse(name: str, line: int, column: int, fault: str, helps: str = NEXT) -> NoReturn:
    raise BadRequest(
        f"The storyboard {name}, line {line}, column {column}: {fault}.",
        Say(helps),
        line=line,
        column=column,
    )
