"""A real browser before the demo: Debian's chromium or another; where there is none, the tests are skipped loudly."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
PATIENCE = 60.0


def browser_path() -> str:
    named = os.environ.get("DJM_BROWSER", "")
    return named or next(filter(None, map(shutil.which, BROWSERS)), "") or ""


def lacking() -> str:
    """Return the name of a missing requirement of these tests, or an empty text."""
    if importlib.util.find_spec("playwright") is None:
        return "the Python package playwright is not installed (it is in the extra 'dev')"
    if not browser_path():
        return "no Chromium is found (apt-get install chromium, or name one in DJM_BROWSER)"
    return ""


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if why := lacking():
        terminalreporter.write_line(f"NO BROWSER TESTS WERE RUN: {why}", red=True, bold=True)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The demo in a process of its own; gives the simulator's address."""
    if why := lacking():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("demo")
    out = folder / "out.txt"
    with out.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-u", "-m", "djmessenger", "demo", "--port=0", f"--folder={folder}"],
            env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONUNBUFFERED": "1"},
            stdout=sink,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )
        try:
            yield _address(process, out)
        finally:
            process.terminate()
            process.wait(timeout=20)


def _address(process: subprocess.Popen[bytes], out: Path) -> str:
    """Wait until the visit is over."""
    while True:
        said = out.read_text(encoding="utf-8", errors="replace")
        found = re.search(r"Chat with it: (http://\S+)", said)
        if found and "Stop with Ctrl-C" in said:
            return found.group(1)
        try:
            process.wait(timeout=0.1)
        except subprocess.TimeoutExpired:
            continue
        pytest.fail(f"The demo ended with {process.returncode}:\n{out.read_text(encoding='utf-8')}")


@pytest.fixture(scope="module")
def browser(demo: str) -> Iterator[Any]:
    # By name: collecting these tests needs no browser.
    playwright = pytest.importorskip("playwright.sync_api").sync_playwright().start()
    chromium = playwright.chromium.launch(
        executable_path=browser_path(),
        args=[
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--use-fake-device-for-media-stream",
            "--use-fake-ui-for-media-stream",
        ],
    )
    try:
        yield chromium
    finally:
        chromium.close()
        playwright.stop()


Open = Callable[..., Any]


@pytest.fixture
def open_page(browser: Any, demo: str) -> Iterator[Open]:
    """Open the simulator in a window of its own; nothing may stand in its console when the test ends."""
    complaints: list[str] = []
    contexts = []

    def open_(**options: Any) -> Any:
        options = {"viewport": DESKTOP, "locale": "en-GB", "reduced_motion": "reduce", **options}
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", lambda message: _note(complaints, message.type, message.text))
        page.on("pageerror", lambda error: complaints.append(f"exception: {error}"))
        page.goto(demo)
        page.wait_for_selector(".bubble, .get-started, .intro strong")
        return page

    yield open_
    for context in contexts:
        for page in context.pages:
            # No fault is left on for the next test.
            perform(page, "fault", clear=True)
        context.close()
    assert not complaints


def _note(complaints: list[str], kind: str, text: str) -> None:
    if kind in {"error", "warning"}:
        complaints.append(f"{kind}: {text}")


@pytest.fixture
def page(open_page: Open) -> Any:
    """The simulator on a desktop."""
    return open_page()


def perform(page: Any, name: str, **values: Any) -> Any:
    """Send a command as the page does, without its buttons."""
    return page.evaluate(
        "([name, values]) => document.querySelector('djm-simulator').server.perform(name, values)",
        [name, values],
    )


def arrive(page: Any, name: str = "Ben Yilmaz", locale: str = "en_US") -> None:
    """Add a new person to the shop, by the dialog of the page."""
    page.get_by_role("button", name="Add a person").click()
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Locale").fill(locale)
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_text(f"as {name}", exact=True).wait_for()
    page.locator(".get-started").wait_for()


def field(page: Any) -> Any:
    return page.get_by_role("textbox", name="Message", exact=True)


def says(page: Any, text: str) -> None:
    field(page).fill(text)
    page.keyboard.press("Enter")
