"""Signing in at the operator's identity provider: OpenID Connect, the code flow with PKCE.

Authlib (the extra `oidc`) speaks the protocol and checks state, nonce, signature, issuer,
audience and time; what it must know of a sign-in lies in the browser's signed cookie. The farm
adds what a provider may not decide: its own issuer, and that no token goes unsigned.
"""

import time
from typing import Any, Final

import structlog
from flask import Flask, current_app
from werkzeug.wrappers import Response

from orchestrator.errors import Unauthorized
from orchestrator.farm.accounts.identities import Identity
from orchestrator.remedies import Listing, LookAt
from orchestrator.settings import Settings

log = structlog.get_logger()

SIGNED: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384"})
"""By the provider's own key: neither unsigned, nor by a secret that others have."""
NEEDED: Final = ("authorization_endpoint", "token_endpoint", "jwks_uri")
ANSWER_SECONDS: Final = 10
FRESH_SECONDS: Final = 3600
"""Time for which a provider's word on itself is believed, its keys included."""
LEEWAY_SECONDS: Final = 60


def init_app(app: Flask, config: Settings) -> None:
    """Offer the provider that the settings name, if there is one and the extra is installed."""
    if not config.oidc_issuer:
        return
    try:
        from authlib.integrations.flask_client import OAuth
    except ImportError:
        log.warning("sign-in at the provider left out", missing="pip install 'framefarm[oidc]'")
        return
    app.extensions["sso"] = OAuth(app).register(
        "sso",
        client_id=config.oidc_client_id,
        client_secret=config.oidc_client_secret.get_secret_value() or None,
        server_metadata_url=f"{config.oidc_issuer.rstrip('/')}/.well-known/openid-configuration",
        client_kwargs={
            "scope": "openid email",
            "code_challenge_method": "S256",
            "default_timeout": ANSWER_SECONDS,
        },
    )


def offered() -> bool:
    """Tell whether people can sign in at a provider."""
    return "sso" in current_app.extensions


def begin(back: str) -> Response:
    """Send a browser to the provider, which sends it `back` to this address.

    Raises:
        Unauthorized: the provider does not answer as it should.
    """
    answer: Response = _asking(lambda client: client.authorize_redirect(back))
    return answer


def identity() -> Identity:
    """Return who the provider says came back with this request.

    Raises:
        Unauthorized: it was not asked, or its answer does not hold.
    """
    issuer = str(current_app.extensions["settings"].oidc_issuer)

    def told(client: Any) -> Identity:
        expected = {"iss": issuer, "aud": client.client_id}
        options = {name: {"essential": True, "value": value} for name, value in expected.items()}
        token = client.authorize_access_token(claims_options=options, leeway=LEEWAY_SECONDS)
        claims = token["userinfo"]  # of the token's signed part
        return Identity(
            issuer=issuer,
            subject=str(claims["sub"]),
            email=str(claims.get("email", "")),
            email_verified=claims.get("email_verified") is True,
        )

    who: Identity = _asking(told)
    return who


def _asking(what: Any) -> Any:
    """Ask the provider something; whatever it does wrong ends one sign-in and nothing else."""
    from authlib.common.errors import AuthlibBaseError
    from joserfc.errors import JoseError
    from requests import RequestException

    client = current_app.extensions["sso"]
    try:
        _pin(client)
        return what(client)
    except (
        AuthlibBaseError,
        JoseError,
        RequestException,
        ValueError,
        KeyError,
        TypeError,
    ) as error:
        log.warning("sign-in at the provider failed", why=type(error).__name__)
        raise Unauthorized(
            "Signing in at the provider did not work.",
            LookAt(
                Listing.LOGS,
                "Begin again; if it stays so, an operator finds why in the logs.",
                "web",
            ),
        ) from None


def _pin(client: Any) -> None:
    """Hold what a provider says of itself, lately, against what the farm takes.

    Raises:
        ValueError: it calls itself something else, signs nothing, or says too little.
    """
    known = client.server_metadata
    if time.time() - known.get("_loaded_at", 0) > FRESH_SECONDS:
        known.clear()  # its keys as well
    said = client.load_server_metadata()
    named = said.get("id_token_signing_alg_values_supported", ["RS256"])
    said["id_token_signing_alg_values_supported"] = taken = sorted(SIGNED & set(named))
    right = said.get("issuer") == current_app.extensions["settings"].oidc_issuer
    if not right or not taken or not all(isinstance(said.get(name), str) for name in NEEDED):
        known.clear()
        raise ValueError("what the provider says of itself is not what was set")
