"""Signing in at an OpenID Connect provider, a real one over HTTP, honest and not."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydantic import ValidationError
from werkzeug.test import TestResponse

from orchestrator.farm import Farm
from orchestrator.farm.accounts import accounts, people
from orchestrator.farm.kernel import audit_log
from orchestrator.settings import Settings
from tests.factories import account_id
from tests.web import provider
from tests.web.provider import CLIENT, SECRET, Provider
from web.app import create_app

Build = Callable[..., Flask]
PASSWORD = "a horse, a battery and a staple"


@pytest.fixture
def there() -> Iterator[Provider]:
    """A provider that answers."""
    with provider.running() as found:
        yield found


@pytest.fixture
def build(web_farm: Farm, there: Provider, tmp_path: Path) -> Build:
    """Make the application with the provider, and other settings."""

    def make(**settings: Any) -> Flask:
        asked = {"oidc_issuer": there.url, "oidc_client_id": CLIENT, "oidc_client_secret": SECRET}
        asked |= {"home": tmp_path / "home", "min_free_disk_mb": 1} | settings
        return create_app(web_farm, Settings.model_validate(asked), {"TESTING": True})

    return make


def away(browser: FlaskClient, next_url: str = "") -> str:
    """Begin to sign in and return where the provider sends the browser back to."""
    begun = browser.get("/sign-in/provider", query_string={"next": next_url})
    assert begun.status_code == 302, begun.text
    sent = httpx.get(begun.headers["Location"])
    assert sent.status_code == 302, sent.text
    return sent.headers["Location"]


def sign_in(browser: FlaskClient, next_url: str = "") -> TestResponse:
    """Go to the provider and come back."""
    return browser.get(away(browser, next_url))


def is_in(browser: FlaskClient) -> bool:
    """Tell whether the studio opens."""
    return browser.get("/").status_code == 200


def test_somebody_who_was_invited_signs_in(build: Build, web_farm: Farm) -> None:
    """Their verified address is a person's name; they land where they wanted to go."""
    ada = people.add(
        web_farm, account_id=account_id(web_farm), name="ada@example.com", password=None
    )
    browser = build().test_client()
    assert 'href="/sign-in/provider' in browser.get("/sign-in").text
    answer = sign_in(browser, "/videos")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/videos")
    assert is_in(browser)
    assert people.get(web_farm, ada.id).subject
    verbs = [audit_entry.verb for audit_entry in audit_log.listing(web_farm).items[:2]]
    assert verbs == ["person.sign_in", "person.bind"]


def test_the_providers_name_for_somebody_counts_from_then_on(
    build: Build, web_farm: Farm, there: Provider
) -> None:
    """A new address changes nothing, and the old one opens nothing to who has it next."""
    ada = people.add(
        web_farm, account_id=account_id(web_farm), name="ada@example.com", password=None
    )
    app = build()
    sign_in(app.test_client())
    there.person |= {"email": "ada@elsewhere.test", "email_verified": False}
    browser = app.test_client()
    assert sign_in(browser).status_code == 303
    assert is_in(browser)
    there.person = {"sub": "u-2", "email": "ada@example.com", "email_verified": True}
    stranger = app.test_client()
    assert sign_in(stranger).status_code == 403
    assert not is_in(stranger)
    assert [row.id for row in people.listing(web_farm)] == [ada.id]


def test_a_domain_lets_in_who_was_not_invited(build: Build, web_farm: Farm) -> None:
    """A person of the named account comes about, once; no password opens for them."""
    guests = accounts.create(web_farm, name="guests", plan="free").account
    app = build(oidc_domains="other.test, Example.com", oidc_account=guests.id)
    for _ in range(2):
        assert sign_in(app.test_client()).status_code == 303
    (person,) = people.listing(web_farm)
    assert (person.name, person.account_id) == ("ada@example.com", guests.id)
    assert person.password_hash == ""


