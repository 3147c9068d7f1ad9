"""Every text_input that takes a name, a prompt or an id, as functions of one text."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import yaml
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.web.evil import picture
from tests.web.evil_words import LABELS, Word

API = "/api/v1"
FORM = "multipart/form-data; boundary=edge"
Takes = Callable[[Word], bool]


@dataclass(frozen=True)
class People:
    """One client with each kind of key, and one with a user key of another account."""

    user: FlaskClient
    admin: FlaskClient
    joiner: FlaskClient
    neighbour: FlaskClient


@dataclass(frozen=True)
class TextInput:
    """One way in: how a text is sent, which are taken, and what is said of those that are."""

    send: Callable[[People, str], TestResponse]
    takes: Takes
    done: int = 202
    utf8: bool = False
    """Only text that can be written in UTF-8 can be sent at all."""
    large: bool = True
    """It has room for texts of any length."""


def prompts(word: Word) -> bool:
    """A text_input for prompts."""
    return word.prompt


def prose(word: Word) -> bool:
    """A text_input for text that may say nothing."""
    return word.prompt or word.text in LABELS.values() or not word.text.strip()


def names(most: int = 200, *, empty: bool = False) -> Takes:
    """A text_input for names of a length."""
    return lambda word: (word.name and len(word.text) <= most) or (empty and not word.text)


def nothing(_: Word) -> bool:
    """A text_input behind which there is nothing by any name of the corpus."""
    return False


def form(fields: dict[str, str], files: dict[str, tuple[str, str]] | None = None) -> bytes:
    """Return a form as a client of any skill may write it."""
    parts = [
        f'--edge\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    parts += [
        f'--edge\r\nContent-Disposition: form-data; name="{name}"; filename="{called}"\r\n'
        f"\r\n{content}\r\n"
        for name, (called, content) in (files or {}).items()
    ]
    return ("".join(parts) + "--edge--\r\n").encode()


def inputs() -> dict[str, TextInput]:
    """Return every text_input by its name."""
    return dict(
        (
            *(*_of_prompts(), *_of_storyboards(), *_of_names(), *_of_labels()),
            *(*_of_workers(), *_of_ids()),
        )
    )


def _of_prompts() -> Iterator[tuple[str, TextInput]]:
    job, video = f"{API}/jobs", "/v1/videos"
    for name, takes in (("prompt", prompts), ("negative_prompt", prose)):
        yield f"{name} of a job", TextInput(_json(job, {"prompt": "a cat"}, name), takes)
        yield (
            f"{name} of a quote",
            TextInput(_json(f"{API}/quotes", {"prompt": "a cat"}, name), takes, 200),
        )
        yield f"{name} of a video", TextInput(_json(video, {"prompt": "a cat"}, name), takes, 200)
        for path, done in ((job, 202), (video, 200)):
            yield (
                f"{name} in a form to {path}",
                TextInput(_form(path, name), takes, done, utf8=True),
            )


def _of_storyboards() -> Iterator[tuple[str, TextInput]]:
    def scene(text: str) -> list[dict[str, Any]]:
        return [{"prompt": text, "seconds": 1}]

    def as_csv(text: str) -> str:
        written = io.StringIO()
        csv.writer(written).writerows([["prompt", "seconds"], [text, "1"]])
        return written.getvalue()

    def upload(called: str, written: Callable[[str], str]) -> Callable[[People, str], TestResponse]:
        def send(people: People, text: str) -> TestResponse:
            file = (io.BytesIO(written(text).encode()), called)
            return people.user.post(f"{API}/jobs", data={"storyboard": file})

        return send

    def named(people: People, text: str) -> TestResponse:
        story = {"storyboard": (text.replace('"', "%22"), json.dumps(scene("a cat")))}
        return people.user.post(f"{API}/jobs", data=form({}, story), content_type=FORM)

    def inline(people: People, text: str) -> TestResponse:
        return people.user.post(f"{API}/jobs", json={"storyboard": scene(text)})

    def left_out(people: People, text: str) -> TestResponse:
        story = [{"prompt": "a cat", "negative_prompt": text}]
        return people.user.post(f"{API}/jobs", json={"storyboard": story})

    yield "a scene", TextInput(inline, prompts)
    yield "what a scene leaves out", TextInput(left_out, prose)
    yield (
        "a scene in JSON",
        TextInput(upload("a.json", lambda text: json.dumps(scene(text))), prompts),
    )
    yield (
        "a scene in YAML",
        TextInput(upload("a.yaml", lambda text: yaml.safe_dump(scene(text))), prompts),
    )
    yield "a scene in CSV", TextInput(upload("a.csv", as_csv), prompts, utf8=True)
    yield "a storyboard's file name", TextInput(named, _in_a_header, utf8=True, large=False)


def _of_names() -> Iterator[tuple[str, TextInput]]:
    def session(people: People, text: str) -> TestResponse:
        body = {"name": text, "budget_gpu_seconds": 1}
        return people.neighbour.post(f"{API}/sessions", json=body)

    def account(people: People, text: str) -> TestResponse:
        return people.admin.post(f"{API}/accounts", json={"name": text, "plan": "free"})

    def key(people: People, text: str) -> TestResponse:
        return people.admin.post(f"{API}/keys", json={"name": text})

    def person(people: People, text: str) -> TestResponse:
        password = "a sentence that is long"
        return people.admin.post(f"{API}/people", json={"name": text, "password": password})

    def promise(people: People, text: str) -> TestResponse:
        sent = text.encode("utf-8", "surrogatepass").decode("latin-1")
        body = {"prompt": "a cat"}
        headers = {"HTTP_IDEMPOTENCY_KEY": sent}
        return people.user.post(f"{API}/jobs", json=body, environ_overrides=headers)

    def sent(word: Word) -> bool:
        key = word.text.encode("utf-8", "surrogatepass").decode("latin-1").strip()
        return len(key) <= 200 and key.isprintable()

    small = picture(size=(8, 8))

    def character(people: People, text: str) -> TestResponse:
        data = {"name": text, "video": (io.BytesIO(small), "a.png")}
        return people.user.post("/v1/videos/characters", data=data)

    yield "a session's name", TextInput(session, names(), 201)
    yield "an account's name", TextInput(account, names(), 201)
    yield "a key's name", TextInput(key, names(), 201)
    yield "a person's name", TextInput(person, names(100), 201)
    yield "an idempotency key", TextInput(promise, sent)
    yield "a character's name", TextInput(character, names(), 200, utf8=True)


def tags(word: Word) -> bool:
    """A text_input for tags: names of one word."""
    one = not any(char.isspace() or char == "," for char in word.text.strip())
    return word.name and one and len(word.text) <= 40


def _of_labels() -> Iterator[tuple[str, TextInput]]:
    job, cat = f"{API}/jobs", {"prompt": "a cat"}

    def key(word: Word) -> bool:
        return word.name and "=" not in word.text and len(word.text) <= 64

    def value(word: Word) -> bool:
        return (prose(word) or word.name) and len(word.text) <= 512

    def pair(word: Word) -> bool:
        name, equals, rest = word.text.partition("=")
        line = name.strip().isprintable() and bool(name.strip())
        return bool(equals) and len(name) <= 64 and len(rest) <= 512 and line

    for path, done in ((job, 202), ("/v1/videos", 200)):
        yield f"a tag in {path}", TextInput(_json(path, cat, "tags", list), tags, done)
        yield f"a key in {path}", TextInput(_in_metadata(path, lambda t: {t: "v"}), key, done)
        yield f"a value in {path}", TextInput(_in_metadata(path, lambda t: {"k": t}), value, done)
        yield (
            f"tags in a form to {path}",
            TextInput(_form(path, "tags"), lambda word: not word.text, done, utf8=True),
        )
    yield "webhook_events of a job", TextInput(_json(job, cat, "webhook_events", list), nothing)
    yield "expires_at of a job", TextInput(_json(job, cat, "expires_at"), nothing)
    yield "expires_in of a job", TextInput(_json(job, cat, "expires_in"), nothing)
    for name, takes in (
        ("tag", lambda word: tags(word) or not word.text.strip()),
        ("metadata", pair),
        ("model", lambda word: len(word.text) <= 100),
        ("created_after", nothing),
        ("state", nothing),
    ):
        yield f"{name} that jobs are listed by", TextInput(_query(job, name), takes, 200)

    def relabelled(body: Callable[[str], dict[str, Any]]) -> Callable[[People, str], TestResponse]:
        def send(people: People, text: str) -> TestResponse:
            (some,) = people.user.get(job, query_string={"limit": 1}).get_json()["data"]
            return people.user.patch(f"{job}/{some['id']}", json=body(text))

        return send

    yield "another tag", TextInput(relabelled(lambda t: {"tags": [t]}), tags, 200)
    yield "another value", TextInput(relabelled(lambda t: {"metadata": {"k": t}}), value, 200)


def _in_metadata(
    path: str, said: Callable[[str], dict[str, str]]
) -> Callable[[People, str], TestResponse]:
    def send(people: People, text: str) -> TestResponse:
        return people.user.post(path, json={"prompt": "a cat", "metadata": said(text)})

    return send


def _query(path: str, name: str) -> Callable[[People, str], TestResponse]:
    def send(people: People, text: str) -> TestResponse:
        asked = quote(text.encode("utf-8", "surrogatepass"), safe="")
        return people.user.get(f"{path}?{name}={asked}")

    return send


def _of_workers() -> Iterator[tuple[str, TextInput]]:
    about: dict[str, Any] = {
        "name": "w", "host": "h", "device": "cpu", "device_class": "cpu", "memory_mb": 1,
        "kinds": ["render"], "models": ["fake"], "fingerprint": "f",
    }  # fmt: skip

    def hello(name: str, said: Callable[[str], Any]) -> Callable[[People, str], TestResponse]:
        def send(people: People, text: str) -> TestResponse:
            return people.joiner.post("/worker/v1/hello", json=about | {name: said(text)})

        return send

    for name, takes in (
        ("name", names(100)),
        ("host", names(200)),
        ("device", names(50, empty=True)),
        ("device_class", names(50, empty=True)),
        ("fingerprint", names(100, empty=True)),
    ):
        yield f"a worker's {name}", TextInput(hello(name, str), takes, 200)
    yield (
        "a worker's models",
        TextInput(hello("models", lambda t: [t]), names(100, empty=True), 200),
    )
    yield (
        "a worker's versions",
        TextInput(hello("versions", lambda t: {t: t}), names(100, empty=True), 200),
    )


def _of_ids() -> Iterator[tuple[str, TextInput]]:
    cat = {"prompt": "a cat"}
    for field in ("session_id", "extends"):
        absent = _json(f"{API}/jobs", cat, field)
        yield f"{field} of a job", TextInput(absent, lambda word: not word.text)
    yield "model of a job", TextInput(_json(f"{API}/jobs", cat, "model"), nothing)
    yield "webhook_url of a job", TextInput(_json(f"{API}/jobs", cat, "webhook_url"), _public)
    for field in ("model", "input_reference", "characters", "user", "size", "seconds"):
        yield f"{field} of a video", TextInput(_json("/v1/videos", cat, field), nothing, 200)
    webhook, url = f"{API}/webhooks", {"url": "https://hooks.example.com/"}
    yield "a webhook's URL", TextInput(_json(webhook, {}, "url"), _public, 201)
    yield "a webhook's event", TextInput(_json(webhook, url, "events", list), nothing)
    yield "a webhook's description", TextInput(_json(webhook, url, "description"), nothing)
    yield "a video to edit", TextInput(_json("/v1/videos/edits", cat, "video"), nothing)
    yield "a plan", TextInput(_json(f"{API}/accounts", {"name": "x"}, "plan", by="admin"), nothing)
    owner = _json(f"{API}/keys", {"name": "x"}, "account_id", by="admin")
    yield "a key's account", TextInput(owner, lambda word: not word.text, 201)
    bound = _json(f"{API}/keys", {"name": "x", "kind": "submit"}, "session_id", by="admin")
    yield "a key's session", TextInput(bound, nothing)
    for path in (
        "/api/v1/jobs/{}", "/api/v1/jobs/{}/video", "/api/v1/jobs/{}/events", "/api/v1/sessions/{}",
        "/api/v1/sessions/{}/ledger", "/api/v1/models/{}", "/api/v1/webhooks/{}",
        "/api/v1/accounts/{}", "/v1/videos/{}/content", "/v1/videos/characters/{}", "/v1/files/{}",
        "/v1/models/{}", "/static/{}", "/sign-in/{}", "/api/v1/shared/{}",
        "/api/v1/jobs/{}/links", "/api/v1/files/{}", "/api/v1/files/{}/content",
        "/api/v1/characters/{}", "/v1/files/{}/content",
    ):  # fmt: skip
        yield f"GET {path}", TextInput(_path("GET", path), nothing)
    for path in (
        "/api/v1/jobs/{}/cancel", "/api/v1/workers/{}/drain", "/v1/videos/{}/remix",
        "/api/v1/sessions/{}/reopen", "/api/v1/sessions/{}/default",
    ):  # fmt: skip
        yield f"POST {path}", TextInput(_path("POST", path), nothing)
    for path in (
        "/api/v1/jobs/{}", "/api/v1/keys/{}", "/api/v1/people/{}", "/v1/videos/{}",
        "/api/v1/links/{}", "/api/v1/files/{}", "/api/v1/characters/{}", "/v1/files/{}",
    ):  # fmt: skip
        yield f"DELETE {path}", TextInput(_path("DELETE", path), nothing)


def _in_a_header(word: Word) -> bool:
    """A file's name stands in a header of its part, which a line end ends."""
    return bool(word.text) and "\r" not in word.text and "\n\n" not in word.text


def _public(word: Word) -> bool:
    return word.text.startswith("https://huggingface.co/")


def _json(
    path: str,
    beside: dict[str, Any],
    field: str,
    kind: Callable[[str], Any] = str,
    by: str = "user",
) -> Callable[[People, str], TestResponse]:
    def send(people: People, text: str) -> TestResponse:
        client: FlaskClient = getattr(people, by)
        return client.post(path, json=beside | {field: [text] if kind is list else text})

    return send


def _form(path: str, name: str) -> Callable[[People, str], TestResponse]:
    def send(people: People, text: str) -> TestResponse:
        fields = form({"prompt": "a cat"} | {name: text})
        return people.user.post(path, data=fields, content_type=FORM)

    return send


def _path(method: str, path: str) -> Callable[[People, str], TestResponse]:
    def send(people: People, text: str) -> TestResponse:
        named = quote(text.encode("utf-8", "surrogatepass"), safe="")
        body = {"json": {"prompt": "a cat"}} if path.endswith("remix") else {}
        place = path.format(named)
        return people.admin.open(place, method=method, follow_redirects=True, **body)

    return send
