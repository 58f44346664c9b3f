"""dev.py: what it finds on a machine, what it says, and when it makes the environment anew."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import dev

ROOT = Path(dev.__file__).parent


def script(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """An environment whose interpreter is this one, in a checkout of its own."""
    monkeypatch.setattr(dev, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    made = dev.Environment(sys.executable)
    (made.folder / "bin").mkdir(parents=True)
    (made.folder / "bin" / "python").symlink_to(sys.executable)
    return made


@pytest.fixture
def calls(environment, monkeypatch):
    """What an environment does, without doing it."""
    found = []
    monkeypatch.setattr(environment, "_create", lambda: found.append("create"))
    monkeypatch.setattr(environment, "_install", lambda extras: found.append(tuple(extras)))
    return found


def test_help_names_every_command():
    answer = subprocess.run(
        [sys.executable, ROOT / "dev.py", "--help"], capture_output=True, text=True, check=True, cwd="/"
    )
    for name, command in dev.COMMANDS.items():
        assert f"  {name} " in answer.stdout
        assert command.__doc__
    assert set(dev.COMMANDS) == {"demo", "test", "check", "bench", "chaos", "docs", "format"}


def test_an_unknown_command_is_refused(capsys):
    with pytest.raises(SystemExit) as error:
        dev.main(["tset"])
    assert error.value.code == 2
    assert "invalid choice: 'tset'" in capsys.readouterr().err


def test_options_go_to_what_the_command_runs():
    options = dev.parser().parse_args(["test", "-k", "policy", "--database=postgresql"])
    assert options.arguments == ["-k", "policy", "--database=postgresql"]


@pytest.mark.parametrize("command", ["bench", "chaos"])
def test_the_long_ones_are_there(command):
    package = "benchmarks" if command == "bench" else command
    assert (dev.ROOT / package / "__main__.py").is_file()


def test_it_uses_the_standard_library_alone():
    code = "import sys, dev; print('\\n'.join(name.partition('.')[0] for name in sys.modules))"
    answer = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert set(answer.stdout.split()) - sys.stdlib_module_names <= {"dev", "__main__", "__mp_main__"}


def test_the_environment_is_made_once(environment, calls):
    environment.ready("dev")
    environment.ready("dev")
    assert calls == ["create", ("dev",)]


def test_a_further_extra_is_added_without_starting_over(environment, calls):
    environment.ready()
    environment.ready("dev")
    environment.ready("docs")
    assert calls == ["create", (), ("dev",), ("dev", "docs")]


def test_a_changed_project_file_makes_it_anew(environment, calls):
    environment.ready("dev")
    (dev.ROOT / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    environment.ready("dev")
    assert calls == ["create", ("dev",), "create", ("dev",)]


def test_a_broken_interpreter_makes_it_anew(environment, calls):
    environment.ready("dev")
    (environment.folder / "bin" / "python").unlink()
    environment.ready("dev")
    assert calls.count("create") == 2


def test_a_half_made_environment_has_no_stamp(environment, monkeypatch):
    monkeypatch.setattr(environment, "_create", lambda: None)

    def fails(extras):
        raise dev.Trouble("no")

    monkeypatch.setattr(environment, "_install", fails)
    with pytest.raises(dev.Trouble):
        environment.ready("dev")
    assert not (environment.folder / dev.STAMP).exists()


def test_without_ensurepip_the_environment_is_made_without_pip(environment, monkeypatch):
    monkeypatch.setattr(dev, "has_module", lambda python, module: False)
    first = next(environment._creators())
    assert "--without-pip" in first


def test_the_pip_of_the_machine_fills_an_environment(environment, tmp_path, monkeypatch):
    pip = script(tmp_path, "pip3", "echo 'pip 23.0.1 from /usr/lib (python 3.11)'")
    monkeypatch.setattr(dev, "has_module", lambda python, module: False)
    monkeypatch.setattr(dev, "interpreters", lambda: iter(()))
    monkeypatch.setattr(environment, "base", "/nowhere/python3")
    monkeypatch.setattr(dev.shutil, "which", {"pip3": str(pip)}.get)
    commands = [installer.command for installer in environment.installers()]
    assert [str(pip), "--python", environment.python, "install"] in [command[:4] for command in commands]


def test_an_old_pip_is_passed_over(environment, tmp_path, monkeypatch):
    """Before 22.3 pip fills no environment but its own."""
    script(tmp_path, "pip3", "echo 'pip 20.3.4 from /usr/lib (python 3.9)'")
    monkeypatch.setattr(dev, "interpreters", lambda: iter(()))
    monkeypatch.setattr(environment, "base", "/nowhere/python3")
    monkeypatch.setattr(dev.shutil, "which", {"pip3": str(tmp_path / "pip3")}.get)
    assert str(tmp_path / "pip3") not in [command[0] for command in environment._pips_of_the_machine()]


def test_nothing_that_installs_is_said_with_the_cure(environment, monkeypatch):
    monkeypatch.setattr(environment, "installers", lambda: iter(()))
    with pytest.raises(dev.Trouble, match=r"apt install python3-venv"):
        environment._install(["dev"])


def test_what_an_installer_said_is_shown(environment, tmp_path, monkeypatch):
    broken = script(tmp_path, "pip3", "echo 'no such package' >&2; exit 1")
    monkeypatch.setattr(environment, "installers", lambda: iter([dev.Installer("pip", [str(broken)])]))
    with pytest.raises(dev.Trouble, match="no such package"):
        environment._install(["dev"])


def test_trouble_ends_with_one_sentence_and_no_traceback(monkeypatch, capsys):
    def trouble(arguments):
        raise dev.Trouble("install uv")

    monkeypatch.setitem(dev.COMMANDS, "test", trouble)
    with pytest.raises(SystemExit) as error:
        dev.main(["test"])
    assert error.value.code == 1
    assert capsys.readouterr().err == "dev.py: install uv\n"


def test_pyenv_is_looked_into(tmp_path, monkeypatch):
    folder = tmp_path / "versions" / "3.12.1" / "bin"
    folder.mkdir(parents=True)
    script(folder, "python3.12", "echo 3 12")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    assert dev.find_interpreter((3, 12)) == str(folder / "python3.12")
    assert dev.find_interpreter((3, 13)) is None


def test_an_interpreter_that_does_not_run_is_passed_over(tmp_path, monkeypatch):
    """As a shim of pyenv for a version that is not chosen."""
    script(tmp_path, "python3.13", "echo 'pyenv: command not found' >&2; exit 127")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "none"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert dev.find_interpreter((3, 12)) is None


def test_a_missing_newer_python_is_said_loudly(monkeypatch, capsys):
    monkeypatch.setattr(dev, "find_interpreter", lambda oldest: None)
    assert dev.newest_steps() == []
    assert "SKIPPED" in capsys.readouterr().out


def test_one_failing_step_fails_all_and_hides_none(capsys):
    status = dev.run_steps(
        [
            dev.Step("first", [sys.executable, "-c", "raise SystemExit(3)"]),
            dev.Step("second", [sys.executable, "-c", "pass"]),
        ]
    )
    out = capsys.readouterr().out
    assert status == 1
    assert "FAILED" in out
    assert "second" in out


def test_the_stamp_says_what_is_installed(environment, calls):
    environment.ready("dev")
    stamp = json.loads((environment.folder / dev.STAMP).read_text())
    assert stamp == {"fingerprint": environment.fingerprint(), "extras": ["dev"]}


def test_ci_runs_the_check():
    run = ROOT / ".ci" / "run"
    assert os.access(run, os.X_OK)
    assert "exec python3 dev.py check" in run.read_text()
