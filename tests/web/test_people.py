"""People who may sign in to the pages, and browsers that are signed out again."""

import re

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from orchestrator.errors import BadRequest, Conflict, Unauthorized
from orchestrator.farm import Farm
from orchestrator.farm.accounts import keys, opening, people
from orchestrator.states import KeyKind
from tests.factories import Clock, account_id
from tests.web.conftest import Caller

PASSWORD = "a horse, a battery and a staple"


@pytest.fixture
def ada(web_farm: Farm) -> str:
    """Somebody of the home account; her id."""
    return people.add(
        web_farm, account_id=account_id(web_farm), name="Ada@X.test", password=PASSWORD
    ).id


def sign_in(client: FlaskClient, **form: str) -> TestResponse:
    """Fill in the form of the sign-in page."""
    page = client.get("/sign-in").text
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
    assert token
    return client.post("/sign-in", data={"csrf_token": token[1], **form})


def enter(app: Flask, name: str = "ada@x.test", password: str = PASSWORD) -> FlaskClient:
    """Return a browser that signed in."""
    client = app.test_client()
    assert sign_in(client, name=name, password=password).status_code == 303
    assert client.get("/").status_code == 200
    return client


def test_a_person_signs_in_by_name_and_password(app: Flask, ada: str) -> None:
    """The name in any case and the right password open the studio of the account."""
    enter(app, " ADA@x.test ")


@pytest.mark.parametrize(
    ("name", "password"),
    [("ada@x.test", "wrong"), ("ada@x.test", ""), ("bob", PASSWORD), ("ada@x.test", "x" * 10_000)],
)
def test_a_wrong_guess_does_not_say_what_was_wrong(
    app: Flask, ada: str, name: str, password: str
) -> None:
    """Neither the name's existence nor the password is given away."""
    client = app.test_client()
    answer = sign_in(client, name=name, password=password)
    assert answer.status_code == 401
    assert "do not go together" in answer.text
    assert client.get("/").status_code == 303


def test_signing_in_needs_the_forms_token(app: Flask, ada: str) -> None:
    """Another site cannot sign a browser in."""
    data = {"name": "ada@x.test", "password": PASSWORD}
    assert app.test_client().post("/sign-in", data=data).status_code == 400


def test_a_new_password_signs_every_browser_out(
    app: Flask, web_farm: Farm, clock: Clock, ada: str
) -> None:
    """Cookies of before are worth nothing; the new password opens."""
    browser = enter(app)
    clock.advance(1)
    people.set_password(web_farm, ada, PASSWORD + "!")
    assert browser.get("/").status_code == 303
    enter(app, password=PASSWORD + "!")
    with pytest.raises(Unauthorized):
        people.sign_in(web_farm, "ada@x.test", PASSWORD)


def test_a_removed_person_is_out_at_once(app: Flask, web_farm: Farm, ada: str) -> None:
    """The open browser is signed out with the next click."""
    browser = enter(app)
    people.remove(web_farm, ada)
    assert browser.get("/").status_code == 303


def test_a_browser_that_showed_a_key_is_out_with_the_key(app: Flask, web_farm: Farm) -> None:
    """Revoking the key ends what was signed in by it."""
    row, token = keys.create(web_farm, account_id=account_id(web_farm), kind=KeyKind.USER, name="k")
    browser = app.test_client()
    assert sign_in(browser, token=token).status_code == 303
    assert browser.get("/").status_code == 200
    keys.revoke(web_farm, None, row.id)
    assert browser.get("/").status_code == 303


@pytest.mark.parametrize(
    "kind",
    [kind for kind in KeyKind if kind not in (KeyKind.USER, KeyKind.ADMIN, KeyKind.SIGNIN)],
)
def test_a_narrow_key_signs_nobody_in(app: Flask, web_farm: Farm, kind: KeyKind) -> None:
    """The pages can do everything, so keys with less open none."""
    _, token = keys.create(web_farm, account_id=account_id(web_farm), kind=kind, name="k")
    assert sign_in(app.test_client(), token=token).status_code == 401


def test_a_bound_key_signs_nobody_in(app: Flask, web_farm: Farm) -> None:
    """The pages steer every job and pay, which a key with an allowance may not."""
    owner, bounds = account_id(web_farm), keys.Bounds(gpu_ms=1_000)
    _, token = keys.create(web_farm, account_id=owner, kind=KeyKind.USER, name="k", bounds=bounds)
    assert sign_in(app.test_client(), token=token).status_code == 401


