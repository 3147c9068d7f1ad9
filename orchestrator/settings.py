"""Every switch of the farm: environment variables `FARM_*`, read once.

`farm` reads `FARM_<NAME>` and, for secrets, the file named by `FARM_<NAME>_FILE`.
"""

import ipaddress
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self, TypeAlias
from urllib.parse import urlsplit

import platformdirs
from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
MIN_SECRET_CHARS = 32
MIN_DISTINCT_CHARS = 8
WORDS_OF_EXAMPLES = ("change", "secret", "password", "example", "default", "framefarm")
"""Placeholder of documents where a secret belongs, found in no random one of 32 characters."""
LINK_OR_NONE = r"^(https://[^\s?#]+|http://(localhost|127\.0\.0\.1)(:\d+)?(/[^\s?#]*)?)?$"
MAKE_ONE = "make one with `openssl rand -hex 32`"


def is_guessable(secret: str) -> bool:
    """Tell whether a secret that an operator chose is short, repetitive or an example's."""
    short = len(secret) < MIN_SECRET_CHARS or len(set(secret)) < MIN_DISTINCT_CHARS
    repeats = secret in (secret + secret)[1:-1] or secret[:16] in secret[1:]
    return short or repeats or any(word in secret.lower() for word in WORDS_OF_EXAMPLES)


@cache
def networks(text: str) -> tuple[Network, ...]:
    """Return the networks of a list of them, `10.1.0.0/16, ::1`.

    Raises:
        ValueError: one of them is none.
    """
    return tuple(ipaddress.ip_network(part) for part in _parts(text))


def default_home() -> Path:
    """Return the XDG data folder of this user."""
    return Path(platformdirs.user_data_dir("framefarm"))


