"""dev.py: interpreters, environments and steps, with fakes for what takes minutes."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import dev

ROOT = Path(dev.__file__).parent


def program(folder: Path, name: str, text: str) -> Path:
    """Write a shell script, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


class Machine:
    """A machine whose Python and uv write their arguments to a file, and make an interpreter where one is due."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.calls = folder / "calls"
        self.calls.touch()

    def python(self, *, has_venv: bool = True) -> str:
        target = self.folder / "checkout" / ".venv" / "bin"
        probe = 'case "$*" in *ensurepip*) exit 0;; esac' if has_venv else "exit 1"
        return str(program(self.folder / "python", "python3", f"{probe}\n{self._creation(target)}"))

    def uv(self) -> None:
        target = self.folder / "checkout" / ".venv" / "bin"
        create = f'case "$1" in venv) {self._creation(target)};; *) {self._note()};; esac'
        program(self.folder / "path", "uv", create)

    def said(self) -> list[str]:
        return self.calls.read_text().splitlines()

    def _note(self) -> str:
        return f'echo "$(basename "$0") $*" >> {self.calls}'

    def _creation(self, target: Path) -> str:
        inner = target / "python"
        return (
            f"{self._note()}; /bin/mkdir -p {target}; "
            f"printf '#!/bin/sh\\necho \"inner $*\" >> {self.calls}\\nexit ${{STATUS:-0}}\\n' > {inner}; "
            f"/bin/chmod +x {inner}"
        )


@pytest.fixture
def machine(tmp_path, monkeypatch):
    (tmp_path / "checkout").mkdir()
    monkeypatch.setattr(dev, "ROOT", tmp_path / "checkout")
    monkeypatch.setattr(dev, "PROJECT", "[project]\n")
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}:/usr/bin:/bin")
    monkeypatch.setattr(dev.shutil, "which", lambda name, path=None: _which(tmp_path / "path" / name))
    return Machine(tmp_path)


def _which(path: Path) -> str | None:
    return str(path) if path.exists() else None


def test_help_names_every_command():
    answer = subprocess.run(
        [sys.executable, ROOT / "dev.py", "--help"], capture_output=True, text=True, check=True, cwd="/"
    )
    assert set(dev.COMMANDS) == {"demo", "test", "check", "bench", "chaos", "docs", "format", "lock", "sbom"}
    for name in dev.COMMANDS:
        assert f"\n{name} " in answer.stdout


@pytest.mark.parametrize("words", [[], ["tset"]])
def test_without_a_known_command_the_usage_is_shown(words, capsys):
    assert dev.main(words) == 2
    assert "Usage: python3 dev.py COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["demo", "test", "bench", "chaos", "docs", "format"])
def test_arguments_are_passed_on(command, monkeypatch):
    seen = []
    monkeypatch.setattr(dev, "run", lambda arguments, *rest, **named: seen.append(arguments) or 0)
    assert dev.main([command, "--some", "words"]) == 0
    assert all(arguments[-2:] == ["--some", "words"] for arguments in seen)
    assert len(seen) == (2 if command == "format" else 1)


def test_it_needs_the_standard_library_alone_and_is_short():
    code = "import sys, dev; print('\\n'.join(name.partition('.')[0] for name in sys.modules))"
    answer = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert set(answer.stdout.split()) - sys.stdlib_module_names <= {"dev", "__main__", "__mp_main__"}
    assert len((ROOT / "dev.py").read_text().splitlines()) < 250


def test_venv_and_its_pip_make_the_environment(machine):
    machine.uv()
    environment = dev.Environment(machine.python())
    assert environment.ready(["dev"]) == str(dev.ROOT / ".venv" / "bin" / "python")
    create, fill = machine.said()
    assert create == f"python3 -m venv {dev.ROOT / '.venv'}"
    assert fill.startswith("inner -m pip install ")
    assert fill.endswith(f"--editable {dev.ROOT}[dev]")


def test_without_venv_uv_makes_the_environment(machine):
    machine.uv()
    python = machine.python(has_venv=False)
    dev.Environment(python, pins=["Django==5.2"]).ready(["dev", "docs"])
    create, fill = machine.said()
    assert create == f"uv venv --quiet --python {python} {dev.ROOT / '.venv'}"
    assert fill.startswith(f"uv pip install --python {dev.ROOT / '.venv' / 'bin' / 'python'} ")
    assert fill.endswith(f"--editable {dev.ROOT}[dev,docs] Django==5.2")


def test_without_venv_and_uv_one_error_names_the_cure(machine):
    python = machine.python(has_venv=False)
    with pytest.raises(dev.Trouble) as error:
        dev.Environment(python).ready(["dev"])
    assert str(error.value) == (f"dev.py: {python} has no venv, and uv is missing; apt install python3-venv")
    assert machine.said() == []


def test_the_environment_of_the_check_gets_the_locked_versions_with_their_hashes(machine):
    (dev.ROOT / "constraints.txt").write_text("a==1\n")
    dev.Environment(machine.python()).ready(["dev", "docs"])
    _create, packages, own = machine.said()
    assert packages.endswith(f"--require-hashes --requirement {dev.ROOT / 'constraints.txt'}")
    assert own.endswith(f"--no-deps --no-build-isolation --editable {dev.ROOT}")
    (dev.ROOT / "constraints.txt").write_text("a==2\n")
    dev.Environment(machine.python()).ready(["dev", "docs"])
    assert len(machine.said()) == 6
    dev.Environment(machine.python(), pins=["Django==6.1.*"]).ready(["dev", "docs"])
    assert "--require-hashes" not in "".join(machine.said()[6:])


def test_an_error_is_one_line_without_a_traceback(tmp_path):
    code = "import dev; raise dev.Trouble('dev.py: install uv')"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (answer.returncode, answer.stderr) == (1, "dev.py: install uv\n")


def test_a_failed_installation_leaves_no_stamp(machine, monkeypatch):
    monkeypatch.setenv("STATUS", "3")
    environment = dev.Environment(machine.python())
    with pytest.raises(dev.Trouble, match=r"this command failed: .*pip install"):
        environment.ready(["dev"])
    monkeypatch.setenv("STATUS", "0")
    before = len(machine.said())
    environment.ready(["dev"])
    assert len(machine.said()) == before + 2


def test_the_environment_is_made_once(machine):
    python = machine.python()
    dev.Environment(python).ready(["dev", "docs"])
    before = machine.said()
    dev.Environment(python).ready(["docs"])
    dev.Environment(python).ready([])
    assert machine.said() == before


def test_a_missing_extra_makes_it_anew_with_the_earlier_ones(machine):
    python = machine.python()
    dev.Environment(python).ready(["dev"])
    (dev.ROOT / ".venv" / "old").touch()
    dev.Environment(python).ready(["docs"])
    assert machine.said()[-1].endswith(f"{dev.ROOT}[dev,docs]")
    assert not (dev.ROOT / ".venv" / "old").exists()


@pytest.mark.parametrize("change", ["project", "pins", "interpreter"])
def test_a_change_makes_it_anew(machine, monkeypatch, change):
    python = machine.python()
    dev.Environment(python).ready(["dev"])
    if change == "project":
        monkeypatch.setattr(dev, "PROJECT", "[project]\nname = 'x'\n")
    elif change == "interpreter":
        (dev.ROOT / ".venv" / "bin" / "python").unlink()
    dev.Environment(python, pins=["Django==6.1.*"] if change == "pins" else []).ready(["dev"])
    assert len(machine.said()) == 4


def test_interpreters_of_pyenv_come_before_those_of_the_path(tmp_path, monkeypatch):
    own = program(tmp_path / "pyenv" / "versions" / "3.12.1" / "bin", "python3.12", "")
    program(tmp_path / "shims", "python3.12", "exit 127")
    other = program(tmp_path / "shims", "python3.13", "")
    program(tmp_path / "shims", "python3.10", "")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setenv("PATH", str(tmp_path / "shims"))
    assert dev.interpreters() == {12: str(own), 13: str(other)}


def test_an_old_python_starts_the_newest_one(monkeypatch):
    class Started(Exception):
        """The end of the old process."""

    def start(path, arguments):
        raise Started(path, arguments)

    monkeypatch.setattr(dev.sys, "version_info", (3, 9, 18))
    monkeypatch.setattr(dev.sys, "argv", ["dev.py", "test"])
    monkeypatch.setattr(dev.os, "execv", start)
    monkeypatch.setattr(dev, "interpreters", lambda: {11: "/a/python3.11", 13: "/b/python3.13"})
    with pytest.raises(Started) as error:
        dev.main(["test"])
    assert error.value.args == ("/b/python3.13", ["/b/python3.13", "dev.py", "test"])


def test_an_old_python_alone_is_one_clear_error(monkeypatch):
    monkeypatch.setattr(dev.sys, "version_info", (3, 9, 18))
    monkeypatch.setattr(dev, "interpreters", dict)
    with pytest.raises(dev.Trouble, match=r"Python 3\.11 or newer is needed"):
        dev.main(["test"])


def names(steps) -> list[str]:
    return [step.name for step in steps]


def test_the_quick_check_is_one_python_and_both_databases(monkeypatch, tmp_path):
    (tmp_path / "checkout").mkdir()
    monkeypatch.setattr(dev, "ROOT", tmp_path / "checkout")
    steps = dev.quick_steps()
    assert names(steps) == [
        "format", "lint", "types", "layers", "migrations", "docs", "tests on SQLite", "tests on PostgreSQL",
        "tests on SQLite, local times", "tests on PostgreSQL, local times",
    ]  # fmt: skip
    assert {step.environment for step in steps} == {dev.MAIN}
    assert not [word for step in steps for word in step.arguments if "cov" in word or "ignore" in word]


def test_the_contract_is_checked_when_its_checker_is_beside_the_checkout(monkeypatch, tmp_path):
    (tmp_path / "checkout").mkdir()
    checker = program(tmp_path / "papers" / "contract", "check_contract.py", "")
    monkeypatch.setattr(dev, "ROOT", tmp_path / "checkout")
    (step,) = [step for step in dev.quick_steps() if step.name == "contract"]
    assert step.arguments == [str(checker), "--strict", "--path", "src"]


def test_the_full_check_adds_versions_lowest_versions_and_chaos(monkeypatch):
    monkeypatch.setattr(dev, "interpreters", lambda: {11: "/a/python3.11", 13: "/b/python3.13"})
    steps = dev.full_steps()
    quick = dev.quick_steps()
    assert names(steps)[: len(quick)] == names(quick)
    assert names(steps)[len(quick) :] == [
        "tests on SQLite, Python 3.11, Django 5.2",
        "tests on PostgreSQL, Python 3.11, Django 5.2",
        "SKIPPED, not found, Python 3.12, Django 6.0",
        "tests on SQLite, Python 3.13, Django 6.1",
        "tests on PostgreSQL, Python 3.13, Django 6.1",
        "SKIPPED, not found, Python 3.14, Django 6.1",
        "tests on SQLite, lowest versions",
        "tests on PostgreSQL, lowest versions",
        "chaos on sqlite",
        "chaos on postgresql",
        "chaos on postgresql --dispatcher=embedded",
        "chaos on postgresql --dispatcher=celery",
    ]
    newest = next(step.environment for step in steps if step.name.endswith("SQLite, Python 3.13, Django 6.1"))
    assert (newest.base, newest.folder.name, newest.pins) == (
        "/b/python3.13",
        ".venv-3.13",
        ["Django==6.1.*"],
    )
    assert "--cov" in next(step.arguments for step in steps if step.name == "tests on SQLite")


def test_the_lowest_versions_are_those_of_the_project(monkeypatch):
    monkeypatch.setattr(dev, "interpreters", dict)
    pins = next(step.environment.pins for step in dev.full_steps() if "lowest" in step.name)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"]]
    for extra in ("celery", "cryptography", "re2", "tasks", "postgresql"):
        lines += project["optional-dependencies"][extra]
    assert pins == [line.partition(",")[0].replace(">=", "==") for line in lines]
    assert all(pin.count("==") == 1 for pin in pins), "the lower bound comes first"


def test_every_supported_django_and_python_is_in_the_full_check():
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    versions = {line.rpartition(" ")[2] for line in classifiers if "." in line}
    assert versions <= {*dev.DJANGO.values(), *(f"3.{minor}" for minor in dev.DJANGO)}


def test_words_choose_steps(monkeypatch):
    seen = []
    monkeypatch.setattr(dev, "run_steps", lambda steps: seen.extend(names(steps)) or 0)
    dev.main(["check", "Lint", "types"])
    assert seen == ["lint", "types"]
    with pytest.raises(dev.Trouble, match="lnit"):
        dev.main(["check", "lnit"])


def test_a_failed_step_and_a_missing_environment_hide_no_other(monkeypatch, capsys):
    def run(arguments, environment):
        if arguments == ["trouble"]:
            raise dev.Trouble("dev.py: install uv")
        return int(arguments[0])

    monkeypatch.setattr(dev, "run", run)
    assert dev.run_steps([dev.Step("a", ["2"]), dev.Step("b", ["trouble"]), dev.Step("c", ["0"])]) == 1
    summary = capsys.readouterr().out.partition("== summary")[2]
    assert [line.partition(" s  ")[2] for line in summary.split("\n")[1:4]] == [
        "a: FAILED",
        "b: FAILED, dev.py: install uv",
        "c: ok",
    ]
    assert dev.run_steps([dev.Step("c", ["0"])]) == 0


def test_a_run_has_the_seed_and_the_tests_have_the_development_mode(machine, monkeypatch):
    environment = dev.Environment(machine.python())
    environment.ready([])
    script = f'echo "$* seed=$PYTHONHASHSEED mode=$PYTHONDEVMODE" >> {machine.calls}; exit 4'
    program(Path(environment.python).parent, "python", script)
    monkeypatch.delenv("PYTHONDEVMODE", raising=False)
    assert dev.run(["-m", "pytest", "x"], environment, extras=()) == 4
    assert dev.run(["-m", "mypy"], environment, extras=()) == 4
    assert machine.said()[-2:] == [f"-m pytest x seed={dev.SEED} mode=1", f"-m mypy seed={dev.SEED} mode="]


def test_ci_runs_the_check():
    run = ROOT / ".ci" / "run"
    assert os.access(run, os.X_OK)
    assert "exec python3 dev.py check" in run.read_text()
