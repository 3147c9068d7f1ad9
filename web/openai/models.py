"""The models there are, as `client.models` lists them."""

from flask import Blueprint, Response, jsonify

from orchestrator.catalog import ModelCard
from orchestrator.errors import NotFound
from orchestrator.model import Json
from orchestrator.remedies import Say
from web.auth import clients, csrf
from web.context import farm

bp = Blueprint("models", __name__, url_prefix="/v1/models")
csrf.exempt(bp)
bp.before_request(clients)


@bp.get("")
def listing() -> Response:
    """List the models."""
    return jsonify(object="list", data=[_model(card) for card in farm().catalog.cards.values()])


@bp.get("/<model_id>")
def retrieve(model_id: str) -> Response:
    """Show a model."""
    card = farm().catalog.cards.get(model_id)
    if card is None:
        raise NotFound("There is no such model.", Say("List them: GET /v1/models."))
    return jsonify(_model(card))


def _model(card: ModelCard) -> Json:
    return {"id": card.id, "object": "model", "created": 0, "owned_by": "framefarm"}
