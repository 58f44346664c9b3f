#!/usr/bin/env python3
"""One command each: ``python3 dev.py demo``, ``test``, ``check``, ``bench``, ``chaos``, ``docs``, ``format``.

Uses the standard library alone. The environment is ``.venv`` in the checkout: made once, used again, and
made anew when ``pyproject.toml`` changed. Nothing outside the checkout is touched.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parent
OLDEST = (3, 11)
NEWEST_DJANGO_SINCE = (3, 12)
NEWEST_DJANGO = "Django>=6,<7"
STAMP = ".djmessenger.json"


class Trouble(Exception):
    """Something is missing or failed; the text says what, and what to do."""


def say(text: str) -> None:
    print(text, flush=True)


def fail(text: str, status: int = 1) -> NoReturn:
    print(f"dev.py: {text}", file=sys.stderr, flush=True)
    raise SystemExit(status)


# ------------------------------------------------------------------------------------------ interpreters


def version_of(python: str) -> tuple[int, int] | None:
    """Give the major and minor version of an interpreter, or None when it does not run."""
    code = "import sys; print(*sys.version_info[:2])"
    try:
        answer = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=30, check=True)
        major, minor = answer.stdout.split()
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return int(major), int(minor)


def interpreters() -> Iterator[str]:
    """Name the Pythons on this machine: those on the path, then those of pyenv, newest first."""
    folders = [Path(entry) for entry in os.environ.get("PATH", "").split(os.pathsep) if entry]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    with contextlib.suppress(OSError):
        folders += sorted(pyenv.glob("*/bin"), key=lambda path: _numbers(path.parent.name), reverse=True)
    for minor in range(20, OLDEST[1] - 1, -1):
        for folder in folders:
            candidate = folder / f"python3.{minor}"
            if os.access(candidate, os.X_OK):
                yield str(candidate)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]


def find_interpreter(oldest: tuple[int, int], newest: tuple[int, int] = (3, 99)) -> str | None:
    """Give the newest interpreter in the range that runs, or None."""
    for candidate in interpreters():
        found = version_of(candidate)
        if found and oldest <= found <= newest:
            return candidate
    return None


def use_a_new_enough_python() -> None:
    """Start over under Python 3.11 or newer, when the one that runs this is older."""
    if sys.version_info[:2] >= OLDEST:
        return
    wanted = ".".join(map(str, OLDEST))
    other = find_interpreter(OLDEST)
    if other is None:
        fail(
            f"djmessenger needs Python {wanted} or newer; this is {sys.version.split()[0]}, and none was found "
            f"on the path or under ~/.pyenv.\n  Install one (Debian: apt install python3 python3-venv; "
            f"pyenv: pyenv install {wanted}) and run this again."
        )
    say(f"Python {sys.version.split()[0]} is too old; going on with {other}")
    os.execv(other, [other, *sys.argv])  # noqa: S606 - a program found on this machine, no shell


# --------------------------------------------------------------------------------------- the environment


class Installer(NamedTuple):
    """A way to put packages into an environment: its name, and the command up to the packages' names."""

    name: str
    command: list[str]


