"""What authors import: faces are complete and sorted, and everything on them says what it is."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from functools import cache
from pathlib import Path

import pytest

from djmessenger.replying import KindReplier

SOURCE = Path(__file__).parent.parent / "src" / "djmessenger"
PACKAGES = sorted(
    path.parent.name
    for path in SOURCE.glob("*/__init__.py")
    if path.parent.name not in {"management", "migrations", "utils", "contrib"}
)
MODULES = [
    name
    for name in (
        "bot", "checks", "exceptions", "filtering", "handling", "payload", "replying", "rulebook", "rules",
        "settings", "signatures", "views",
    )
    if (SOURCE / f"{name}.py").exists()
]  # fmt: skip


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def face(package: str) -> list[str]:
    return list(getattr(importlib.import_module(f"djmessenger.{package}"), "__all__", []))


def isort_style(name: str) -> tuple[int, list[object]]:
    kind = 0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2
    return kind, [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_face_is_sorted(package):
    """Constants, classes, functions, each by name: the order that ruff keeps too."""
    names = face(package)
    assert names == sorted(names, key=isort_style)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_face_names_what_is_there(package):
    module = importlib.import_module(f"djmessenger.{package}")
    assert [name for name in face(package) if not hasattr(module, name)] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_a_face_names_all_that_it_gathers(package):
    """What a package takes from its own files, it takes to show."""
    body = tree_of(SOURCE / package / "__init__.py").body
    if any(isinstance(node, (ast.ClassDef, ast.FunctionDef)) for node in body):
        return  # no mere face: it uses what it imports
    gathered = {
        alias.asname or alias.name
        for node in body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(f"djmessenger.{package}.")
        for alias in node.names
    }
    assert {name for name in gathered if not name.startswith("_")} <= set(face(package))


def public_names() -> list[str]:
    names = [f"{package}.{name}" for package in PACKAGES for name in face(package)]
    for module in MODULES:
        names += [
            f"{module}.{node.name}"
            for node in tree_of(SOURCE / f"{module}.py").body
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_")
        ]
    return names


@pytest.mark.parametrize("name", public_names())
def test_what_authors_import_says_what_it_is(name):
    module, _, attribute = name.rpartition(".")
    found = getattr(importlib.import_module(f"djmessenger.{module}"), attribute)
    if not (inspect.isclass(found) or inspect.isfunction(found)):
        return
    if inspect.isclass(found) and found.__dict__.get("kind") and issubclass(found, KindReplier):
        assert found.__doc__, f"{name} is made from its message without a docstring"
        return
    # Not inspect.getdoc: a dataclass without a docstring is given one that restates its fields.
    homes = {module.partition(".")[0], found.__module__.removeprefix("djmessenger.").partition(".")[0]}
    if "messenger_emulator" in homes:
        homes.add("../messenger_emulator")
    definitions = [node for home in homes for node in definitions_in(home).get(found.__name__, [])]
    assert definitions, f"{name} is made by no plain statement"
    assert all(map(ast.get_docstring, definitions)), f"{name} has no docstring"


@cache
def definitions_in(home: str) -> dict[str, list[ast.ClassDef | ast.FunctionDef]]:
    """Give the classes and functions at the top of a module, or of all files of a package, by name."""
    found: dict[str, list[ast.ClassDef | ast.FunctionDef]] = {}
    for path in [*SOURCE.glob(f"{home}.py"), *SOURCE.glob(f"{home}/**/*.py")]:
        for node in tree_of(path).body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                found.setdefault(node.name, []).append(node)
    return found


@pytest.mark.parametrize(
    "module", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE))
)
def test_a_module_says_what_it_is(module):
    if "migrations" not in module.parts and module.read_text(encoding="utf-8").strip():
        assert ast.get_docstring(tree_of(module))
