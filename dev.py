#!/usr/bin/env python3
"""Usage: python3 dev.py COMMAND [ARGUMENT ...]. The first one makes .venv, with venv and pip or with uv.

demo     start a small shop bot, to chat with in the browser; no account, no network
test     run the tests on SQLite, then on PostgreSQL; with arguments run pytest with them
check    run what CI runs; --full adds coverage, other versions, long chaos; words choose steps
bench    run the benchmarks; minutes
chaos    kill and freeze real processes under a failing Graph; minutes
docs     build the documentation into docs/_build/html
format   format the code and repair what the linter can repair
lock     write constraints.txt, the versions and hashes that check installs; --upgrade takes newer ones
sbom     write sbom.json, the parts that users of the package get, as CycloneDX
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

OLDEST = (3, 11)
if sys.version_info >= OLDEST:
    import tomllib
ROOT = Path(__file__).resolve().parent
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
TOOLS = ("dev", "docs")
NOT_LONG = ["--ignore=tests/faults/test_chaos.py"]
LOCK = "constraints.txt"
RUFF = ["-m", "ruff"]
SPHINX = ["-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", "docs", "docs/_build/html"]
# The pairs of `check --full`, by the minor version of Python: each Python and each supported Django.
DJANGO = {11: "5.2", 12: "6.0", 13: "6.1", 14: "6.1"}
# All processes of a run share a hash seed; each run has another. So no test can depend on the order of a set.
SEED = os.environ.get("DJM_HASHSEED") or str(secrets.randbelow(2**32))


class Trouble(SystemExit):
    """An end with status 1 and a message that names the cure."""


def interpreters() -> dict[int, str]:
    """Return the Pythons from 3.11 on by minor version. Those of pyenv come first, because its shims may not run."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or "~/.pyenv").expanduser()
    path = os.pathsep.join([*map(str, sorted(pyenv.glob("versions/*/bin"))), os.environ.get("PATH", "")])
    found = {minor: shutil.which(f"python3.{minor}", path=path) for minor in range(11, 20)}
    return {minor: python for minor, python in found.items() if python}


def locked() -> str:
    """Return the locked versions with their hashes, or an empty text if there are none."""
    return (ROOT / LOCK).read_text(encoding="utf-8") if (ROOT / LOCK).exists() else ""


def extras_of_users() -> list[str]:
    return [name for name in tomllib.loads(PROJECT)["project"]["optional-dependencies"] if name not in TOOLS]


class Environment:
    """A virtual environment in the checkout, with the project installed editable."""

    def __init__(self, base: str, name: str = ".venv", pins: Sequence[str] = ()) -> None:
        self.base, self.folder, self.pins = base, ROOT / name, list(pins)
        self.python = str(self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))

    def ready(self, extras: Sequence[str]) -> str:
        """Return the interpreter. Make the environment anew when pyproject changed or an extra is missing."""
        stamp = self.folder / ".djmessenger"
        made_of = [PROJECT, str(ROOT), self.pins, locked()]
        fingerprint = hashlib.sha256(repr(made_of).encode()).hexdigest()
        made_from, *installed = stamp.read_text().split() if stamp.exists() else [""]
        wanted = sorted({*extras, *installed})
        if made_from != fingerprint or wanted != installed or not os.access(self.python, os.X_OK):
            print(f"{self.folder.name}: a new environment of {self.base}, in a minute or two", flush=True)
            shutil.rmtree(self.folder, ignore_errors=True)
            for command in self._commands(wanted):
                made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
                if made.returncode:
                    failure = f"dev.py: this command failed: {' '.join(command)}"
                    raise Trouble(made.stdout + made.stderr + failure)
            stamp.write_text(" ".join([fingerprint, *wanted]))
        return self.python

    def _commands(self, extras: Sequence[str]) -> list[list[str]]:
        """Return the commands that create and fill the environment: those of venv and pip, or those of uv."""
        packages = ["--editable", f"{ROOT}[{','.join(extras)}]" if extras else str(ROOT), *self.pins]
        probe, uv = [self.base, "-c", "import ensurepip, venv"], shutil.which("uv")
        if subprocess.run(probe, stderr=subprocess.DEVNULL, check=False).returncode == 0:
            create = [self.base, "-m", "venv"]
            fill = [self.python, "-m", "pip", "install", "--disable-pip-version-check"]
        elif uv:
            create = [uv, "venv", "--quiet", "--python", self.base]
            fill = [uv, "pip", "install", "--python", self.python]
        else:
            raise Trouble(f"dev.py: {self.base} has no venv, and uv is missing; apt install python3-venv")
        if self.pins or set(extras) != set(TOOLS) or not locked():
            return [[*create, str(self.folder)], [*fill, "--quiet", *packages]]
        # An editable project has no hash, so it is installed after the packages, with the build backend among them.
        own = ["--no-deps", "--no-build-isolation", "--editable", str(ROOT)]
        return [
            [*create, str(self.folder)],
            [*fill, "--quiet", "--require-hashes", "--requirement", str(ROOT / LOCK)],
            [*fill, "--quiet", *own],
        ]


