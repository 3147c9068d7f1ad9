"""Text on a terminal that has not all characters."""

import json
import subprocess
import sys

import pytest

CODE = "from orchestrator import printing; printing.speak_any_encoding(); print({!a})"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "utf-8"])
def test_every_terminal_is_told(encoding: str) -> None:
    """Signs become ASCII where a terminal lacks them, and the rest is as JSON escapes it."""
    text = '"… → ✓ é 空 🚀"'
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(text)],
        env={"PYTHONIOENCODING": encoding},
        capture_output=True,
        check=True,
    )
    shown = done.stdout.decode(encoding).strip()
    dots = "..." if encoding in ("latin-1", "ascii") else "…"
    plain = {"…": dots, "→": "->", "✓": "ok"} if encoding != "utf-8" else {}
    expected = "".join(plain.get(char, char) for char in json.loads(text))
    assert json.loads(shown) == expected
