"""People who may sign in to the pages, and browsers that are signed out again."""

import re

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from orchestrator.errors import BadRequest, Conflict, Unauthorized
from orchestrator.farm import Farm
from orchestrator.farm.accounts import keys, opening, people, sign_ins
from orchestrator.farm.kernel import audit_log
from orchestrator.farm.leases import reconcile
from orchestrator.model import SignIn
from orchestrator.states import KeyKind
from tests.factories import Clock, account_id, submit
from tests.web.conftest import Caller, until
from web import streams

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


def copy_of(app: Flask, client: FlaskClient) -> FlaskClient:
    """Return a thief's browser, with a copy of another one's cookie."""
    cookie = client.get_cookie("session")
    assert cookie
    thief = app.test_client()
    thief.set_cookie("session", cookie.value)
    assert thief.get("/").status_code == 200
    return thief


def sign_out(client: FlaskClient, **form: str) -> None:
    """Press the button."""
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', client.get("/").text)
    assert token
    assert client.post("/sign-out", data={"csrf_token": token[1], **form}).status_code == 303


def three(app: Flask, web_farm: Farm, way: str) -> list[FlaskClient]:
    """Return three browsers that signed in this way, the last one by itself."""
    if way == "person":
        return [enter(app) for _ in range(3)]
    if way == "link":
        return [by_link(app, web_farm)[0] for _ in range(3)]
    owner, kind = account_id(web_farm), KeyKind.ADMIN if way == "admin" else KeyKind.USER
    _, token = keys.create(web_farm, account_id=owner, kind=kind, name="k")
    browsers = [app.test_client() for _ in range(3)]
    for each in browsers:
        assert sign_in(each, token=token).status_code == 303
    return browsers


@pytest.mark.parametrize("way", ["person", "link", "admin", "user"])
def test_a_copied_cookie_ends_with_the_sign_out(
    app: Flask, web_farm: Farm, ada: str, way: str
) -> None:
    """However a browser came, who copied its cookie has nothing of it; another browser stays."""
    first, second, third = three(app, web_farm, way)
    thief, late = copy_of(app, first), copy_of(app, second)
    sign_out(first)
    assert thief.get("/").status_code == 303
    assert [each.get("/").status_code for each in (second, third)] == [200, 200]
    sign_out(second, everywhere="yes")
    assert [each.get("/").status_code for each in (late, third)] == [303, 303]
    with web_farm.store.read() as tx:
        assert tx.find(SignIn) == []
    if way == "person":
        enter(app)


def test_signing_out_everywhere_leaves_other_people_in(
    app: Flask, web_farm: Farm, ada: str
) -> None:
    """Neither another person of the account nor who came by a link is signed out along."""
    people.add(web_farm, account_id=account_id(web_farm), name="bob", password=PASSWORD)
    mine, hers, link = enter(app), enter(app, "bob"), by_link(app, web_farm)[0]
    sign_out(mine, everywhere="yes")
    assert [each.get("/").status_code for each in (mine, hers, link)] == [303, 200, 200]


def test_a_sign_in_lasts_a_month_and_is_forgotten(
    app: Flask, web_farm: Farm, clock: Clock, ada: str
) -> None:
    """Then the browser signs in again, and its row goes with the next housekeeping."""
    browser = enter(app)
    clock.advance(sign_ins.LASTS_MS / 1000)
    assert browser.get("/").status_code == 303
    clock.advance(1)
    assert reconcile.forget(web_farm) == 1
    with web_farm.store.read() as tx:
        assert tx.find(SignIn) == []


def test_a_sign_out_ends_event_streams(app: Flask, web_farm: Farm, ada: str) -> None:
    """Those of its browser at once; another browser's end soon after its own sign-out."""
    job = submit(web_farm)
    first, second = enter(app), enter(app)
    with web_farm.store.read() as tx:
        rows = tx.find(SignIn)
    room = streams.Streams(app, 10)
    app.extensions["streams"] = room
    opened = [room.open(job.id, 0, account="a", who=row.id) for row in rows]
    sign_out(first)
    assert [each.closed for each in opened] == [True, False]
    sign_ins.end(web_farm, rows[1].id)  # by another process
    until(lambda: opened[1].closed)
    room.leave(opened[0])
    room.leave(opened[1])
    assert second.get("/").status_code == 303


def test_sign_ins_are_in_the_audit_log(app: Flask, web_farm: Farm, ada: str) -> None:
    """A sign-out names the browser's sign-in and who came by it."""
    sign_out(enter(app))
    verbs = [entry.verb for entry in reversed(audit_log.listing(web_farm).items)]
    assert verbs[-2:] == ["person.sign_in", "sign_in.end"]
    assert audit_log.listing(web_farm).items[0].data == {"by": ada}