def _parts(text: str) -> tuple[str, ...]:
    """Return what stands between commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _networks(text: str) -> str:
    networks(text)
    return text


def _origins(text: str) -> str:
    for part in _parts(text):
        url = urlsplit(part)
        plain = not (url.path.strip("/") or url.query or url.fragment or "@" in url.netloc)
        if url.scheme not in {"http", "https"} or not url.hostname or not plain:
            msg = "each is http(s)://host or http(s)://host:port, with nothing behind it"
            raise ValueError(msg)
        url.port  # noqa: B018 - raises where it is none
    return text


class Settings(BaseSettings):
    """One frozen object; an unknown `FARM_*` name is an error in `farm doctor`."""

    model_config = SettingsConfigDict(
        env_prefix="FARM_", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    home: Path = Field(default_factory=default_home)
    """Data of the embedded parts: farm.sqlite, artifacts/, logs/, run/."""
    server: str = ""
    """URL of a farm to talk to; empty: the one running on this home."""
    api_key: SecretStr = SecretStr("")
    """Key that the CLI sends to `server`."""

    host: str = "127.0.0.1"
    port: int = 0
    """0: the embedded farm takes a free port."""
    public_url: Annotated[str, AfterValidator(_origins)] = ""
    """The URL that people open (`https://farm.example.com`), then others by which web is asked;
    links begin with it, and a `Host` that is none of them, nor this machine's, is refused. Empty:
    this machine's own alone."""
    database_url: SecretStr = SecretStr("")
    """`postgresql+psycopg://…`; empty: SQLite under `home`."""
    database_url_file: Path | None = None
    broker_url: SecretStr = SecretStr("")
    """`redis://:password@host:6379/0`; empty: the embedded Valkey."""
    broker_url_file: Path | None = None
    artifacts_url: str = ""
    """An fsspec URL (`s3://bucket/prefix`); empty: `home`/artifacts."""
    secret_key: SecretStr = SecretStr("")
    """Signs browser cookies; empty: made once and kept under `home`, mode 0600."""
    secret_key_file: Path | None = None
    secure_cookies: bool = False
    """Browsers send cookies over HTTPS alone, whatever the farm sees of it; it does by itself what
    is asked over HTTPS, as a trusted proxy says."""
    trusted_proxies: int = Field(default=0, ge=0, le=10)
    """Number of proxies before web, each of which writes X-Forwarded-For, -Proto and -Host
    itself: addresses, links and limits are then the client's. 0: those headers are not read."""
    models_path: Path | None = None
    """Folder of model folders beside the bundled ones."""
    fake_model: bool = False
    """Offer the model `fake`, which paints gradients: for tests of the farm itself."""

    oidc_issuer: str = Field(default="", pattern=LINK_OR_NONE)
    """An OpenID Connect provider where people sign in too (extra `oidc`); empty: none."""
    oidc_client_id: str = ""
    oidc_client_secret: SecretStr = SecretStr("")
    """Empty: a public client, which PKCE alone protects."""
    oidc_client_secret_file: Path | None = None
    oidc_name: str = "your organisation"
    """The provider's name on the button: Sign in with …"""
    oidc_domains: str = ""
    """Domains (`example.com, …`) of verified e-mail addresses that need no invitation."""
    oidc_account: str = ""
    """Id of the account that people of those domains belong to; empty: the farm's first."""

    join_token: SecretStr = SecretStr("")
    """Lets a new worker enrol; also accepted by the web process as a standing token."""
    join_token_file: Path | None = None
    join_device_classes: str = "cpu"
    """Devices that may enrol by that token, by class or product (`cpu, NVIDIA L4`), or `any`."""
    join_uses: Annotated[int, Field(ge=1, le=10**6)] | Literal["any"] = "any"
    """Workers that may enrol by it."""
    worker_name: str = ""
    threads: int = 0
    """CPU threads of the engine; 0: all cores."""

    heartbeat_seconds: float = 2.0
    lease_seconds: float = 30.0
    grace_seconds: float = 10.0
    """After expiry, before the farm takes a unit back; device time in it is the farm's loss."""
    max_attempts: int = 3
    lease_margin: float = 1.5
    """A lease's limit is its unit's p90 times this, where the budget has room."""
    lease_margin_unmeasured: float = 5.0
    """The same while a quote rests on the card's prior: another machine may be that much slower,
    and a limit that stops a micro-batch midway wastes it."""
    runaway: float = Field(default=4.0, ge=1)
    """A job that takes so many times its ceiling is ended at the farm's cost."""
    worker_gone_seconds: float = 60.0
    reconcile_seconds: float = 2.0
    ring_again_seconds: float = 3.0
    age_seconds: float = Field(default=300.0, gt=0)
    """A session that waits longer is served by its age, in a part of each device's time."""
    affinity_seconds: float = Field(default=30.0, ge=0)
    """Others may wait so long while a worker stays with the model it has loaded."""
    look_seconds: float = Field(default=2.0, ge=0)
    """Waiting jobs are told their places from a look at the line that is at most so old, and
    quotes rest on a look at the receipts that is."""

    rates: Path | None = None
    """TOML file of rate cards; empty: the shipped one."""
    plans: Path | None = None
    """TOML file of the plans accounts can have; empty: the shipped ones."""
    openai_model: str = ""
    """Model for OpenAI's names (`sora-2` …) under /v1; empty: the default model."""
    default_session_gpu_seconds: int = 3600
    max_prompt_chars: int = 10_000
    max_job_megapixel_steps: int = 100_000
    """Of one job: frames x pixels x denoising steps, in millions."""
    rate_limit: str = Field(default="6000/minute", pattern=r"^(\d+/(second|minute|hour|day))?$")
    """Requests of one account, as each web process counts them; empty: any number."""
    sign_in_limit: str = Field(default="20/minute", pattern=r"^\d+/(second|minute|hour|day)$")
    """Tries to sign in from one address."""
    metrics_from: Annotated[str, AfterValidator(_networks)] = "127.0.0.0/8, ::1/128"
    """Networks whose requests for /metrics need no key; empty, or unset beside `metrics_token`:
    none. What came through a proxy that says so is from its client, as FARM_TRUSTED_PROXIES says,
    or else from nowhere."""
    metrics_token: SecretStr = SecretStr("")
    """Opens /metrics to who sends it as a bearer; empty: admin keys alone do."""
    metrics_token_file: Path | None = None
    max_streams: int = Field(default=200, ge=1)
    """Event streams of one account that are open at once, as each web process counts them."""
    max_body_mb: int = 32
    max_upload_mb: int = 512
    """Of one worker artifact."""
    min_free_disk_mb: int = 512
    """Below this nothing new starts."""

    policy_prompt: str = ""
    """Judge of prompts: `package.module:function` or a URL; empty: nobody."""
    policy_frames: str = ""
    """Judge of frames before a video is published; likewise."""
    policy_seconds: float = Field(default=5.0, gt=0, le=8)
    """Time that either may take; a worker waits for the answer about its frames."""
    policy_fail_closed: bool = True
    """A policy that cannot be asked refuses; False: it allows."""

    webhook_http: bool = False
    """Let webhooks go to http:// URLs too."""
    webhook_networks: Annotated[str, AfterValidator(_networks)] = ""
    """Networks (`10.1.0.0/16, …`) that webhooks may go to although they are not public."""
    webhook_timeout_seconds: float = 15.0
    webhook_log_days: float = 30.0

    ffmpeg: str = ""
    """Path of an ffmpeg; empty: the system's, then imageio-ffmpeg's."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "console"

    @model_validator(mode="before")
    @classmethod
    def _secrets_from_files(cls, values: dict[str, object]) -> dict[str, object]:
        for name in (
            "database_url",
            "broker_url",
            "secret_key",
            "join_token",
            "oidc_client_secret",
            "metrics_token",
        ):
            path = values.get(f"{name}_file")
            if path and not values.get(name):
                values[name] = Path(str(path)).read_text(encoding="utf-8").strip()
        if values.get("metrics_token"):
            # A proxy on this machine need not tell that it is one; the token it cannot guess.
            values.setdefault("metrics_from", "")
        return values

    @model_validator(mode="after")
    def _heartbeat_fits_lease(self) -> Self:
        if self.heartbeat_seconds * 3 > self.lease_seconds:
            msg = "FARM_LEASE_SECONDS must be at least three FARM_HEARTBEAT_SECONDS"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _secrets_are_none_to_guess(self) -> Self:
        for name in ("secret_key", "metrics_token"):
            secret: SecretStr = getattr(self, name)
            if (given := secret.get_secret_value()) and is_guessable(given):
                msg = f"FARM_{name.upper()} can be guessed; {MAKE_ONE}"
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _provider_knows_the_farm(self) -> Self:
        if bool(self.oidc_issuer) != bool(self.oidc_client_id):
            msg = "FARM_OIDC_ISSUER and FARM_OIDC_CLIENT_ID go together"
            raise ValueError(msg)
        return self

    @property
    def welcome_domains(self) -> frozenset[str]:
        """Domains of e-mail addresses that need no invitation, in lower case."""
        return frozenset(part.lower() for part in _parts(self.oidc_domains))

    @property
    def public_urls(self) -> tuple[str, ...]:
        """URLs that the farm is asked by, the one that people open first, without a last slash."""
        return tuple(part.rstrip("/") for part in _parts(self.public_url))

    @property
    def judges_prompts(self) -> bool:
        """There is a policy for prompts."""
        return bool(self.policy_prompt)

    @property
    def judges_frames(self) -> bool:
        """There is a policy for frames."""
        return bool(self.policy_frames)

    @property
    def sql_url(self) -> str:
        """The database's URL."""
        return self.database_url.get_secret_value() or f"sqlite:///{self.home / 'farm.sqlite'}"

    @property
    def artifacts_root(self) -> str:
        """Return the place of files, as an fsspec URL or a folder."""
        return self.artifacts_url or str(self.home / "artifacts")


@cache
def settings() -> Settings:
    """Return the settings of this process. Tests call `settings.cache_clear()`."""
    return Settings()
