"""A small OpenID Connect provider over real HTTP, which can be told to lie."""

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask, Response, jsonify, redirect, request
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from werkzeug.serving import make_server

CLIENT = "farm"
SECRET = "a client's secret, long enough"
ADA = {"sub": "u-1", "email": "Ada@Example.com", "email_verified": True}


class Provider:
    """The person who signs in, what the tokens say, and the codes that were given out."""

    def __init__(self) -> None:
        self.url = ""
        self.person: dict[str, Any] = dict(ADA)
        self.lies: dict[str, Any] = {}
        """Claims of the next tokens that are not true; None: left out."""
        self.metadata: dict[str, Any] = {}
        """Claims of itself beside the truth."""
        self.signs = "RS256"
        """Method: also `none`, `HS256` by its public key, and `other` for somebody else's key."""
        self._codes: dict[str, dict[str, str]] = {}
        self._key = RSAKey.generate_key(2048, {"kid": "k1"})
        self._other = RSAKey.generate_key(2048, {"kid": "k1"})

    def app(self) -> Flask:
        """Return its web application."""
        app = Flask("provider")
        app.add_url_rule("/.well-known/openid-configuration", view_func=self.described)
        app.add_url_rule("/authorize", view_func=self.authorize)
        app.add_url_rule("/token", view_func=self.token, methods=["POST"])
        app.add_url_rule("/jwks", view_func=self.jwks)
        return app

    def described(self) -> Response:
        """Say what it is."""
        told = {
            "issuer": self.url,
            **{
                f"{n}_endpoint": f"{self.url}/{w}"
                for n, w in (("authorization", "authorize"), ("token", "token"))
            },
            "jwks_uri": f"{self.url}/jwks",
            "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"],
        }
        return jsonify(told | self.metadata)

    def authorize(self) -> Any:
        """Send the browser back with a code: whoever comes is signed in already."""
        asked = request.args.to_dict()
        assert asked["client_id"] == CLIENT
        assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
        code = secrets.token_urlsafe(12)
        self._codes[code] = asked
        return redirect(f"{asked['redirect_uri']}?code={code}&state={asked['state']}")

    def token(self) -> tuple[Any, int]:
        """Take a code once, from whoever knows what its challenge was made of."""
        form = request.form
        asked = self._codes.pop(form["code"], None)
        proof = hashlib.sha256(form["code_verifier"].encode()).digest()
        who = request.authorization
        if (
            asked is None
            or _text(proof) != asked["code_challenge"]
            or form["redirect_uri"] != asked["redirect_uri"]
            or who is None
            or (who.username, who.password) != (CLIENT, SECRET)
        ):
            return jsonify(error="invalid_grant"), 400
        now = int(time.time())
        claims = {"iss": self.url, "aud": CLIENT, "iat": now, "exp": now + 60, **self.person}
        claims |= {"nonce": asked["nonce"]} | self.lies
        claims = {name: value for name, value in claims.items() if value is not None}
        answer = {"access_token": "at", "token_type": "Bearer", "id_token": self._signed(claims)}
        return jsonify(answer), 200

    def jwks(self) -> Response:
        """Show the public key."""
        return jsonify(keys=[self._key.as_dict(private=False)])

    def _signed(self, claims: dict[str, Any]) -> str:
        if self.signs == "none":
            header = {"alg": "none", "typ": "JWT"}
            return ".".join([_text(json.dumps(part).encode()) for part in (header, claims)] + [""])
        if self.signs == "HS256":
            shared = OctKey.import_key(self._key.as_pem(private=False))
            return jwt.encode({"alg": "HS256", "kid": "k1"}, claims, shared)
        key = self._other if self.signs == "other" else self._key
        return jwt.encode({"alg": "RS256", "kid": "k1"}, claims, key)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@contextmanager
def running() -> Iterator[Provider]:
    """Serve a provider on a free port."""
    provider = Provider()
    server = make_server("127.0.0.1", 0, provider.app(), threaded=True)
    provider.url = f"http://127.0.0.1:{server.port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
