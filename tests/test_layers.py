"""The rules of the house over its real imports: downward or leftward, no cycle, none inside a function."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCE = Path(__file__).parent.parent / "src"
PACKAGE = "djmessenger"

# A module may import from the rows above it, and from its own row leftward.
LAYERS: dict[str, list[str]] = {
    "foundation": [
        "exceptions",
        "facebook_locales",
        "requirements",
        "secret",
        "signatures",
        "clock",
        "files",
        "channels",
        "logs",
        "utils.default_routing_policy",
        "settings",
        "rulebook",
        "utils.serializable",
        "utils.utils",
    ],
    "messages in and out": ["payload", "receiving", "outgoing"],
    "storage": ["signals", "sql", "database_errors", "project_code", "models"],
    "Graph client": ["graph"],
    "rule parts": ["filtering", "handling", "replying"],
    "routing": ["routing", "rules"],
    "processing": ["pipeline"],
    "composition": ["bot"],
    "entry points": [
        "operations",
        "webhook",
        "views",
        "intake",
        "intake_app",
        "asgi",
        "admin",
        "checks",
        "database_checks",
        "page_checks",
        "secret_checks",
        "emulator",
        "simulator",
        "urls",
        "apps",
        "testing",
        "pytest_plugin",
        "management",
        "contrib",
        "demo",
        "migrations",
        "__main__",
    ],
}
ORDER = [unit for row in LAYERS.values() for unit in row]
PLAIN = {"", "utils"}
"""Packages that only hold others: the version, and the closed room."""

CLOSED_ROOM = {"__init__.py", "default_routing_policy.py", "serializable.py", "utils.py"}
LOADS_BY_NAME = {"asgi", "bot", "checks", "intake_app", "management", "pytest_plugin", "utils.utils"}
"""Modules that load others by dotted name: the dispatcher and its check, verbs, the pytest plugin, policies.

A project imports ``asgi`` and ``intake_app`` before its models can be loaded.
"""
BUILT_FROM_SETTINGS = ("Client", "Policy", "Page", "Dispatcher", "Transport")
BUILDERS = {"from_dict", "from_file", "policy_from_modules"}


class Import(NamedTuple):
    module: str
    """The importing module, without ``djmessenger.``."""
    target: str
    """The imported one, likewise."""
    line: int
    typing_only: bool


class Module(NamedTuple):
    name: str
    path: Path
    tree: ast.Module

    def __str__(self) -> str:
        return self.name or PACKAGE


@cache
def modules() -> dict[str, Module]:
    found = {}
    for path in sorted((SOURCE / PACKAGE).rglob("*.py")):
        parts = path.relative_to(SOURCE / PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = Module(name, path, ast.parse(path.read_text(encoding="utf-8"), str(path)))
    return found


def unit_of(module: str) -> str:
    """Return the entry of the table that a module belongs to."""
    parts = module.split(".")
    for length in (2, 1):
        if ".".join(parts[:length]) in ORDER:
            return ".".join(parts[:length])
    return module


def guarded_lines(tree: ast.Module) -> set[int]:
    """Return the lines under ``if TYPE_CHECKING:``."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for inner in node.body:
                lines.update(range(inner.lineno, (inner.end_lineno or inner.lineno) + 1))
    return lines


def imports_of(module: Module) -> Iterator[Import]:
    guarded = guarded_lines(module.tree)
    for node in ast.walk(module.tree):
        for target in targets_of(node, module):
            yield Import(module.name, target, node.lineno, node.lineno in guarded)


def targets_of(node: ast.AST, module: Module) -> Iterator[str]:
    """Yield the modules of the package that a statement imports, the deepest that exist."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"{module}:{node.lineno}: a relative import"
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    else:
        return
    for name in names:
        if name != PACKAGE and not name.startswith(f"{PACKAGE}."):
            continue
        inside = name.split(".")[1:]
        while ".".join(inside) not in modules():
            inside = inside[:-1]
        yield ".".join(inside)


def all_imports() -> list[Import]:
    return [found for module in modules().values() for found in imports_of(module)]


def places(found: list[Import]) -> list[str]:
    return [f"{item.module or PACKAGE}:{item.line} imports {item.target or PACKAGE}" for item in found]


def test_every_module_has_its_place_in_the_table():
    strangers = {name for name in modules() if name not in PLAIN and unit_of(name) not in ORDER}
    assert not strangers


def test_the_table_reads_the_imports():
    """Without the imports the other tests would pass on an empty list."""
    pairs = {(item.module, item.target) for item in all_imports()}
    assert ("settings.declared", "utils.default_routing_policy") in pairs
    assert ("models.conversations", "models.pages") in pairs
    assert any(item.typing_only for item in all_imports())


def test_imports_go_downward_or_leftward():
    """Those for the type checker too: what a module names, it knows."""
    wrong = [
        item
        for item in all_imports()
        if item.module not in PLAIN
        and item.target not in PLAIN
        and unit_of(item.module) in ORDER
        and ORDER.index(unit_of(item.target)) > ORDER.index(unit_of(item.module))
    ]
    assert not places(wrong)


def test_packages_that_only_hold_others_import_nothing():
    assert not places([item for item in all_imports() if item.module in PLAIN])


def test_stages_do_not_know_each_other():
    stages = set(LAYERS["rule parts"])
    wrong = [
        item
        for item in all_imports()
        if {unit_of(item.module), unit_of(item.target)} <= stages
        and unit_of(item.module) != unit_of(item.target)
    ]
    assert not places(wrong)


ROOTS = {
    "djmessenger": SOURCE / PACKAGE,
    "messenger_emulator": SOURCE / "messenger_emulator",
    "chaos": SOURCE.parent / "chaos",
    "benchmarks": SOURCE.parent / "benchmarks",
}


def tree(root: str, folder: Path) -> dict[str, ast.Module]:
    """Return the syntax trees below a folder by full dotted name; a package is named like its face."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = [root, *path.relative_to(folder).with_suffix("").parts]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return found


