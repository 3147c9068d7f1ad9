"""The application: `gunicorn "web.app:create_app()"` serves it."""

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from orchestrator import device_classes, logs, private_files
from orchestrator.farm import Farm
from orchestrator.farm.accounts import keys, opening
from orchestrator.settings import Settings, settings
from orchestrator.states import KeyKind
from orchestrator.wiring import farm_from
from web import (
    answers,
    auth,
    hosts,
    json_text,
    pages,
    problems,
    protocol,
    request_ids,
    sso,
    streams,
    throttle,
)
from web.api import accounts, files, health, jobs, links, operators, people, sessions, webhooks
from web.api.described import Api
from web.artifacts import Artifacts
from web.openai import models, references, videos
from web.policy import Policies
from web.proxies import Cookies, behind

MEGABYTE = 1 << 20
DOCS = '{% include "docs.html" %}'
"""The API's page, at both addresses; flask-openapi's own have scripts in them."""
MAX_FORM_PARTS = 100


def create_app(
    farm: Farm | None = None,
    config: Settings | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Api:
    """Return the application for a farm; without one, for the farm that the settings describe."""
    config = config or settings()
    if farm is None:
        private_files.keep_private()
        with suppress(OSError):  # a read-only one, whose files are behind URLs
            private_files.make(config.home)
        logs.configure(config)
        farm = farm_from(config)
        if admin := opening.open_home(farm):  # under plain gunicorn nobody else would see it
            (config.home / "run").mkdir(exist_ok=True)
            private_files.write(config.home / "run" / "admin_key", admin)
        if token := config.join_token.get_secret_value():
            keys.admit(farm, token, name="FARM_JOIN_TOKEN", enrols=_standing(config))
    app = Api(
        __name__,
        servers=[{"url": url} for url in config.public_urls] or [{"url": "/"}],
        validation_error_callback=problems.invalid,
        validate_response=bool(overrides and overrides.get("TESTING")),
        static_folder=str(Path(__file__).parent / "static"),
    )
    app.request_class = json_text.StrictRequest
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
    answers.init_app(app)
    hosts.init_app(app, config)
    auth.init_app(app)
    throttle.init_app(app)
    streams.init_app(app, config.max_streams)
    sso.init_app(app, config)
    health.init_app(app)
    problems.init_app(app)
    app.register_blueprint(pages.bp)
    for room in (protocol, videos, references, models):
        app.register_blueprint(room.bp)
    for api in (accounts, sessions, jobs, links, files, webhooks, operators, people, health):
        auth.csrf.exempt(api.bp)
        app.register_api(api.bp)
    auth.csrf.exempt(links.shared)
    app.register_api(links.shared)
    throttle.limiter.exempt(protocol.bp)  # workers and probes ask often, and are the farm's own
    throttle.limiter.exempt(health.healthz)
    app.after_request(answers.harden)
    app.session_interface = Cookies()
    app.wsgi_app = request_ids.named(behind(config.trusted_proxies, app.wsgi_app))
    return app


def secret_key(config: Settings) -> str:
    """Return the key that signs cookies; made once per home, readable by its owner alone."""
    if given := config.secret_key.get_secret_value():
        return given
    file = config.home / "secret_key"
    if not file.exists():
        part = file.with_name(f".secret_key.{uuid4().hex}")
        file.parent.mkdir(mode=private_files.FOLDER, parents=True, exist_ok=True)
        private_files.write(part, secrets.token_hex(32))
        with suppress(FileExistsError):  # a process beside this one was first: its key counts
            os.link(part, file)
        part.unlink()
    return file.read_text(encoding="ascii")


def _standing(config: Settings) -> keys.Enrolling:
    """Return what the join token of the settings lets in."""
    uses = None if config.join_uses == device_classes.ANY else config.join_uses
    return keys.enrolling(KeyKind.JOIN, config.join_device_classes.split(","), uses)
