"""Commands and FARM_SERVER: each follows it, or says in a sentence that it does not."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.cli import checks, destination, render
from orchestrator.cli.client import Client, config
from orchestrator.farm import Farm, jobs
from orchestrator.farm.accounts import keys
from orchestrator.settings import settings
from orchestrator.states import KeyKind
from tests.factories import Clock, Hand, account_id, submit
from tests.web.test_cli_money import Run, run

__all__ = ["run"]

Use = Callable[[KeyKind], None]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home of nobody else's, on which no farm runs."""
    monkeypatch.setenv("FARM_HOME", str(tmp_path / "nobody"))
    yield tmp_path / "nobody"
    settings.cache_clear()


@pytest.fixture
def use(web_farm: Farm, monkeypatch: pytest.MonkeyPatch) -> Use:
    """Use a new key of a kind from now on."""

    def key(kind: KeyKind) -> None:
        _, token = keys.create(web_farm, account_id=account_id(web_farm), kind=kind, name="k")
        monkeypatch.setenv("FARM_API_KEY", token)
        settings.cache_clear()

    return key


def test_status_asks_the_farm_that_is_named(run: Run, use: Use, home: Path) -> None:
    """An admin key sees workers, queues and books; another one what it may, and is told so."""
    url = config().server
    told = json.loads(run("status", "--json")[1])
    assert (told["running"], told["url"], told["home"]) == (True, url, None)
    assert (told["workers"], told["processes"], told["checks"]["faults"]) == ([], None, 0)
    assert run("status")[0] == 0
    use(KeyKind.USER)
    code, out, err = run("status")
    assert (code, url in out) == (0, True)
    assert "This key may not see checks" in err
    assert not home.exists(), "it is asked over HTTP alone"


def test_a_farm_that_is_away_is_six(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--server` counts more than FARM_SERVER, and what does not answer does not run."""
    code, out, err = run("status", "--json", "--server", "http://127.0.0.1:9")
    assert code == 6
    assert json.loads(out) == {"running": False, "url": "http://127.0.0.1:9", "home": None}
    assert "cannot be reached" in err
    assert run("status", "--server", "farm.example.com")[0] == 2


@pytest.mark.parametrize(
    ("words", "code"), [(("down",), 0), (("logs",), 4), (("bench", "--list"), 0)]
)
def test_what_is_local_says_so(run: Run, words: tuple[str, ...], code: int) -> None:
    """A command about this machine says in one sentence that it does not follow FARM_SERVER."""
    found, _, err = run(*words)
    assert found == code
    assert f"`farm {words[0]}` is about this machine alone" in err
    assert config().server in err


def test_the_doctor_says_what_it_cannot_look_at(
    run: Run, use: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks the farm that is named, and leaves that farm's machine to a doctor there."""
    [found] = checks._server()
    assert (found.state, "run `farm doctor` there" in found.found) == ("ok", True)
    assert "its books hold" in found.found
    use(KeyKind.USER)
    [found] = checks._server()
    assert (found.state, "run `farm doctor` there" in found.found) == ("ok", True)
    for name, value, says in (
        ("FARM_API_KEY", "wrong", "FARM_API_KEY"),
        ("FARM_SERVER", "http://127.0.0.1:9", "Check the URL"),
    ):
        monkeypatch.setenv(name, value)
        settings.cache_clear()
        [found] = checks._server()
        assert (found.state, says in found.mend) == ("broken", True)
    monkeypatch.delenv("FARM_SERVER")
    settings.cache_clear()
    assert list(checks._server()) == []


@pytest.mark.parametrize(
    "words",
    [
        ("models", "ls"),
        ("usage",),
        ("keys", "ls"),
        ("session", "ls"),
        ("account", "ls"),
        ("jobs", "ls"),
        ("worker", "ls"),
        ("people", "ls"),
        ("webhooks", "ls"),
        ("audit",),
        ("quote", "a cat"),
    ],
    ids=lambda words: words[0],
)
def test_every_other_command_follows(run: Run, home: Path, words: tuple[str, ...]) -> None:
    """Lists and quotes come from the farm that is named; nothing is started or made here."""
    code, out, _ = run(*words, "--json")
    assert code == 0
    assert json.loads(out)
    assert not home.exists()


def test_a_video_that_does_not_get_here_is_not_lost(
    run: Run, web_farm: Farm, clock: Clock, tmp_path: Path
) -> None:
    """A failure after the rendering names the job, what it cost, and how to get the file."""
    job_id = submit(web_farm).id
    Hand(web_farm, clock).work_off(gpu_ms=10)
    assert jobs.get(web_farm, None, job_id).state == "succeeded"
    (tmp_path / "folder").mkdir()
    place = destination.checked(str(tmp_path / "folder" / "x.mp4"))
    (tmp_path / "folder").rmdir()
    client = Client(config().server, config().api_key.get_secret_value())
    job = client.get(f"jobs/{job_id}")
    with pytest.raises(destination.NotKept) as lost:
        render._kept(client, job, place)
    client.close()
    assert job_id in lost.value.message
    assert "GPU-seconds were charged" in lost.value.message
    assert f"farm jobs download {job_id} -o" in lost.value.advice
