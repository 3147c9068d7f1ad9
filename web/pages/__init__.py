"""The pages people see: sign-in, the studio (form, quote, videos), and a page for each job.

Thin views: what was typed becomes a brief in `forms`, what the farm says becomes what a page
shows in `views`; SQL runs off the hub. Every page works without JavaScript.
"""

from flask import Blueprint

from web.pages import forms, remedies, words

bp = Blueprint("pages", __name__)


@bp.app_context_processor
def _no_budget() -> dict[str, object]:
    """Pages that know no session show none in the header."""
    return {"budget": None}


bp.add_app_template_filter(remedies.steps)
for _name, _function in {**words.FILTERS, "choice": forms.choice}.items():
    bp.add_app_template_filter(_function, _name)

from web.pages import (  # noqa: E402 - their views register on bp
    books,  # noqa: F401
    job,  # noqa: F401
    live,  # noqa: F401
    signing,  # noqa: F401
    studio,  # noqa: F401
    topping,  # noqa: F401
)
