"""The application: `gunicorn "web.app:create_app()"` serves it."""

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from flask import Response
from flask_openapi import Info, OpenAPI

from orchestrator import device_classes, logs
from orchestrator.farm import Farm
from orchestrator.farm.accounts import keys, opening
from orchestrator.settings import Settings, settings
from orchestrator.states import KeyKind
from orchestrator.wiring import farm_from
from web import auth, pages, problems, protocol, sso, streams, throttle
from web.api import accounts, health, jobs, links, operators, people, sessions, webhooks
from web.artifacts import Artifacts
from web.openai import models, references, videos
from web.policy import Policies
from web.proxies import Cookies, behind

MEGABYTE = 1 << 20
DOCS = '{% include "docs.html" %}'
"""The API's page, at both addresses; flask-openapi's own have scripts in them."""
MAX_FORM_PARTS = 100
POLICY = (
    "default-src 'self'; img-src 'self' data:; media-src 'self'; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


def create_app(
    farm: Farm | None = None,
    config: Settings | None = None,
    overrides: Mapping[str, object] | None = None,
) -> OpenAPI:
    """Return the application for a farm; without one, for the farm that the settings describe."""
    config = config or settings()
    if farm is None:
        logs.configure(config)
        farm = farm_from(config)
        if admin := opening.open_home(farm):  # under plain gunicorn nobody else would see it
            _write_private(config.home / "run" / "admin_key", admin)
        if token := config.join_token.get_secret_value():
            keys.admit(farm, token, name="FARM_JOIN_TOKEN", enrols=_standing(config))
    app = OpenAPI(
        __name__,
        info=Info(title="Framefarm", version="1"),
        security_schemes={"key": {"type": "http", "scheme": "bearer"}},
        validation_error_callback=problems.invalid,
        validate_response=bool(overrides and overrides.get("TESTING")),
        static_folder=str(Path(__file__).parent / "static"),
    )
    app.config.update(
        SECRET_KEY=secret_key(config),
        MAX_CONTENT_LENGTH=config.max_body_mb * MEGABYTE,
        MAX_FORM_MEMORY_SIZE=MEGABYTE,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=config.secure_cookies,
        MAX_FORM_PARTS=MAX_FORM_PARTS,
        OPENAPI_HTML_STRING=DOCS,
        SWAGGER_HTML_STRING=DOCS,
        WTF_CSRF_TIME_LIMIT=None,
        **(overrides or {}),
    )
    app.extensions["farm"] = farm
    app.extensions["settings"] = config
    root, low = config.artifacts_root, config.min_free_disk_mb
    app.extensions["artifacts"] = Artifacts(root, min_free_mb=low)
    app.extensions["policies"] = Policies(config)
    auth.init_app(app)
    throttle.init_app(app)
    streams.init_app(app, config.max_streams)
    sso.init_app(app, config)
    problems.init_app(app)
    app.register_blueprint(pages.bp)
    for room in (protocol, videos, references, models):
        app.register_blueprint(room.bp)
    for api in (accounts, sessions, jobs, links, webhooks, operators, people, health):
        auth.csrf.exempt(api.bp)
        app.register_api(api.bp)
    for busy in (protocol, health):  # workers and probes ask often, and are the farm's own
        throttle.limiter.exempt(busy.bp)
    app.after_request(_harden)
    app.session_interface = Cookies()
    app.wsgi_app = behind(config.trusted_proxies, app.wsgi_app)
    return app


def secret_key(config: Settings) -> str:
    """Return the key that signs cookies; made once per home, readable by its owner alone."""
    if given := config.secret_key.get_secret_value():
        return given
    file = config.home / "secret_key"
    if not file.exists():
        part = file.with_name(f".secret_key.{uuid4().hex}")
        _write_private(part, secrets.token_hex(32))
        with suppress(FileExistsError):  # a process beside this one was first: its key counts
            os.link(part, file)
        part.unlink()
    return file.read_text(encoding="ascii")


def _write_private(file: Path, text: str) -> None:
    """Write a file that only its owner reads, whole or not at all."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}")
    part.touch(mode=0o600)
    part.write_text(text, encoding="ascii")
    part.replace(file)


def _harden(answer: Response) -> Response:
    # Of an account or with a secret in it, unless its view says otherwise.
    answer.headers.setdefault("Cache-Control", "private, no-store")
    answer.headers.setdefault("Content-Security-Policy", POLICY)
    answer.headers.setdefault("X-Content-Type-Options", "nosniff")
    answer.headers.setdefault("Referrer-Policy", "same-origin")
    answer.headers.setdefault("Cross-Origin-Opener-Policy", "same-origin")
    answer.headers.setdefault("Cross-Origin-Resource-Policy", "same-origin")
    answer.headers.setdefault("X-Frame-Options", "DENY")
    return answer


def _standing(config: Settings) -> keys.Enrolling:
    """Return what the join token of the settings lets in."""
    uses = None if config.join_uses == device_classes.ANY else config.join_uses
    return keys.enrolling(KeyKind.JOIN, config.join_device_classes.split(","), uses)