def named_in(node: ast.AST, known: Mapping[str, object]) -> Iterator[str]:
    """Yield the modules that an import statement names, and the face of the package that they come from."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module:
        names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    else:
        return
    yield from (name for name in names if name in known)


@pytest.mark.parametrize("root", ROOTS)
def test_no_module_imports_the_face_of_its_own_package(root):
    """A face that gathers its modules is half made while they are imported."""
    trees = tree(root, ROOTS[root])
    faces = {
        name
        for name, module in trees.items()
        if any(target.startswith(f"{name}.") for node in ast.walk(module) for target in named_in(node, trees))
    }
    wrong = [
        f"{name}:{node.lineno}"
        for name, module in trees.items()
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom) and node.module in faces - {root}
        if name.startswith(f"{node.module}.")
    ]
    assert not wrong


@pytest.mark.parametrize("root", ROOTS)
def test_there_is_no_loop(root):
    """Imports for the type checker and imports inside functions count too."""
    trees = tree(root, ROOTS[root])
    edges = {
        name: {target for node in ast.walk(module) for target in named_in(node, trees)} - {name, root}
        for name, module in trees.items()
    }
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"loop: {' > '.join([*path[path.index(module) :], module])}"
        if module not in done:
            for target in sorted(edges[module]):
                visit(target, (*path, module))
            done.add(module)

    for module in sorted(edges):
        visit(module, ())


@pytest.mark.parametrize("module", modules().values(), ids=str)
def test_no_import_inside_a_function(module):
    """``AppConfig.ready`` is the exception: models are not loaded when its module is imported."""
    functions = [
        node
        for node in ast.walk(module.tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        and not (module.path.name == "apps.py" and getattr(node, "name", "") == "ready")
    ]
    wrong = {
        f"{module}:{inner.lineno}"
        for function in functions
        for inner in ast.walk(function)
        if isinstance(inner, (ast.Import, ast.ImportFrom))
    }
    assert not wrong


def test_only_the_idioms_load_by_name():
    wrong = []
    for module in modules().values():
        for node in ast.walk(module.tree):
            name = ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""
            loads = name in {"import_module", "import_string", "__import__", "autodiscover_modules"}
            if loads and unit_of(module.name) not in LOADS_BY_NAME:
                wrong.append(f"{module}:{node.lineno} calls {name}")
    assert not wrong


@pytest.mark.parametrize(
    "module", [name for row in ("foundation", "messages in and out") for name in LAYERS[row]]
)
def test_foundation_and_messages_work_without_django_configured(module):
    if module not in modules():
        pytest.skip("not there yet")
    code = f"import djmessenger.{module}\nfrom django.conf import settings\nassert not settings.configured"
    environment = {key: value for key, value in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"}
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr


def test_bot_alone_builds_from_settings():
    wrong = []
    for module in modules().values():
        if unit_of(module.name) == "bot":
            continue
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func).rpartition(".")[2]
            builds = name.endswith(BUILT_FROM_SETTINGS) or name in BUILDERS
            arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
            if builds and any("settings.DJM_" in ast.unparse(argument) for argument in arguments):
                wrong.append(f"{module}:{node.lineno} builds {name}")
    assert not wrong


def test_utils_is_a_closed_room():
    found = {path.name for path in (SOURCE / PACKAGE / "utils").iterdir() if path.suffix == ".py"}
    assert found <= CLOSED_ROOM


@pytest.mark.parametrize("module", modules().values(), ids=str)
def test_annotations_are_not_evaluated(module):
    statements = [node for node in module.tree.body if not isinstance(node, ast.Expr)]
    if statements and "migrations" not in module.name.split("."):
        assert ast.unparse(statements[0]) == "from __future__ import annotations", module.path


MOST_LINES, MOST_LINES_OF_A_CLASS = 600, 350


def test_files_stay_small_enough_to_be_read():
    sizes = {
        str(path.relative_to(SOURCE)): path.read_text(encoding="utf-8").count("\n")
        for path in SOURCE.rglob("*.py")
        if "migrations" not in path.parts
    }
    assert {name: size for name, size in sizes.items() if size > MOST_LINES} == {}


def test_classes_stay_small_enough_to_be_read():
    sizes = {
        f"{module.name}.{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for module in modules().values()
        if "migrations" not in module.name.split(".")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
    }
    assert len(sizes) > 300
    assert {name: size for name, size in sizes.items() if size > MOST_LINES_OF_A_CLASS} == {}
