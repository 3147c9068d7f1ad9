"""A real farm in processes of its own, and Debian's Chromium to look at it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    expect,
    sync_playwright,
)

from orchestrator import bootstrap
from orchestrator.bootstrap import Embedded
from orchestrator.farm.accounts import accounts, opening
from orchestrator.settings import Settings
from orchestrator.states import KeyKind
from orchestrator.wiring import farm_from

SECONDS = 60
"""A worker that starts on a busy machine loads torch first."""
ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A headless browser; a laptop without one skips, CI must have it."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        missing = "there is no chromium: `apt-get install chromium`"
        if os.environ.get("CI") == "true":  # noqa: TID251 - CI is no switch of the farm
            pytest.fail(missing)
        pytest.skip(missing)
    expect.set_options(timeout=SECONDS * 1000)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=ARGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def web_farm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Embedded]:
    """A farm as `farm up` starts it: broker, web, dispatcher and a worker with the fake model."""
    home = tmp_path_factory.mktemp("house")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FARM_HOME", str(home))
        patch.setenv("FARM_FAKE_MODEL", "1")
        patch.setenv("FARM_THREADS", "1")
        farm = bootstrap.start(Settings())
    try:
        yield farm
    finally:
        farm.stop()


@pytest.fixture
def link(web_farm: Embedded) -> str:
    """A fresh one-time sign-in link, as `farm up` prints it."""
    core = farm_from(Settings(home=web_farm.home, fake_model=True), upgrade=False)
    owner = accounts.first(core).id
    token = opening.replace_key(core, account_id=owner, kind=KeyKind.SIGNIN, name="browser test")
    core.store.close()  # type: ignore[attr-defined]  # the port has no close: only owners close
    return f"{web_farm.url}/sign-in/{token}"


@pytest.fixture
def complaints() -> list[str]:
    """Complaints of the browser: broken scripts, blocked resources, missing files."""
    return []


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """A window that knows nothing yet."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.set_default_timeout(SECONDS * 1000)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext, complaints: list[str], link: str) -> Page:
    """A page that is signed in."""

    def listen(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    page = context.new_page()
    page.on("console", listen)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(link)
    return page


@pytest.fixture
def plain_page(chromium: Browser, link: str) -> Iterator[Page]:
    """A signed-in page of a browser without JavaScript."""
    context = chromium.new_context(java_script_enabled=False)
    context.set_default_timeout(SECONDS * 1000)
    page = context.new_page()
    page.goto(link)
    yield page
    context.close()


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    """The folder of downloaded files."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    return folder
