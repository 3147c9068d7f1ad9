"""People who may sign in to the pages; operators say who."""

from flask import Response, jsonify
from flask_openapi import APIBlueprint

from orchestrator.farm.accounts import people
from orchestrator.model import Json, Person
from web.api import views
from web.api.bodies import PasswordBody, PersonBody
from web.api.described import REFUSALS, operation_id, tag
from web.api.parameters import PersonPath
from web.api.responses import SECURITY, PersonList, PersonView
from web.auth import clients, own_account
from web.context import farm
from web.threads import in_thread

bp = APIBlueprint(
    "people",
    __name__,
    url_prefix=views.BASE,
    abp_security=SECURITY,
    abp_responses=REFUSALS,
    abp_tags=[tag("people")],
    operation_id_callback=operation_id,
)
bp.before_request(clients)


@bp.get("/people", responses={200: PersonList}, operation_id="people_list")
def listing() -> Response:
    """List who may sign in."""
    return jsonify(data=[_person(row) for row in in_thread(people.listing, farm())])


@bp.post("/people", responses={201: PersonView})
def add(body: PersonBody) -> tuple[Json, int]:
    """Let somebody sign in, for this key's account or another: by password, or at the provider."""
    row = in_thread(
        people.add,
        farm(),
        account_id=body.account_id or own_account(),
        name=body.name,
        password=None if body.password is None else body.password.get_secret_value(),
    )
    return _person(row), 201


@bp.put("/people/<person_id>/password", responses={200: PersonView})
def set_password(path: PersonPath, body: PasswordBody) -> Response:
    """Give somebody another password; their browsers are signed out."""
    secret = body.password.get_secret_value()
    row = in_thread(people.set_password, farm(), path.person_id, secret)
    return jsonify(_person(row))


@bp.delete("/people/<person_id>", responses={204: None})
def remove(path: PersonPath) -> tuple[str, int]:
    """Let somebody sign in no more; their browsers are signed out."""
    in_thread(people.remove, farm(), path.person_id)
    return "", 204


def _person(row: Person) -> Json:
    """Return somebody who may sign in."""
    return {
        "id": row.id,
        "object": "person",
        "name": row.name,
        "account_id": row.account_id,
        "created_at": views.when(row.created_at_ms),
        "password_at": views.when(row.password_at_ms) if row.password_hash else None,
        "at_provider": row.subject is not None,
    }