# The base is outside of .venv even when the Python of .venv runs this script, because .venv may be removed.
MAIN = Environment(getattr(sys, "_base_executable", sys.executable))


class Step(NamedTuple):
    name: str
    arguments: Sequence[str]
    environment: Environment = MAIN


def run(arguments: Sequence[str], environment: Environment = MAIN, extras: Sequence[str] = TOOLS) -> int:
    """Run the Python of an environment in the checkout, with its output shown. Return the exit status."""
    variables = {**os.environ, "PYTHONHASHSEED": SEED}
    if "pytest" in arguments:
        variables["PYTHONDEVMODE"] = "1"  # pytest turns the warnings of this mode into errors
    process = subprocess.Popen([environment.ready(extras), *arguments], cwd=ROOT, env=variables)
    try:
        return process.wait()
    except KeyboardInterrupt:
        raise SystemExit(process.wait() or 130) from None  # the process got the signal too


def run_steps(steps: Sequence[Step]) -> int:
    """Run all steps, also after a failure, and print a summary. Return 1 when a step failed, otherwise 0."""
    results = []
    for step in steps:
        print(f"\n== {step.name} (DJM_HASHSEED={SEED})", flush=True)
        started = time.monotonic()
        try:
            result = "FAILED" if run(step.arguments, step.environment) else "ok"
        except Trouble as trouble:
            result = f"FAILED, {trouble}"
        results.append(f"{time.monotonic() - started:7.1f} s  {step.name}: {result}")
    print("\n== summary", *results, sep="\n", flush=True)
    return int(any(": FAILED" in line for line in results))


def suite(label: str = "", environment: Environment = MAIN, options: Sequence[str] = NOT_LONG) -> list[Step]:
    """Return the steps of the tests: all on SQLite, and those that need a database on PostgreSQL."""
    pytest = ["-m", "pytest", "-n", str(min(os.cpu_count() or 1, 4)), *options]
    databases = {"SQLite": "--database=sqlite", "PostgreSQL": "--database=postgresql"}
    return [Step(f"tests on {name}{label}", [*pytest, it], environment) for name, it in databases.items()]


def quick_steps(*options: str) -> list[Step]:
    """Return the steps of one Python. A checker of the documented API is found beside the checkout."""
    migrations = ["makemigrations", "--check", "--dry-run", "--settings=tests.settings"]
    contract = sorted(ROOT.parent.glob("*/contract/check_contract.py"))[:1]
    return [
        Step("format", [*RUFF, "format", "--check"]),
        Step("lint", [*RUFF, "check", "--output-format=concise"]),
        Step("types", ["-m", "mypy"]),
        Step("layers", ["-m", "pytest", "-q", "tests/test_layers.py", "tests/test_faces.py"]),
        Step("migrations", ["-W", "error", "-m", "django", *migrations]),
        Step("docs", SPHINX),
        *(Step("contract", [str(checker), "--strict", "--path", "src"]) for checker in contract),
        *suite(options=options),
        *suite(", local times", options=[*options, "--local-times=Asia/Kathmandu", "tests/scenarios"]),
    ]