class Environment:
    """A virtual environment in the checkout, with the project installed editable."""

    def __init__(self, python: str, name: str = ".venv", pins: Sequence[str] = ()) -> None:
        self.base = python
        self.folder = ROOT / name
        self.pins = list(pins)

    @property
    def python(self) -> str:
        windows = self.folder / "Scripts" / "python.exe"
        return str(windows if windows.exists() else self.folder / "bin" / "python")

    def ready(self, *extras: str) -> Environment:
        """Make it so that the project is installed with these extras; quick when it is already."""
        stamp = self._read_stamp()
        if stamp and set(extras) <= set(stamp["extras"]):
            return self
        extras = tuple(sorted({*extras, *(stamp["extras"] if stamp else ())}))
        if stamp is None:
            self._create()
        self._install(extras)
        self._write_stamp(extras)
        return self

    def _read_stamp(self) -> dict[str, list[str]] | None:
        try:
            stamp = json.loads((self.folder / STAMP).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        fresh = stamp.get("fingerprint") == self.fingerprint() and version_of(self.python) is not None
        return stamp if fresh else None

    def _write_stamp(self, extras: Sequence[str]) -> None:
        stamp = {"fingerprint": self.fingerprint(), "extras": list(extras)}
        (self.folder / STAMP).write_text(json.dumps(stamp), encoding="utf-8")

    def fingerprint(self) -> str:
        """Give what the environment depends on, as a hash."""
        digest = hashlib.sha256((ROOT / "pyproject.toml").read_bytes())
        digest.update(repr([str(ROOT), self.pins]).encode())
        return digest.hexdigest()

    def _create(self) -> None:
        shown = self.folder.name
        if self.folder.exists():
            say(f"{shown}: out of date, made anew")
            try:
                shutil.rmtree(self.folder)
            except OSError as error:
                raise Trouble(
                    f"cannot remove {self.folder}: {error}\n  Remove it yourself, or run this as its owner."
                ) from error
        say(f"{shown}: making an environment with {self.base}")
        errors = []
        for command in self._creators():
            answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            if answer.returncode == 0:
                return
            errors.append(f"{' '.join(command)}\n{_indent(answer.stdout + answer.stderr)}")
            shutil.rmtree(self.folder, ignore_errors=True)
        raise Trouble(
            "no virtual environment could be made.\n  "
            "Debian and Ubuntu: apt install python3-venv; elsewhere: install uv or a full Python. "
            f"Is {ROOT} writable for you?\n" + "\n".join(errors)
        )

    def _creators(self) -> Iterator[list[str]]:
        if has_module(self.base, "ensurepip"):
            yield [self.base, "-m", "venv", str(self.folder)]
        yield [self.base, "-m", "venv", "--without-pip", str(self.folder)]
        uv = shutil.which("uv")
        if uv:
            yield [uv, "venv", "--quiet", "--python", self.base, str(self.folder)]

    def _install(self, extras: Sequence[str]) -> None:
        target = f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT)
        errors = []
        for installer in self.installers():
            what = f" with {', '.join(extras)}" if extras else ""
            say(f"{self.folder.name}: installing djmessenger{what} ({installer.name}); a minute or two")
            started = time.monotonic()
            command = [*installer.command, "--editable", target, *self.pins]
            answer = subprocess.run(
                command, cwd=ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
            )
            if answer.returncode == 0:
                say(f"{self.folder.name}: ready after {time.monotonic() - started:.0f} s")
                return
            errors.append(f"{' '.join(command)}\n{_indent(answer.stdout + answer.stderr)}")
        if not errors:
            raise Trouble(
                "there is no pip and no uv on this machine, so nothing can be installed.\n  "
                "Debian and Ubuntu: apt install python3-venv (or python3-pip); elsewhere: install uv, "
                "or a Python with ensurepip."
            )
        raise Trouble(
            "the packages could not be installed. Is a package index reachable, and the disk not full?\n"
            + "\n".join(errors)
        )

    def installers(self) -> Iterator[Installer]:
        """Name what can fill the environment: its own pip, the machine's pips, a pip in a wheel, uv."""
        quiet = ["install", "--quiet", "--disable-pip-version-check"]
        if has_module(self.python, "pip"):
            yield Installer("its own pip", [self.python, "-m", "pip", *quiet])
        for pip in self._pips_of_the_machine():
            yield Installer(f"pip of {pip[0]}", [*pip, "--python", self.python, *quiet])
        for wheel in sorted(Path("/usr/share/python-wheels").glob("pip-*.whl"), reverse=True):
            yield Installer(f"pip in {wheel.name}", [self.python, f"{wheel}/pip", *quiet])
        uv = shutil.which("uv")
        if uv:
            yield Installer("uv", [uv, "pip", "install", "--quiet", "--python", self.python])

    def _pips_of_the_machine(self) -> Iterator[list[str]]:
        """Name pips that can fill the environment of another interpreter, as pip 22.3 and newer can."""
        seen = set()
        pythons = [self.base, shutil.which("python3"), shutil.which("python"), "/usr/bin/python3"]
        commands = [[python, "-m", "pip"] for python in pythons if python]
        commands += [[pip] for pip in map(shutil.which, ("pip3", "pip")) if pip]
        for command in [*commands, *([python, "-m", "pip"] for python in interpreters())]:
            if tuple(command) in seen:
                continue
            seen.add(tuple(command))
            try:
                answer = subprocess.run(
                    [*command, "--version"], capture_output=True, text=True, timeout=60, check=True
                )
            except (OSError, subprocess.SubprocessError):
                continue
            if _numbers(answer.stdout)[:2] >= [22, 3]:
                yield command


def has_module(python: str, module: str) -> bool:
    """Whether an interpreter can import a module; Debian ships ``venv`` without ``ensurepip``."""
    try:
        return (
            subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode
            == 0
        )
    except OSError:
        return False


def _indent(text: str, lines: int = 25) -> str:
    return "\n".join(f"    {line}" for line in text.strip().splitlines()[-lines:])


