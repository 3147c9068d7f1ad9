"""JSON that somebody sent, read strictly: text in UTF-8, each key once, no number that is none.

Two readers of one body must not see two different things, and bytes that are no text must not
become question marks in a prompt.
"""

import json
from codecs import BOM_UTF8
from typing import Any, Final, NoReturn

from flask import Request

from orchestrator.errors import BadRequest
from orchestrator.remedies import Say

NOUN: Final = "The body"
NAME_CHARS: Final = 40


class StrictRequest(Request):
    """A request whose JSON is read strictly, by flask-openapi too."""

    def get_json(self, *_: object, **__: object) -> Any:
        """Return what the JSON of the body says; None where there is none.

        Raises:
            BadRequest: it is not JSON, not UTF-8, or says one thing twice.
        """
        data = self.get_data()
        return read(data) if data and self.is_json else None


def read(data: bytes | str, noun: str = NOUN) -> object:
    """Return what JSON says; a byte order mark before it is fine. `noun`: what errors call it.

    Raises:
        BadRequest: it is not JSON, not UTF-8, or an object has a key twice.
    """
    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
        return json.loads(text, object_pairs_hook=_object, parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise BadRequest(
            f"{noun} is not text in UTF-8: byte {error.start + 1} is something else.",
            Say("Send JSON in UTF-8; nothing was started or charged."),
        ) from None
    except (ValueError, RecursionError):
        raise BadRequest(f"{noun} is not JSON.") from None


def bare(data: bytes) -> bytes:
    """Return the bytes of JSON without a byte order mark, after `read` found no fault in them.

    Raises:
        BadRequest: as `read` does.
    """
    read(data)
    return data.removeprefix(BOM_UTF8)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in made if names.count(name) > 1)
        named = f" {twice!r}" if twice.isidentifier() and len(twice) <= NAME_CHARS else ""
        raise BadRequest(
            f"An object of the JSON has the key{named} twice.",
            Say("Send each key once; nothing was started or charged."),
        )
    return made


def _no_number(name: str) -> NoReturn:
    raise ValueError(name)
