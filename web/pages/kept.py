"""The page of files and characters: what an account keeps, what room it takes, and deleting it."""

from flask import redirect, render_template, url_for
from flask_login import login_required
from werkzeug.wrappers import Response

from orchestrator.errors import Conflict
from orchestrator.farm.accounts import accounts, references
from orchestrator.farm.accounts.references import Kind
from orchestrator.model import Json
from web.api.files import picture_of
from web.context import artifacts, farm
from web.pages.blueprint import bp
from web.pages.page_data import me
from web.threads import in_thread

MOST = 200
"""Of each kind, the newest."""
KINDS: dict[str, Kind] = {"files": "file", "characters": "character"}


@bp.get("/pictures")
@login_required
def kept() -> str:
    """Show what is kept, with its pictures."""
    return render_template("kept.html", **in_thread(_shown, me()))


@bp.get("/pictures/<any(files, characters):kind>/<kept_id>")
@login_required
def kept_picture(kind: str, kept_id: str) -> Response:
    """Send the picture of a file or a character."""
    return picture_of(in_thread(references.get, farm(), me(), KINDS[kind], kept_id))


@bp.post("/pictures/<any(files, characters):kind>/<kept_id>/delete")
@login_required
def delete_kept(kind: str, kept_id: str) -> Response | tuple[str, int]:
    """Delete a file or a character; one that a job needs stays, and the page says which."""
    try:
        in_thread(references.delete, farm(), me(), KINDS[kind], kept_id, artifacts().remove)
    except Conflict as error:
        trouble = {
            "title": "It was not deleted",
            "what": error.message,
            "remedies": error.remedies,
        }
        return render_template("kept.html", trouble=trouble, **in_thread(_shown, me())), 409
    return redirect(url_for("pages.kept"), 303)


def _shown(account_id: str) -> Json:
    """Return what the page shows. Blocking: SQL."""
    this_farm = farm()
    return {
        "storage": accounts.look(this_farm, account_id).storage,
        "kinds": [
            {
                "kind": kind,
                "title": kind.capitalize(),
                "rows": references.listing(this_farm, account_id, one, limit=MOST).items,
            }
            for kind, one in KINDS.items()
        ],
    }
