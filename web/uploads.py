"""Files that clients send with a job: checked, made anew, kept under a name of the farm's."""

from collections.abc import Iterable
from pathlib import PurePath
from typing import Final

from orchestrator.errors import BadRequest, StorageFull
from orchestrator.farm.accounts import references
from orchestrator.farm.jobs import pictures as kept_pictures
from orchestrator.model import Reference
from web import hangups
from web.artifacts import INPUT
from web.auth import asker, own_account
from web.context import artifacts, farm
from web.media import pictures
from web.threads import in_thread

STORYBOARDS: Final = (".json", ".yaml", ".yml", ".csv")


def keep_picture(data: bytes) -> str:
    """Keep a reference image and return its key; its content says what it is, not its name.

    Raises:
        BadRequest: it is no picture the farm takes.
        TooMany: its account has many on their way.
        Unavailable: the farm has too much to do to look at it soon.
    """
    return in_thread(_keep, *_cleaned(data))


def keep_reference(data: bytes, kind: references.Kind, name: str, seconds: int | None) -> Reference:
    """Keep a reference image as a file or under a character's name, for the asking account.

    Raises:
        BadRequest: it is no picture the farm takes.
        StorageFull: the account's plan gives no room for it.
        TooMany: the account has many on their way.
        Unavailable: the farm has too much to do to look at it soon.
    """
    return in_thread(_keep_reference, *_cleaned(data), kind, name, seconds)


def delete_files(keys: Iterable[str]) -> None:
    """Remove the files of a deleted job; a picture stays that something else has. Blocking."""
    for key in keys:
        if INPUT.fullmatch(key):
            kept_pictures.drop(farm(), key, artifacts().remove)
        else:
            artifacts().remove(key)


def keep_storyboard(name: str, data: bytes) -> str:
    """Keep a storyboard that was read before, and return its key.

    Raises:
        BadRequest: its name has no ending of a storyboard.
    """
    ending = PurePath(name).suffix.lower()
    if ending not in STORYBOARDS:
        raise BadRequest("A storyboard is a .json, .yaml or .csv file.")
    return in_thread(artifacts().keep_input, ending, data)


def _cleaned(data: bytes) -> tuple[str, bytes]:
    upload = pictures.Upload(data, account=asker())
    with hangups.watched(upload.drop):
        return pictures.clean(upload)


def _keep(ending: str, picture: bytes) -> str:
    files = artifacts()
    key = files.keep_input(ending, picture)
    kept_pictures.keep(farm(), key, len(picture), lambda: files.keep_input(ending, picture))
    return key


def _keep_reference(
    ending: str, picture: bytes, kind: references.Kind, name: str, seconds: int | None
) -> Reference:
    files, this_farm = artifacts(), farm()
    key = files.keep_input(ending, picture)
    try:
        return references.keep(
            this_farm,
            account_id=own_account(),
            kind=kind,
            name=name,
            image=key,
            size_bytes=len(picture),
            store=lambda: files.keep_input(ending, picture),
            seconds=seconds,
        )
    except StorageFull:
        kept_pictures.drop(this_farm, key, files.remove)
        raise