# ---------------------------------------------------------------------------------------------- commands


class Step(NamedTuple):
    name: str
    command: list[str]
    environment: dict[str, str] = {}  # noqa: RUF012 - a NamedTuple's default; never changed


def run(command: Sequence[str], **environment: str) -> int:
    """Run a command in the checkout with its output shown, and give its exit status."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    joined = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment}
    sys.stdout.flush()
    process = subprocess.Popen(list(command), cwd=ROOT, env=joined)
    try:
        return process.wait()
    except KeyboardInterrupt:
        return process.wait() or 130


def run_steps(steps: Sequence[Step]) -> int:
    """Run all steps, whatever fails, and give 0 only when none did."""
    results = []
    for step in steps:
        seed = step.environment.get("PYTHONHASHSEED")
        say(f"\n== {step.name}{f' (DJM_HASHSEED={seed})' if seed else ''}")
        started = time.monotonic()
        status = run(step.command, **step.environment)
        results.append((step.name, status, time.monotonic() - started))
    say("\n== summary")
    for name, status, seconds in results:
        say(f"{'ok    ' if status == 0 else 'FAILED'} {seconds:6.1f} s  {name}")
    return 1 if any(status for _, status, _ in results) else 0


# Warnings of the development mode (unclosed files and sockets, ...) are errors by pytest's own settings.
# One seed for all workers of a run, another for the next, so that nothing leans on the order of a set.
STRICT = {
    "PYTHONDEVMODE": "1",
    "PYTHONHASHSEED": os.environ.get("DJM_HASHSEED", str(secrets.randbelow(2**32))),
}
WORKERS = str(min(os.cpu_count() or 1, 4))
QUICK = ["--ignore=tests/faults/test_chaos.py"]
"""All but the passes of chaos: those are made by ``check``, under one interpreter."""


def steps_of_tests(
    environment: Environment, label: str, arguments: Sequence[str] = (), *, coverage: bool = False
) -> list[Step]:
    """The tests on SQLite, then those that touch the database on a PostgreSQL of their own."""
    pytest = [environment.python, "-m", "pytest", "-n", WORKERS, *arguments]
    cover = ["--cov", "--cov-branch", "--cov-report="] if coverage else []
    report = ["--cov-append", "--cov-report=term:skip-covered"] if coverage else []
    return [
        Step(f"tests on SQLite ({label})", [*pytest, "--database=sqlite", *cover], STRICT),
        Step(
            f"tests on PostgreSQL ({label})",
            [*pytest, "--database=postgresql", *cover[:2], *report],
            STRICT,
        ),
    ]


def contract_checker() -> Path | None:
    """Find the checker of the documented API: named by DJM_CONTRACT, or in a folder beside the checkout."""
    named = os.environ.get("DJM_CONTRACT")
    found = [Path(named)] if named else sorted(ROOT.parent.glob("*/contract/check_contract.py"))
    return found[0] if found and found[0].is_file() else None


def docs_command(python: str) -> list[str]:
    return [
        python, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", "--builder", "html",
        "docs", "docs/_build/html",
    ]  # fmt: skip


def demo(arguments: Sequence[str]) -> int:
    """A small shop bot on this machine: no account, no network, no question asked."""
    environment = Environment(sys.executable).ready()
    return run([environment.python, "-m", "djmessenger", "demo", *arguments])


def test(arguments: Sequence[str]) -> int:
    """All tests but the long ones; anything after the command goes to pytest, which then runs once."""
    environment = Environment(sys.executable).ready("dev")
    if arguments:
        return run([environment.python, "-m", "pytest", *arguments], **STRICT)
    return run_steps(steps_of_tests(environment, describe(environment), QUICK))


def describe(environment: Environment) -> str:
    code = "import sys, django; print(f'Python {sys.version.split()[0]}, Django {django.__version__}')"
    answer = subprocess.run([environment.python, "-c", code], capture_output=True, text=True, check=False)
    return answer.stdout.strip() or environment.folder.name


def check(arguments: Sequence[str]) -> int:
    """Format, lint, types, layers, migrations, docs and tests: what CI runs."""
    environment = Environment(sys.executable).ready("dev", "docs")
    python = environment.python
    django = [python, "-X", "dev", "-W", "error", "-m", "django"]
    settings = ["--settings", "tests.settings"]
    steps = [
        Step("format", [python, "-m", "ruff", "format", "--check", "--output-format=concise", "."]),
        Step("lint", [python, "-m", "ruff", "check", "--output-format=concise", "."]),
        Step("types", [python, "-m", "mypy"]),
        Step("layers", [python, "-m", "pytest", "-q", "tests/test_layers.py", "tests/test_faces.py"], STRICT),
        Step("migrations", [*django, "makemigrations", "--check", "--dry-run", *settings]),
        Step("docs", docs_command(python)),
    ]
    contract = contract_checker()
    if contract:
        steps.append(Step("documented API", [python, str(contract), "--strict", "--path", str(ROOT / "src")]))
    steps += steps_of_tests(environment, describe(environment), coverage=True)
    steps += newest_steps()
    if arguments:
        steps = [step for step in steps if any(word.lower() in step.name.lower() for word in arguments)]
    if not steps:
        fail(f"no step is named like {' '.join(arguments)}", 2)
    return run_steps(steps)


def newest_steps() -> list[Step]:
    """The tests on Django 6 too, where a Python for it is on the machine; loudly said either way."""
    wanted = ".".join(map(str, NEWEST_DJANGO_SINCE))
    python = find_interpreter(NEWEST_DJANGO_SINCE)
    found = version_of(python) if python else None
    if python is None or found is None:
        say(f"\n!! SKIPPED: {NEWEST_DJANGO} needs Python {wanted} or newer, and this machine has none.\n")
        return []
    say(f"\n!! ALSO TESTED with {NEWEST_DJANGO}, since {python} is here.\n")
    name = f".venv-{found[0]}.{found[1]}"
    try:
        environment = Environment(python, name, [NEWEST_DJANGO]).ready("dev")
    except Trouble as trouble:
        say(str(trouble))
        return [Step(f"environment for {NEWEST_DJANGO}", [sys.executable, "-c", "raise SystemExit(1)"])]
    return steps_of_tests(environment, describe(environment), QUICK)


def bench(arguments: Sequence[str]) -> int:
    """The benchmarks; minutes."""
    if not (ROOT / "benchmarks" / "__main__.py").exists():
        fail("this version has no benchmarks yet.")
    environment = Environment(sys.executable).ready("dev")
    return run([environment.python, "-m", "benchmarks", *arguments])


def chaos(arguments: Sequence[str]) -> int:
    """Kill and freeze real processes under a failing Graph; minutes. --short, --seed N, --database, --dispatcher."""
    environment = Environment(sys.executable).ready("dev")
    return run(
        [environment.python, "-m", "chaos", *arguments], PYTHONPATH=f"{ROOT}{os.pathsep}{ROOT / 'src'}"
    )


def docs(arguments: Sequence[str]) -> int:
    """Build the documentation into docs/_build/html, warnings being errors."""
    environment = Environment(sys.executable).ready("docs", "dev")
    status = run([*docs_command(environment.python), *arguments])
    if status == 0:
        say(f"{ROOT / 'docs' / '_build' / 'html' / 'index.html'}")
    return status


def format(arguments: Sequence[str]) -> int:  # noqa: A001 - the command's name
    """Format the code and mend what the linter can mend."""
    environment = Environment(sys.executable).ready("dev")
    ruff = [environment.python, "-m", "ruff"]
    return run([*ruff, "check", "--fix", *(arguments or ["."])]) or run(
        [*ruff, "format", *(arguments or ["."])]
    )


COMMANDS = {function.__name__: function for function in (demo, test, check, bench, chaos, docs, format)}


def parser() -> argparse.ArgumentParser:
    lines = [f"  {name:8}{(function.__doc__ or name).splitlines()[0]}" for name, function in COMMANDS.items()]
    built = argparse.ArgumentParser(
        prog="dev.py",
        usage="python3 dev.py <command> [arguments]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="One command each; the first one makes .venv.\n\n" + "\n".join(lines),
        epilog=(
            "Arguments go to what the command runs:\n"
            "  python3 dev.py demo --help           what the demo can do\n"
            "  python3 dev.py test -k policy -x     pytest once, on SQLite\n"
            "  python3 dev.py test --database=postgresql tests/test_models.py\n"
            "  python3 dev.py check lint types      only the steps named like that\n\n"
            "Needs Python 3.11 or newer, and pip or uv in any form. To start over, remove .venv."
        ),
    )
    built.add_argument("command", choices=COMMANDS, metavar="command", help=", ".join(COMMANDS))
    built.add_argument("arguments", nargs=argparse.REMAINDER, help="passed on")
    return built


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if not words:
        parser().print_help()
        return 2
    options = parser().parse_args(words)
    use_a_new_enough_python()
    try:
        return COMMANDS[options.command](options.arguments)
    except Trouble as trouble:
        fail(str(trouble))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