@pytest.mark.parametrize(
    "claims",
    [
        {"email_verified": False},
        {"email_verified": None},
        {"email_verified": "true"},
        {"email": None},
        {"email": "ada"},
        {"email": "ada@example.com.evil.test"},
        {"email": "ada@sub.example.com"},
        {"email": "example.com@evil.test"},
    ],
)
def test_who_no_rule_names_stays_out(
    build: Build, web_farm: Farm, there: Provider, claims: dict[str, object]
) -> None:
    """Neither an address nobody verified nor one of another domain, and nobody comes about."""
    there.lies = claims
    browser = build(oidc_domains="example.com").test_client()
    assert sign_in(browser).status_code == 403
    assert not is_in(browser)
    assert people.listing(web_farm) == []


def test_an_address_nobody_verified_is_merged_with_nobody(
    build: Build, web_farm: Farm, there: Provider
) -> None:
    """Somebody with a password keeps their own sign-in to themselves."""
    owner = account_id(web_farm)
    ada = people.add(web_farm, account_id=owner, name="ada@example.com", password=PASSWORD)
    there.lies = {"email_verified": False}
    assert sign_in(build().test_client()).status_code == 403
    assert people.get(web_farm, ada.id).subject is None
    assert people.sign_in(web_farm, "ada@example.com", PASSWORD).id == ada.id


@pytest.mark.parametrize(
    "lies",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "somebody-else"},
        {"aud": ["somebody-else", "third"]},
        {"aud": [CLIENT, "third"], "azp": "third"},
        {"aud": None},
        {"iss": "https://evil.test"},
        {"iss": None},
        pytest.param({"exp": int(time.time()) - 86_400}, id="exp a day ago"),
        {"exp": None},
        pytest.param({"iat": int(time.time()) + 86_400}, id="iat in a day"),
        {"sub": None},
        {"at_hash": "AAAA"},
    ],
    ids=str,
)
def test_a_token_that_does_not_hold_opens_nothing(
    build: Build, web_farm: Farm, there: Provider, lies: dict[str, object]
) -> None:
    """Of another sign-in, client or issuer, out of its time, or about nobody."""
    there.lies = lies
    browser = build(oidc_domains="example.com").test_client()
    assert sign_in(browser).status_code == 401
    assert not is_in(browser)
    assert people.listing(web_farm) == []


@pytest.mark.parametrize("signs", ["none", "HS256", "other"])
def test_a_token_that_the_provider_did_not_sign_opens_nothing(
    build: Build, web_farm: Farm, there: Provider, signs: str
) -> None:
    """Unsigned, by its public key as a secret, by somebody else's: though it says it does so."""
    there.signs = signs
    browser = build(oidc_domains="example.com").test_client()
    assert sign_in(browser).status_code == 401
    assert not is_in(browser)
    assert people.listing(web_farm) == []


def test_a_state_opens_once_and_in_its_own_browser(build: Build) -> None:
    """No other browser can use it, it cannot be made up, and a code is taken once."""
    app = build(oidc_domains="example.com")
    victim, thief = app.test_client(), app.test_client()
    back = away(victim)
    assert thief.get(back).status_code == 401
    assert not is_in(thief)
    made_up = back.replace(parse_qs(urlsplit(back).query)["state"][0], "made-up")
    assert victim.get(made_up).status_code == 401
    assert victim.get("/sign-in/provider/back").status_code == 401
    assert victim.get(back).status_code == 303
    again = app.test_client()
    assert again.get(back).status_code == 401
    assert not is_in(again)


def test_a_code_that_was_used_opens_nothing(build: Build) -> None:
    """Even in the browser that it was for, with the cookie of before."""
    app = build(oidc_domains="example.com")
    browser = app.test_client()
    back = away(browser)
    cookie = browser.get_cookie("session")
    assert cookie
    assert browser.get(back).status_code == 303
    replaying = app.test_client()
    replaying.set_cookie("session", cookie.value)
    assert replaying.get(back).status_code == 401
    assert not is_in(replaying)


def test_a_refusal_at_the_provider_is_told(build: Build) -> None:
    """Whoever says no there is asked again here, and sees nothing of the provider's words."""
    browser = build().test_client()
    answer = browser.get("/sign-in/provider/back?error=access_denied&error_description=<b>no</b>")
    assert answer.status_code == 401
    assert "<b>no" not in answer.text


