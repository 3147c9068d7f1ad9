"""Logs and the terminal of a running farm: a line an event, and nothing that a terminal obeys."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.web.evil_words import words
from tests.web.test_shown_words import OBEYED

LOGGING = """
import structlog
from orchestrator import logs
from orchestrator.settings import Settings
from tests.web.evil_words import words
logs.configure(Settings(log_format="{format}"))
log = structlog.get_logger()
for word in words().values():
    secret = "planted-in-a-local"
    log.warning("worker named", name=word.text[:2000], names=[word.text[:2000]])
    try:
        raise ValueError(word.text[:2000])
    except ValueError as error:
        log.error("request failed", path=word.text[:2000], exc_info=error)
"""
ROOT = Path(__file__).parent.parent.parent


BEGINS = [("console", r"\d{4}-\d\d-\d\dT"), ("json", r"\{.*\}$")]


@pytest.mark.parametrize(("kind", "begins"), BEGINS)
def test_a_log_has_a_line_for_each_event(kind: str, begins: str) -> None:
    """No text begins a line of its own, moves the cursor, or brings a local variable along."""
    program = LOGGING.format(format=kind)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert not OBEYED & set(done.stderr)
    assert "planted-in-a-local" not in done.stderr.replace('secret = "planted-in-a-local"', "")
    lines = [line for line in done.stderr.split("\n") if line]
    events = [line for line in lines if re.match(begins, line)]
    assert len(events) == 2 * len(words())
    assert all(line.startswith("    ") for line in lines if line not in events)


@pytest.mark.slow(12)
def test_a_running_farm_logs_no_terminals_commands(
    served: tuple[str, str, str], tmp_path: Path
) -> None:
    """A breach of HTTP itself is a 4xx or a closed connection, and its log line is harmless."""
    url, token, job = served
    at = urlsplit(url)
    key = f"Authorization: Bearer {token}\r\n".encode()
    for raw in (
        b"GET /\x1b[31mplanted HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-\x1b[31mplanted: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-A: \x1b]0;planted\x07\x00\r\n\r\n",
        b"\x1b[2J\x1b[Hplanted\r\n\r\n",
        b"GET / HTTP/9.\x1b[31m\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: \x1b[31m\r\n\r\n",
        b"POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\n" + key + b"Idempotency-Key: \x1b\x07\xff\r\n"
        b'Content-Type: application/json\r\nContent-Length: 19\r\n\r\n{"prompt": "a cat"}',
        b"POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\n" + key + b"Content-Length: 11\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / X",
    ):
        with socket.create_connection((at.hostname or "", at.port or 0), timeout=20) as line:
            line.sendall(raw)
            line.shutdown(socket.SHUT_WR)
            answer = line.recv(4096)
        assert not answer or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 3")), (raw, answer)
        assert b"\x1b" not in answer
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}) as client:
        for word in [*words().values()][::7]:
            named = word.text.encode("utf-8", "replace").decode()[:500]
            assert client.get("/api/v1/jobs", params={"after": named}).status_code < 500
            assert client.post("/api/v1/sessions", json={"name": named}).status_code < 500
        assert client.get(f"/api/v1/jobs/{job}").status_code == 200
    log = (tmp_path / "web.log").read_text(errors="replace")
    assert not OBEYED & set(log)
    assert token not in log


@pytest.mark.slow(12)
def test_the_command_line_shows_a_farms_words_and_obeys_none(
    served: tuple[str, str, str], tmp_path: Path
) -> None:
    """Prompts and names that turn lines around or look like options are shown, or refused."""
    url, token, _ = served
    env = dict(os.environ) | {  # noqa: TID251 - a child's
        "FARM_SERVER": url,
        "FARM_API_KEY": token,
        "FARM_HOME": str(tmp_path / "cli"),
    }

    def farm(*argv: str) -> tuple[int, str]:
        asked = [sys.executable, "-m", "orchestrator.cli", *argv]
        done = subprocess.run(asked, env=env, capture_output=True, cwd=tmp_path, check=False)
        said = (done.stdout + done.stderr).decode()
        assert not OBEYED & set(said), said
        assert "Traceback" not in said, said
        return done.returncode, said

    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}) as client:
        asked = {"prompt": "a cat \u202egnp.exe\n\u2028[bold]x", "seconds": 1}
        job = client.post("/api/v1/jobs", json=asked).json()["id"]
    for argv, code, has in (
        (["jobs", "show", job], 0, "\\u202egnp.exe"),
        (["jobs", "ls"], 0, "[bold]x"),
        (["quote", "\x1b[31ma cat"], 2, "U+001B"),
        (["quote", "--negative", "\x1b[31ma cat", "a cat"], 2, "U+001B"),
        (["session", "create", "\x1b[31mred", "--budget", "1"], 2, "one line"),
        (["session", "create", "a\nb", "--budget", "1"], 2, "one line"),
        (["session", "create", "--budget", "1", "--", "--output=/tmp/planted"], 0, "--output"),
        (["session", "show", "\x1b[31mred"], 4, "no session"),
        (["session", "show", "a?b/../default"], 4, ""),
        (["jobs", "show", "\x1b[31mred"], 4, "no job \\u001b"),
        (["jobs", "show", "../../../etc/passwd"], 4, ""),
    ):
        found, said = farm(*argv)
        assert (found, has in said) == (code, True), (argv, found, said)
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".mp4"] == []
