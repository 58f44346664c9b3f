"""The wheel holds all that runs without a checkout: pages, pictures, languages, migrations, the demo, types."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src"
BUILD = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel as pip would build it, by the backend itself: nothing is downloaded."""
    pytest.importorskip("hatchling", reason="hatchling is not installed (it is in the extra 'dev')")
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-c", BUILD, str(folder)], cwd=ROOT, check=True, capture_output=True)
    (found,) = folder.glob("*.whl")
    return found


def test_every_file_of_the_source_is_packed(wheel):
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
    mine = {
        str(path.relative_to(SOURCE))
        for package in ("djmessenger", "messenger_emulator")
        for path in (SOURCE / package).rglob("*")
        if path.is_file() and path.suffix not in {".pyc", ".orig", ".rej"}
    }
    assert mine - names == set()
    assert {name for name in names if ".dist-info/" not in name} <= mine


@pytest.mark.parametrize(
    "name",
    [
        "py.typed",
        "migrations/0001_squashed_0003.py",
        "simulator/assets/simulator.js",
        "simulator/assets/forms.js",
        "simulator/assets/simulator.css",
        "simulator/samples.json",
        "simulator/templates/djmessenger/simulator/page.html",
        "static/djmessenger/admin.css",
        "templates/djmessenger/admin/conversation.html",
        "demo/messenger.py",
        "demo/migrations/0001_initial.py",
        "demo/static/shop/chai.jpg",
        "demo/locale/de/LC_MESSAGES/django.mo",
        "demo/locale/zh_Hant/LC_MESSAGES/django.mo",
        "management/commands/djmessenger.py",
        "pytest_plugin.py",
    ],
)
def test_files_that_are_no_modules_are_packed_too(wheel, name):
    with zipfile.ZipFile(wheel) as packed:
        assert packed.getinfo(f"djmessenger/{name}").file_size or name == "py.typed"


def test_the_packed_demo_runs_without_the_checkout(wheel, tmp_path):
    """Its shop sells, its page and its scripts are found; only what it depends on comes from here."""
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(site)
    environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONIOENCODING": "utf-8"}
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    done = subprocess.run(
        [sys.executable, "-m", "djmessenger", "demo", "--once", "--port=0", f"--folder={tmp_path}"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Flat white, coming up." in done.stdout
    assert str(Path("site", "djmessenger", "demo", "messenger.py")) in done.stdout
    assert "Willkommen, Jonas!" in done.stdout
    assert "怡君，歡迎！" in done.stdout