@pytest.mark.parametrize(
    "said",
    [
        {"issuer": "https://evil.test"},
        {"id_token_signing_alg_values_supported": ["none", "HS256"]},
        {"authorization_endpoint": None},
    ],
)
def test_a_provider_that_is_another_is_not_asked(
    build: Build, there: Provider, said: dict[str, object]
) -> None:
    """It calls itself by another name, or signs nothing: no browser is sent there."""
    there.metadata = said
    browser = build().test_client()
    assert browser.get("/sign-in/provider").status_code == 502
    there.metadata = {}
    assert browser.get("/sign-in/provider").status_code == 302, "it is right again"


def test_a_provider_that_is_away_stops_nobody_else(web_farm: Farm, tmp_path: Path) -> None:
    """The page says so and still takes passwords."""
    people.add(web_farm, account_id=account_id(web_farm), name="bob", password=PASSWORD)
    home = {"home": tmp_path / "home", "min_free_disk_mb": 1}
    asked = home | {"oidc_issuer": "http://127.0.0.1:9/", "oidc_client_id": CLIENT}
    app = create_app(web_farm, Settings.model_validate(asked), {"WTF_CSRF_ENABLED": False})
    browser = app.test_client()
    answer = browser.get("/sign-in/provider")
    assert answer.status_code == 502
    assert "did not work" in answer.text
    assert browser.post("/sign-in", data={"name": "bob", "password": PASSWORD}).status_code == 303


def test_removed_people_are_signed_out(build: Build, web_farm: Farm) -> None:
    """Their browsers at once, whatever the provider thinks of them."""
    ada = people.add(
        web_farm, account_id=account_id(web_farm), name="ada@example.com", password=None
    )
    browser = build().test_client()
    sign_in(browser)
    people.remove(web_farm, ada.id)
    assert not is_in(browser)
    assert sign_in(browser).status_code == 403


def test_nobody_goes_elsewhere_behind_a_sign_in(build: Build) -> None:
    """An address of another site is none to go to next."""
    browser = build(oidc_domains="example.com").test_client()
    assert sign_in(browser, "https://evil.test/").headers["Location"] == "/"


def test_no_password_opens_for_somebody_without_one(build: Build, web_farm: Farm) -> None:
    """Neither an empty one nor any other."""
    people.add(web_farm, account_id=account_id(web_farm), name="ada@example.com", password=None)
    app = build()
    app.config["WTF_CSRF_ENABLED"] = False
    for guess in ("", "None", PASSWORD):
        form = {"name": "ada@example.com", "password": guess}
        assert app.test_client().post("/sign-in", data=form).status_code == 401


def test_without_the_settings_there_is_no_button(app: Flask) -> None:
    """The page is as it was, and the addresses are none."""
    browser = app.test_client()
    assert "/sign-in/provider" not in browser.get("/sign-in").text
    assert browser.get("/sign-in/provider").status_code == 404
    assert browser.get("/sign-in/provider/back").status_code == 404


def test_without_the_extra_there_is_no_button(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A farm that was installed without it starts, and takes passwords."""
    monkeypatch.setitem(sys.modules, "authlib.integrations.flask_client", None)
    browser = build().test_client()
    assert "/sign-in/provider" not in browser.get("/sign-in").text
    assert browser.get("/sign-in/provider").status_code == 404


@pytest.mark.parametrize(
    "settings",
    [
        {"oidc_issuer": "http://idp.example.com", "oidc_client_id": "x"},
        {"oidc_issuer": "idp.example.com", "oidc_client_id": "x"},
        {"oidc_issuer": "https://idp.example.com"},
        {"oidc_client_id": "x"},
    ],
)
def test_half_a_setting_is_refused(settings: dict[str, str]) -> None:
    """A provider is asked over HTTPS, and knows the farm by a name."""
    with pytest.raises(ValidationError):
        Settings.model_validate(settings)