def test_names_are_unique_and_passwords_long(web_farm: Farm, ada: str) -> None:
    """A name or password that is no good is refused, and leaves nobody behind."""
    owner = account_id(web_farm)
    with pytest.raises(Conflict):
        people.add(web_farm, account_id=owner, name="ADA@x.test", password=PASSWORD)
    for name, password in (
        ("bob", "short"),
        ("", PASSWORD),
        ("a\nb", PASSWORD),
        ("x" * 101, PASSWORD),
    ):
        with pytest.raises(BadRequest):
            people.add(web_farm, account_id=owner, name=name, password=password)
    assert [person.id for person in people.listing(web_farm)] == [ada]


def test_passwords_are_kept_as_argon2id(web_farm: Farm, ada: str) -> None:
    """The database has a salted hash; the API shows not even that."""
    person = people.get(web_farm, ada)
    assert person.password_hash.startswith("$argon2id$")
    assert PASSWORD not in repr(person)
    assert person.password_hash not in repr(person)


def test_an_operator_lets_people_of_other_accounts_in(app: Flask, caller: Caller) -> None:
    """Somebody signs in for the account that was named; one that is none is a 404."""
    admin = caller(KeyKind.ADMIN)
    guest = admin.post("/api/v1/accounts", json={"name": "guest", "plan": "free"}).get_json()
    asked = {"name": "Eve", "password": PASSWORD, "account_id": guest["id"]}
    assert admin.post("/api/v1/people", json=asked).get_json()["account_id"] == guest["id"]
    enter(app, "eve")
    lost = admin.post("/api/v1/people", json=asked | {"name": "Bob", "account_id": "acc_none"})
    assert lost.status_code == 404


def test_operators_say_who_signs_in(app: Flask, caller: Caller) -> None:
    """People are added, listed, given a password and removed over the API."""
    admin = caller(KeyKind.ADMIN)
    made = admin.post("/api/v1/people", json={"name": "Bob", "password": PASSWORD})
    assert made.status_code == 201
    assert PASSWORD not in made.text
    enter(app, "bob")
    path = f"/api/v1/people/{made.get_json()['id']}"
    short = admin.put(f"{path}/password", json={"password": "short"})
    assert short.status_code == 422
    assert "short" not in short.text.replace("shorter", "")
    assert admin.put(f"{path}/password", json={"password": PASSWORD * 2}).status_code == 200
    assert [row["name"] for row in admin.get("/api/v1/people").get_json()["data"]] == ["bob"]
    assert admin.delete(path).status_code == 204
    assert admin.delete(path).status_code == 404


def by_link(app: Flask, web_farm: Farm) -> tuple[FlaskClient, str]:
    """Return a browser that came by a one-time link, and its cookie."""
    token = opening.replace_key(
        web_farm, account_id=account_id(web_farm), kind=KeyKind.SIGNIN, name="browser"
    )
    client = app.test_client()
    assert client.get(f"/sign-in/{token}").status_code == 303
    cookie = client.get_cookie("session")
    assert cookie
    return client, cookie.value


def test_a_browser_that_came_by_a_link_ends_with_it(
    app: Flask, web_farm: Farm, clock: Clock
) -> None:
    """It outlives the link's minutes and the farm's next start; revoking the link ends it."""
    client, _ = by_link(app, web_farm)
    clock.advance(7 * 86_400)
    by_link(app, web_farm)
    assert client.get("/").status_code == 200
    for key in keys.listing(web_farm, None):
        keys.revoke(web_farm, None, key.id)
    assert client.get("/").status_code == 303


def test_a_copied_cookie_ends_with_the_sign_out(app: Flask, web_farm: Farm) -> None:
    """A thief who took a browser's cookie before it signed out has nothing of it."""
    client, copied = by_link(app, web_farm)
    thief = app.test_client()
    thief.set_cookie("session", copied)
    assert thief.get("/").status_code == 200
    form = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', client.get("/").text)
    assert form
    assert client.post("/sign-out", data={"csrf_token": form[1]}).status_code == 303
    assert thief.get("/").status_code == 303
