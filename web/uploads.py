"""Files that clients send with a job: checked, made anew, kept under a name of the farm's."""

from pathlib import PurePath
from typing import Final

from orchestrator.errors import BadRequest
from web import hangups, pictures
from web.auth import asker
from web.context import artifacts
from web.threads import in_thread

STORYBOARDS: Final = (".json", ".yaml", ".yml", ".csv")


def keep_picture(data: bytes) -> str:
    """Keep a reference image and return its key; its content says what it is, not its name.

    Raises:
        BadRequest: it is no picture the farm takes.
        TooMany: its account has many on their way.
        Unavailable: the farm has too much to do to look at it soon.
    """
    upload = pictures.Upload(data, account=asker())
    with hangups.watched(upload.drop):
        ending, picture = pictures.clean(upload)
    return in_thread(artifacts().keep_input, ending, picture)


def keep_storyboard(name: str, data: bytes) -> str:
    """Keep a storyboard that was read before, and return its key.

    Raises:
        BadRequest: its name has no ending of a storyboard.
    """
    ending = PurePath(name).suffix.lower()
    if ending not in STORYBOARDS:
        raise BadRequest("A storyboard is a .json, .yaml or .csv file.")
    return in_thread(artifacts().keep_input, ending, data)
