"""The farm over HTTP: where it is, with which key, and its refusals as our errors."""

import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote

import rich_click as click

from orchestrator.cli.output import EXIT_CODES, Problem, say
from orchestrator.cli.remedies import told
from orchestrator.errors import BadRequest, Conflict, NotFound, Unavailable
from orchestrator.model import Json
from orchestrator.remedies import Say, UseKey

if TYPE_CHECKING:
    import httpx

    from orchestrator.bootstrap import Embedded
    from orchestrator.settings import Settings

F = TypeVar("F", bound=Callable[..., object])

API: Final = "/api/v1"
TIMEOUT_SECONDS: Final = 30.0
RETRY_SECONDS: Final = 15.0
"""Time for which a farm that stopped answering is asked again while a job is followed."""
WAIT_SECONDS: Final = 0.5
PAGE: Final = 200
BY_STATUS: Final = {401: "unauthorized", 403: "not_allowed", 404: "not_found", 503: "unavailable"}

server = click.option("--server", metavar="URL", help="A farm elsewhere; FARM_SERVER does too.")


@dataclass(slots=True)
class Client:
    """One farm and our key to it."""

    url: str
    key: str = field(repr=False)
    own: "Embedded | None" = None
    """The farm's processes when we started them for this command."""
    _http: "httpx.Client | None" = field(default=None, repr=False)

    def get(self, path: str, **query: object) -> Json:
        """Return what a call answers."""
        asked = {name: value for name, value in query.items() if value is not None}
        return self._answer("GET", path, params=asked)

    def sheet(self, path: str, **query: object) -> str:
        """Return what a call answers as CSV."""
        asked = {name: value for name, value in query.items() if value is not None}
        answer = self._send("GET", f"{API}/{path}", params={**asked, "format": "csv"})
        return _checked(answer).text

    def post(self, path: str, body: Json | None = None, **more: Any) -> Json:
        """Send something once, however often the connection breaks."""
        headers = {"Idempotency-Key": more.pop("promise", None) or uuid.uuid4().hex}
        content = {} if body is None else {"json": body}
        return self._answer("POST", path, headers=headers, **content, **more)

    def put(self, path: str, body: Json) -> Json:
        """Set something."""
        return self._answer("PUT", path, json=body)

    def patch(self, path: str, body: Json) -> Json:
        """Change something."""
        return self._answer("PATCH", path, json=body)

    def delete(self, path: str) -> Json:
        """Delete something."""
        return self._answer("DELETE", path)

    def every(self, path: str, *, limit: int | None = None, **query: object) -> list[Json]:
        """Return the items of a list, page after page, up to `limit`."""
        rows: list[Json] = []
        after: str | None = None
        while limit is None or len(rows) < limit:
            wanted = PAGE if limit is None else min(PAGE, limit - len(rows))
            page = self.get(path, limit=wanted, after=after, **query)
            rows += page["data"]
            after = page.get("next_cursor")
            if not after:
                break
        return rows

    def job_if_changed(self, job_id: str, etag: str) -> tuple[Json | None, str]:
        """Return a job and its ETag, or None when it is as it was."""
        until = time.monotonic() + RETRY_SECONDS
        while True:
            try:
                answer = self._send(
                    "GET",
                    f"{API}/jobs/{part(job_id)}",
                    headers={"If-None-Match": etag} if etag else {},
                )
            except Unavailable:
                if time.monotonic() > until:
                    raise
                self.check()
                time.sleep(1)
                continue
            if answer.status_code == 304:
                return None, etag
            return _checked(answer).json(), answer.headers.get("ETag", "")

    def fetch(self, path: str, file: IO[bytes], sha256: str | None = None) -> None:
        """Download into a file.

        Raises:
            Problem: the farm refused it.
            Unavailable: the connection broke, or other bytes came than were promised.
        """
        import httpx

        seen = hashlib.sha256()
        try:
            with self._client().stream("GET", path) as answer:
                if not answer.is_success:
                    answer.read()
                    _checked(answer)
                for piece in answer.iter_bytes(1 << 20):
                    seen.update(piece)
                    file.write(piece)
        except httpx.TransportError as error:
            raise self._unreachable(error) from None
        if sha256 and seen.hexdigest() != sha256:
            raise Unavailable(
                "Other bytes came than the farm promised.", Say("Fetch the file again.")
            )

    def check(self) -> None:
        """Start again what ended of our own farm.

        Raises:
            Unavailable: a process ends too often; names it and its log.
        """
        if self.own and (dead := self.own.tend()):
            logs = self.own.home / "logs"
            raise Unavailable(
                f"The farm's {' and '.join(dead)} ended again and again.",
                Say(f"Read {logs / (dead[0] + '.log')}, or run `farm doctor`."),
            )

    def close(self) -> None:
        """Close the connection."""
        if self._http is not None:
            self._http.close()

    def _answer(self, method: str, path: str, **more: Any) -> Json:
        answer = _checked(self._send(method, path if path[:1] == "/" else f"{API}/{path}", **more))
        if not answer.content:
            return {}
        try:
            told: Json = answer.json()
        except ValueError:
            raise Unavailable(
                f"What answers at {self.url} is not a farm.", Say("Check the URL of --server.")
            ) from None
        return told

    def _send(self, method: str, path: str, **more: Any) -> "httpx.Response":
        import httpx

        if not path.isprintable():
            raise NotFound("No id and no name has unseen characters in it.")
        try:
            return self._client().request(method, path, **more)
        except (httpx.TransportError, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise self._unreachable(error) from None

    def _client(self) -> "httpx.Client":
        if self._http is None:
            import httpx

            headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
            here = self.url.startswith(("http://127.0.0.1", "http://localhost"))
            self._http = httpx.Client(
                base_url=self.url, headers=headers, timeout=TIMEOUT_SECONDS, trust_env=not here
            )
        client: httpx.Client = self._http
        return client

    def _unreachable(self, error: Exception) -> Unavailable:
        what = str(error) or type(error).__name__
        return Unavailable(
            f"The farm at {self.url} cannot be reached: {what}.",
            Say("Check the URL and that the farm runs: `farm status`, or start one: `farm up`."),
        )


def part(name: str) -> str:
    """Return an id or name that somebody typed as one part of an address.

    Raises:
        NotFound: it would be another part, or none: whatever is called so has no address.
    """
    if name in ("", ".", "..") or "/" in name:
        raise NotFound(f"Nothing has the id {name!r}.")
    return quote(name.encode("utf-8", "surrogateescape"), safe="")


def config() -> "Settings":
    """Return the settings.

    Raises:
        BadRequest: a FARM_* variable cannot be used.
    """
    from pydantic import ValidationError

    from orchestrator.settings import settings

    try:
        return settings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = "_".join(["FARM", *(str(part).upper() for part in first["loc"])])
        where = f"{name}: " if first["loc"] else ""
        raise BadRequest(
            f"{where}{first['msg']}.", Say("Correct or unset it; `farm doctor` checks them all.")
        ) from None
    except OSError as error:
        raise BadRequest(
            f"{error.filename}: {error.strerror}.", Say("Correct or unset the FARM_*_FILE name.")
        ) from None


def local(home: Path) -> Json | None:
    """Return what run/farm.json says, without asking whether that farm still answers."""
    with suppress(OSError, ValueError):
        facts = json.loads((home / "run" / "farm.json").read_text("utf-8"))
        if isinstance(facts, dict) and {"url", "cli_key"} <= facts.keys():
            return facts
    return None


def elsewhere(url: str | None = None) -> str:
    """Return the URL of --server or FARM_SERVER; nothing where that is this home's own farm.

    Raises:
        BadRequest: it is no URL.
    """
    settings = config()
    named = (url or settings.server).rstrip("/")
    if named and not named.startswith(("http://", "https://")):
        raise BadRequest(f"{named} is not an http:// or https:// URL.", Say("Correct --server."))
    here = local(settings.home)
    return "" if here and here["url"] == named else named


def only_here(command: str) -> None:
    """Say of a command that is about this machine that it does not follow FARM_SERVER."""
    with suppress(BadRequest):  # the command itself says what is wrong with the settings
        if url := elsewhere():
            say(f"`farm {command}` is about this machine alone, not about FARM_SERVER ({url}).")


@contextmanager
def connected(url: str | None = None, *, embed: int | None = None) -> Iterator[Client]:
    """Yield the farm named, or the one of this home, or one started for us that is stopped after.

    `embed`: workers of a farm we may start; None: do not start one.

    Raises:
        Unavailable: no farm runs and none may be started.
    """
    client = _find(url, may_embed=embed is not None)
    if client is None:
        client = _start(embed or 0)
    try:
        yield client
    finally:
        client.close()
        if client.own:
            _stop(client.own)


def _find(url: str | None, *, may_embed: bool) -> Client | None:
    settings = config()
    named = (url or settings.server).rstrip("/")
    here = local(settings.home)
    if named:
        elsewhere(named)
        key = settings.api_key.get_secret_value()
        if not key and here and here["url"] == named:
            key = here["cli_key"]
        return Client(named, key)
    passing = here and here.get("passing")
    if here and (not may_embed or (not passing and _answers(here["url"]))):
        return Client(here["url"], here["cli_key"])
    if may_embed:
        return None
    raise Unavailable(
        f"No farm runs on {settings.home}.",
        Say("Start one with `farm up` (or `farm up --detach`), or name one with --server."),
    )


def _answers(url: str) -> bool:
    import httpx

    try:
        return httpx.get(f"{url}/healthz", timeout=5, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _start(workers: int) -> Client:
    from orchestrator import bootstrap

    settings = config()
    waited = False
    while True:
        if not waited:
            say(f"No farm runs here; starting one for this command ({settings.home}).")
        try:
            own = bootstrap.start(settings, workers=workers, passing=True)
        except Conflict:  # another one starts, or is there for another command alone
            here = local(settings.home)
            if here and not here.get("passing") and _answers(here["url"]):
                return Client(here["url"], here["cli_key"])
            if not waited:
                say("Another command has a farm of its own on this home; waiting for its end.")
            waited = True
            time.sleep(WAIT_SECONDS)
        else:
            return Client(own.url, own.key, own=own)


def _stop(own: "Embedded") -> None:
    import signal

    kept = {n: signal.signal(n, signal.SIG_IGN) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        own.stop()
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _checked(answer: "httpx.Response") -> "httpx.Response":
    """Return the answer when it is not a refusal.

    Raises:
        Problem: it is.
    """
    if answer.is_success:
        return answer
    facts: Json = {}
    with suppress(ValueError):
        sent = answer.json()
        facts = sent if isinstance(sent, dict) else {}
    if named := answer.headers.get("X-Request-Id"):
        facts["request_id"] = named
    code = facts.get("code", "")
    if code not in EXIT_CODES and answer.status_code in BY_STATUS:
        code = BY_STATUS[answer.status_code]
    elif not code and 400 <= answer.status_code < 500:
        code = "bad_request"
    data = {
        name: value
        for name, value in facts.items()
        if name not in {"type", "title", "status", "detail", "code", "next", "also"}
    }
    raise Problem(
        code or "farm_error",
        facts.get("detail") or f"The farm answered {answer.status_code}.",
        *((UseKey(),) if code == "unauthorized" else told(facts) or NotFound.remedies),
        **data,
    )
