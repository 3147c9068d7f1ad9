"""docker/ against the code: nothing it names may be missing. No container is built here."""

import hashlib
import importlib.util
import re
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.settings import Settings

ROOT = Path(__file__).parent.parent
DOCKER = ROOT / "docker"
BIN = Path(sys.executable).parent
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("web", "dispatcher", "worker-cpu", "worker-gpu")
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))


def farm_names(text: str) -> set[str]:
    """Return the FARM_* names in a text."""
    return set(re.findall(r"\bFARM_[A-Z_]+\b", text))


def compose_reads(text: str) -> str:
    """Return a value with each `${NAME:-default}` as compose fills it in where NAME is not set."""
    return re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", text)


def python_command(argv: list[str]) -> tuple[str, list[str]]:
    """Return the module that a `python -m` command runs, and its arguments."""
    assert argv[:2] == ["python", "-m"], argv
    return argv[2], argv[3:]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_has_no_complaint(dockerfile: Path) -> None:
    """Every Dockerfile passes hadolint without an ignored rule."""
    linter = BIN / "hadolint"
    found = subprocess.run(
        [linter, "--no-color", dockerfile], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stdout
    assert "hadolint ignore" not in dockerfile.read_text()


@pytest.mark.parametrize(
    "path",
    [*DOCKERFILES, DOCKER / "compose.yaml", DOCKER / "README.md"],
    ids=lambda path: path.name,
)
def test_every_setting_exists(path: Path) -> None:
    """Every FARM_* that docker/ names is a field of Settings."""
    known = {f"FARM_{name.upper()}" for name in Settings.model_fields}
    assert farm_names(path.read_text()) <= known


def test_every_secret_of_a_service_is_given_to_it() -> None:
    """A path under /run/secrets is a secret of that service, and every secret has its file."""
    for name, service in SERVICES.items():
        named = set(re.findall(r"/run/secrets/([a-z_.]+)", yaml.safe_dump(service)))
        assert named <= set(service.get("secrets", ())), name
        assert set(service.get("secrets", ())) <= set(COMPOSE["secrets"]), name


def test_no_secret_is_written_down() -> None:
    """No value of compose.yaml is a password: what is secret comes by file."""
    for service in SERVICES.values():
        for key in service.get("environment", {}):
            if re.search("KEY|TOKEN|PASSWORD|DATABASE_URL|BROKER_URL", key):
                assert key.endswith("_FILE"), key


def test_the_secrets_script_makes_what_compose_reads(tmp_path: Path) -> None:
    """secrets.sh writes every secret, closed to other users, and the URLs have the passwords."""
    folder = tmp_path / "secrets"
    script = ["sh", DOCKER / "secrets.sh", folder]
    subprocess.run(script, check=True, capture_output=True)
    made = {path.name: path.read_text().strip() for path in folder.iterdir()}
    assert set(made) == {Path(s["file"]).name for s in COMPOSE["secrets"].values()}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert made["postgres_password"] in made["database_url"]
    assert made["valkey_password"] in made["broker_url"]
    assert made["valkey.conf"] == f"requirepass {made['valkey_password']}"
    assert len(set(made.values())) == len(made)
    again = subprocess.run(script, check=False, capture_output=True)
    assert again.returncode == 1, "it never overwrites secrets that are in use"


def test_the_urls_of_the_secrets_name_services() -> None:
    """The hosts and ports in secrets.sh and in compose.yaml are services and where they listen."""
    script = (DOCKER / "secrets.sh").read_text()
    hosts = set(re.findall(r"@([a-z]+):\d+", script))
    server = SERVICES["worker-cpu"]["environment"]["FARM_SERVER"]
    assert hosts == {"postgres", "valkey"} <= set(SERVICES)
    assert server == "http://web:8080"
    assert any(arg.endswith(":8080") for arg in SERVICES["web"]["command"])


def test_settings_read_the_secret_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every FARM_*_FILE of compose.yaml fills the setting it belongs to."""
    wanted = {
        key for name in OURS for key in SERVICES[name]["environment"] if key.endswith("_FILE")
    }
    for key in wanted:
        path = tmp_path / key
        path.write_text(f"redis://{_digest(key)}/0\n")
        monkeypatch.setenv(key, str(path))
    read = Settings()
    for key in wanted:
        field = key.removeprefix("FARM_").removesuffix("_FILE").lower()
        assert getattr(read, field).get_secret_value() == f"redis://{_digest(key)}/0"


def _digest(name: str) -> str:
    """Return what looks like a secret and is one name's."""
    return hashlib.sha256(name.encode()).hexdigest()


def test_web_runs_an_app_that_exists() -> None:
    """gunicorn knows every option given to it, and the app it is to load can be called."""
    from gunicorn.config import Config

    for command in (SERVICES["web"]["command"], _cmd(DOCKER / "control.Dockerfile")):
        program, target, *options = command
        assert program == "gunicorn"
        given = Config().parser().parse_args([target, *options])
        assert given.config == "python:web.serving"
        module, call = target.split(":")
        assert call == "create_app()"
        assert callable(importlib.import_module(module).create_app)


@pytest.mark.parametrize("name", ["dispatcher", "worker-cpu", "worker-gpu"])
def test_every_module_that_is_run_exists(name: str) -> None:
    """`python -m` of a service names a module of ours."""
    module, _ = python_command(SERVICES[name]["command"])
    assert module.split(".")[0] in {"orchestrator", "workers"}
    assert importlib.util.find_spec(module)


def test_the_worker_takes_the_options_it_is_given() -> None:
    """Every option of the workers' commands is in `python -m workers.entry --help`."""
    given = {
        option
        for name in ("worker-cpu", "worker-gpu")
        for option in python_command(SERVICES[name]["command"])[1]
        if option.startswith("--")
    }
    answer = subprocess.run(
        [sys.executable, "-m", "workers.entry", "--help"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert given <= set(re.findall(r"--[a-z-]+", answer.stdout)), answer.stdout


def test_no_command_names_a_queue() -> None:
    """A worker learns its queues from hello, so none is named where it could be wrong."""
    for service in SERVICES.values():
        assert not {"-Q", "--queues"} & set(service.get("command", ()))


def test_health_checks_ask_routes_that_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The URL of web's health check is a route of the app."""
    from orchestrator.settings import settings
    from web.app import create_app

    path = re.findall(r'http://127\.0\.0\.1:8080(/[^"]*)"', str(SERVICES["web"]["healthcheck"]))
    monkeypatch.setenv("FARM_HOME", str(tmp_path))
    settings.cache_clear()
    try:
        routes = {rule.rule for rule in create_app().url_map.iter_rules()}
    finally:
        settings.cache_clear()
    assert path == ["/healthz"]
    assert set(path) <= routes


def test_the_first_key_opens_the_farm(tmp_path: Path) -> None:
    """key.py prints a live admin key and a sign-in link that the pages serve, as often as asked."""
    from orchestrator.farm.accounts import keys
    from orchestrator.wiring import farm_from

    environment = {"FARM_HOME": str(tmp_path), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    for _ in range(2):
        with (DOCKER / "key.py").open() as script:
            said = subprocess.run(
                [sys.executable, "-"], stdin=script, cwd=ROOT, env=environment,
                capture_output=True, text=True, check=True,
            ).stdout  # fmt: skip
    key, link = said.split()
    farm = farm_from(Settings(home=tmp_path))
    assert keys.resolve(farm, key).kind == "admin"
    assert link.startswith("/sign-in/")
    assert keys.redeem_signin(farm, link.removeprefix("/sign-in/"))


@pytest.mark.slow(10)
def test_web_passes_its_own_health_check(tmp_path: Path) -> None:
    """compose.yaml's command for web, run here on SQLite, answers compose.yaml's health check."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    subprocess.run(["sh", DOCKER / "secrets.sh", tmp_path / "secrets"], check=True)
    environment = {
        key: compose_reads(value).replace("/run/secrets", str(tmp_path / "secrets"))
        for key, value in SERVICES["web"]["environment"].items()
        if key != "FARM_DATABASE_URL_FILE"
    } | {"FARM_HOME": str(tmp_path / "home"), "PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(tmp_path)}
    command = [
        arg.replace("0.0.0.0:8080", f"127.0.0.1:{port}") for arg in SERVICES["web"]["command"]
    ]
    check = [arg.replace(":8080", f":{port}") for arg in SERVICES["web"]["healthcheck"]["test"][1:]]
    log = tmp_path / "log"
    with log.open("w") as out:
        web = subprocess.Popen(
            [BIN / command[0], *command[1:]], cwd=ROOT, env=environment, stdout=out, stderr=out
        )
    try:
        for _ in range(100):
            asked = subprocess.run(
                [BIN / check[0], *check[1:]], check=False, capture_output=True, timeout=20
            )
            if asked.returncode == 0 or web.poll() is not None:
                break
            time.sleep(0.2)
        assert asked.returncode == 0, log.read_text()[-2000:]
    finally:
        web.terminate()
        assert web.wait(20) == 0


def test_who_is_waited_for_can_be_healthy() -> None:
    """Whoever is waited for as `service_healthy` has a health check, and no image floats."""
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}
            assert "healthcheck" in SERVICES[other], (name, other)
        assert not service["image"].endswith(":latest")


def test_our_containers_have_few_rights() -> None:
    """Ours run as nobody in particular, without capabilities, on a root they cannot write."""
    for name in OURS:
        service = SERVICES[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["restart"] == "unless-stopped"
    for dockerfile in DOCKERFILES:
        assert re.findall(r"^USER (\d+)$", dockerfile.read_text(), re.M) == ["10001"]


def test_workers_reach_neither_sql_nor_the_world() -> None:
    """A worker gets no database URL and sits on the network that leads nowhere else."""
    for name in ("worker-cpu", "worker-gpu"):
        assert "FARM_DATABASE_URL_FILE" not in SERVICES[name]["environment"]
        assert SERVICES[name]["networks"] == ["back"]
    assert COMPOSE["networks"]["back"]["internal"] is True


def test_webhooks_have_a_way_out() -> None:
    """The dispatcher, which sends them, is on a network that leads somewhere."""
    assert set(SERVICES["dispatcher"]["networks"]) == {"front", "back"}


def test_web_never_gets_the_broker() -> None:
    """The request path cannot publish: web knows no broker URL."""
    assert "FARM_BROKER_URL_FILE" not in SERVICES["web"]["environment"]


def test_the_images_install_extras_that_exist() -> None:
    """The extras in the Dockerfiles are pyproject's, and the control plane's have no torch."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installed = {
        path.name: re.findall(r'pip install .*"\.\[([a-z0-9,]+)\]"', path.read_text())
        for path in DOCKERFILES
    }
    extras = {name: set(found[0].split(",")) for name, found in installed.items()}
    assert all(found <= set(project["optional-dependencies"]) for found in extras.values())
    assert "worker" in extras["worker.Dockerfile"]
    assert "worker" not in extras["control.Dockerfile"]
    assert not any("torch" in one for one in project["dependencies"])


def test_an_installed_farm_has_its_models() -> None:
    """The wheel puts models/ where `catalog.bundled_models` looks: beside the packages."""
    from orchestrator import catalog

    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["force-include"] == {"models": "models"}
    assert catalog.bundled_models() == ROOT / "models"


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_what_is_copied_is_there_and_not_ignored(dockerfile: Path) -> None:
    """Every COPY from the context names a file of the repository that .dockerignore lets in."""
    ignore = dockerfile.with_name(dockerfile.name + ".dockerignore").read_text().split()
    for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile.read_text(), re.M):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignore, source


def _cmd(dockerfile: Path) -> list[str]:
    found = re.findall(r"^CMD (\[.*?\])$", dockerfile.read_text(), re.M | re.S)
    argv: list[str] = yaml.safe_load(found[-1].replace("\\\n", ""))
    return argv


def test_the_dispatcher_has_the_files_that_web_has() -> None:
    """It removes those that have expired, and would find none in a volume of its own."""
    assert SERVICES["dispatcher"]["volumes"] == SERVICES["web"]["volumes"]
