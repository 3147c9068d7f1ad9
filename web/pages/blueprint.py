"""The blueprint that every page's views register on."""

from flask import Blueprint

from web.pages import forms, remedies, words

bp = Blueprint("pages", __name__)


@bp.app_context_processor
def _no_budget() -> dict[str, object]:
    """Show no budget in the header of a page that knows no session."""
    return {"budget": None}


bp.add_app_template_filter(remedies.steps)
for _name, _function in {**words.FILTERS, "choice": forms.choice}.items():
    bp.add_app_template_filter(_function, _name)
