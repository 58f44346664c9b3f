"""A typed bot passes mypy and pyright, with django-stubs and without."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BOT = ROOT / "tests" / "project" / "typed_bot"
PACKAGES = [
    "asgiref",
    "django",
    "djmessenger",
    "messenger_emulator",
    "msgspec",
    "regex",
    "sqlparse",
    "urllib3",
]
STUBS = ["django-stubs", "django_stubs_ext", "regex-stubs"]
WRONG = """
from djmessenger.rules import Messaging, rule, text


@rule(text("hi"))
def greet(event: Messaging) -> int:
    return event.person.get_full_name()
"""


@pytest.fixture(scope="module", params=["django-stubs", "bare"])
def environment(request, tmp_path_factory):
    """Return the folder of a project with the typed bot, and whether its environment has the stubs."""
    project = tmp_path_factory.mktemp(request.param)
    shutil.copytree(BOT, project / "typed_bot", ignore=shutil.ignore_patterns("__pycache__"))
    # Pyright leaves out the files of an environment, so the project is beside it.
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, symlinks=True, with_pip=False)
    target = next(folder.glob("lib/python*/site-packages"))
    here = Path(next(iter(importlib.util.find_spec("django").submodule_search_locations))).parent
    for name in [*PACKAGES, *(STUBS if request.param == "django-stubs" else [])]:
        source = ROOT / "src" / name if (ROOT / "src" / name).exists() else here / name
        if source.exists():
            (target / name).symlink_to(source)
    return project, folder / "bin" / "python", request.param == "django-stubs"


def mypy(environment, module: str) -> subprocess.CompletedProcess[str]:
    project, python, has_stubs = environment
    if has_stubs:
        more = ["plugins = mypy_django_plugin.main", "[mypy.plugins.django-stubs]"]
        more += ["django_settings_module = typed_bot.settings"]
    else:
        # Without stubs every class of Django is Any.
        more = ["disallow_subclassing_any = false", "[mypy-django.*]", "ignore_missing_imports = true"]
    (project / "mypy.ini").write_text("\n".join(["[mypy]", "strict = true", *more]), encoding="utf-8")
    return run(
        ["mypy", "--config-file", "mypy.ini", "--python-executable", python, "--module", module], project
    )


def pyright(environment, module: str) -> subprocess.CompletedProcess[str]:
    project, python, _has_stubs = environment
    if run(["pyright", "--version"], project).returncode:
        pytest.skip("pyright cannot fetch its program from npm")
    config = {"include": [module.replace(".", "/") + ("" if (project / module).is_dir() else ".py")]}
    (project / "pyrightconfig.json").write_text(json.dumps(config), encoding="utf-8")
    return run(["pyright", "--pythonpath", python, "--project", "."], project)


def run(command: list[object], project: Path) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    environ["PYTHONPATH"] = os.pathsep.join([str(project), str(ROOT / "src")])
    return subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=project,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_a_typed_bot_passes(checker, environment):
    checked = "typed_bot.messenger" if checker is mypy else "typed_bot"
    answer = checker(environment, checked)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_the_person_of_an_event_has_a_type(checker, environment):
    (environment[0] / "wrong.py").write_text(WRONG, encoding="utf-8")
    answer = checker(environment, "wrong")
    assert answer.returncode == 1
    assert '"int"' in answer.stdout