def full_steps() -> list[Step]:
    """Return the quick steps with coverage, then those of other versions and of long chaos."""
    steps, found, project = quick_steps("--cov"), interpreters(), tomllib.loads(PROJECT)["project"]
    for minor, django in DJANGO.items():
        label = f", Python 3.{minor}, Django {django}"
        other = Environment(found.get(minor, ""), f".venv-3.{minor}", [f"Django=={django}.*"])
        steps += suite(label, other) if other.base else [Step(f"SKIPPED, not found{label}", ["-c", ""])]
    extras = [project["optional-dependencies"][name] for name in extras_of_users()]
    pins = [line.partition(",")[0].replace(">=", "==") for line in sum(extras, project["dependencies"])]
    steps += suite(", lowest versions", Environment(found.get(11, MAIN.base), ".venv-lowest", pins))
    chaos = ("sqlite", "postgresql", "postgresql --dispatcher=embedded", "postgresql --dispatcher=celery")
    return steps + [Step(f"chaos on {it}", ["-m", "chaos", *f"--database={it}".split()]) for it in chaos]


def check(arguments: Sequence[str]) -> int:
    words = [word.lower() for word in arguments if word != "--full"]
    steps = full_steps() if "--full" in arguments else quick_steps()
    steps = [step for step in steps if not words or any(word in step.name.lower() for word in words)]
    if not steps:
        raise Trouble(f"dev.py: no step has a name like {' or '.join(words)}")
    return run_steps(steps)


def lock(arguments: Sequence[str]) -> int:
    """Write the newest versions within the bounds, for each supported Python, without the address of an index."""
    extras = [word for name in TOOLS for word in ("--extra", name)]
    options = [
        "--universal",
        "--python-version",
        "3.11",
        "--generate-hashes",
        "--no-annotate",
        "--no-emit-index-url",
    ]
    command = ["--custom-compile-command", "python3 dev.py lock", "--quiet", "--output-file", LOCK]
    return run(["-m", "uv", "pip", "compile", "pyproject.toml", *extras, *options, *command, *arguments])


def sbom(arguments: Sequence[str]) -> int:
    """Describe an environment of the package with all extras of users, in the locked versions."""
    constraints = ROOT / ".venv-sbom.txt"
    constraints.write_text(re.sub(r" \\\n    --hash=\S+", "", locked()), encoding="utf-8")
    users = Environment(MAIN.base, ".venv-sbom", ["--constraint", str(constraints)])
    options = ["--pyproject", "pyproject.toml", "--output-reproducible", "--output-file", "sbom.json"]
    return run(["-m", "cyclonedx_py", "environment", *options, *arguments, users.ready(extras_of_users())])


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "demo": lambda more: run(["-m", "djmessenger", "demo", *more], extras=()),
    "test": lambda more: run(["-m", "pytest", *more]) if more else run_steps(suite()),
    "check": check,
    "bench": lambda more: run(["-m", "benchmarks", *more]),
    "chaos": lambda more: run(["-m", "chaos", *more]),
    "docs": lambda more: run([*SPHINX, *more]),
    "format": lambda more: run([*RUFF, "check", "--fix", *more]) or run([*RUFF, "format", *more]),
    "lock": lock,
    "sbom": sbom,
}


def main(words: list[str]) -> int:
    if sys.version_info < OLDEST:
        for python in reversed([*interpreters().values()]):
            os.execv(python, [python, *sys.argv])  # noqa: S606 - an interpreter of this machine, no shell
        raise Trouble("dev.py: Python 3.11 or newer is needed. Neither the path nor pyenv has one.")
    if words and words[0] in COMMANDS:
        return COMMANDS[words[0]](words[1:])
    print(__doc__)
    return 0 if words in (["--help"], ["-h"]) else 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
