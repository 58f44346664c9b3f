"""Public names: complete, sorted, counted, documented, and each change of them shows in ``faces.txt``."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
from functools import cache
from pathlib import Path

import pytest

from djmessenger.replying import KindReplier

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "djmessenger"
REFERENCE = ROOT / "docs" / "reference"
SNAPSHOT = Path(__file__).parent / "faces.txt"
RENEW = "RENEW_FACES=1 python -m pytest tests/test_faces.py -k snapshot"
BUDGET = 220
"""Largest number of names in all ``__all__`` together."""

AUTHORS = [
    "djmessenger.asgi",
    "djmessenger.intake_app",
    "djmessenger.models",
    "djmessenger.outgoing",
    "djmessenger.rules",
    "djmessenger.signals",
    "djmessenger.testing",
]
DOCUMENTED = [
    "djmessenger.emulator",
    "djmessenger.emulator.server",
    "djmessenger.exceptions",
    "djmessenger.facebook_locales",
    "djmessenger.filtering",
    "djmessenger.handling",
    "djmessenger.payload",
    "djmessenger.receiving",
    "djmessenger.replying",
    "djmessenger.routing",
    "djmessenger.settings",
    "djmessenger.utils.default_routing_policy",
    "djmessenger.utils.serializable",
    "djmessenger.utils.utils",
]
FACES = sorted([*AUTHORS, *DOCUMENTED, "messenger_emulator"])
"""Modules from which a project may import: those of an author, those documented since 2016, and the emulator."""

WITHOUT_NAMES = {
    "__main__", "admin", "apps", "checks", "contrib", "demo", "management", "migrations", "pytest_plugin", "simulator",
    "urls",
}  # fmt: skip
"""Modules that a project uses by a path in its settings or URLs, or by a command; nothing is imported from them."""

PACKAGES = sorted(
    path.parent.name
    for path in SOURCE.glob("*/__init__.py")
    if path.parent.name not in {"management", "migrations", "utils", "contrib"}
)


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def path_of(module: str) -> Path:
    path = ROOT.joinpath("src", *module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def face(package: str) -> list[str]:
    return list(getattr(importlib.import_module(f"djmessenger.{package}"), "__all__", []))


def isort_style(name: str) -> tuple[int, list[object]]:
    kind = 0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2
    return kind, [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def names_of(module: str) -> list[str]:
    """Return ``__all__``, or the public names that the module itself defines."""
    names = getattr(importlib.import_module(module), "__all__", None)
    if names is not None:
        return list(names)
    defined: list[str] = []
    for node in tree_of(path_of(module)).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            defined.append(node.name)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            defined += [target.id for target in targets if isinstance(target, ast.Name)]
    return sorted(name for name in defined if not name.startswith("_") and name != "logger")


def test_the_snapshot_shows_each_change_of_a_face():
    text = "".join(f"{module}\n" + "".join(f"    {name}\n" for name in names_of(module)) for module in FACES)
    if os.environ.get("RENEW_FACES"):
        SNAPSHOT.write_text(text, encoding="utf-8")
    assert text == SNAPSHOT.read_text(encoding="utf-8"), f"an intended change is recorded by: {RENEW}"


def test_the_names_of_all_faces_stay_within_the_budget():
    lists = {
        str(path.relative_to(ROOT)): len(ast.literal_eval(node.value))
        for path in (ROOT / "src").rglob("*.py")
        for node in tree_of(path).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    }
    assert sum(lists.values()) <= BUDGET, lists


def test_only_a_face_has_a_list_of_names():
    """Internal modules are imported one by one, so a list there would only be a second face."""
    listed = {
        path
        for path in (ROOT / "src").rglob("*.py")
        for node in tree_of(path).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    }
    assert listed <= {path_of(module) for module in FACES}


def units() -> list[str]:
    return sorted(
        {path.stem for path in SOURCE.glob("*.py")} | {p.parent.name for p in SOURCE.glob("*/__init__.py")}
    )


@pytest.mark.parametrize("unit", units())
def test_a_module_is_public_or_says_that_it_is_internal(unit):
    public = {module.split(".")[1] for module in FACES if "." in module} | WITHOUT_NAMES | {"__init__"}
    first_line = (ast.get_docstring(tree_of(path_of(f"djmessenger.{unit}"))) or "").partition("\n")[0]
    assert (unit in public) != bool(re.search(r"^Internal: |\(internal\)| Internal\.$", first_line)), (
        first_line
    )


@cache
def pages() -> str:
    return "".join(page.read_text(encoding="utf-8") for page in sorted(REFERENCE.glob("*.md")))


@cache
def shown() -> dict[str, set[str]]:
    """Return the modules that the pages of the reference show, each with the names that its page leaves out."""
    modules: dict[str, set[str]] = {}
    for found in re.finditer(r"automodule:: (\S+)\n(?: +:exclude-members: (.*)\n)?", pages()):
        modules[found[1]] = set((found[2] or "").replace(" ", "").split(",")) - {""}
    return modules


def test_the_reference_shows_the_faces_and_nothing_else():
    assert sorted(shown()) == FACES
    stems = {path.stem for path in REFERENCE.glob("*.md")} - {"index"}
    tree = (REFERENCE / "index.md").read_text(encoding="utf-8").partition("```{toctree}")[2]
    assert stems == set(tree.split("```")[0].split()) - {":maxdepth:", "1"}


def is_shown(module: str, name: str) -> bool:
    """Return whether a page has the name; ``docs/conf.py`` skips names that another page has."""
    loaded = importlib.import_module(module)
    found = getattr(loaded, name)
    if hasattr(loaded, "__all__") and not (inspect.isclass(found) or inspect.isfunction(found)):
        # Sphinx finds the comment of a constant only in the module that defines it, so the page describes it.
        return f"py:data:: {module}.{name}\n" in pages() or f"{module}.{name}" in (loaded.__doc__ or "")
    page = ".".join(module.split(".")[:2])
    home = getattr(found, "__module__", None) or page
    is_own = not home.startswith("djmessenger.") or f"{home}.".startswith(f"{page}.")
    return is_own and name not in shown()[module]


@pytest.mark.parametrize("module", FACES)
def test_a_page_of_the_reference_shows_each_name_of_a_face(module):
    for name in names_of(module):
        found = getattr(importlib.import_module(module), name)
        faces = [other for other in FACES if getattr(importlib.import_module(other), name, None) is found]
        assert any(is_shown(other, name) for other in faces if name in names_of(other)), name


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
    """Every name that a package imports from its own files is in its ``__all__``."""
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
    return [f"{module}.{name}" for module in FACES for name in names_of(module)]


@pytest.mark.parametrize("name", public_names())
def test_a_public_name_has_a_docstring(name):
    module, _, attribute = name.rpartition(".")
    found = getattr(importlib.import_module(module), attribute)
    if not (inspect.isclass(found) or inspect.isfunction(found)):
        return
    if inspect.isclass(found) and found.__dict__.get("kind") and issubclass(found, KindReplier):
        assert found.__doc__, f"{name} is made from its message without a docstring"
        return
    # Not inspect.getdoc: a dataclass without a docstring is given one that restates its fields.
    homes = {".".join(each.split(".")[:2]) for each in (module, found.__module__)}
    homes = {"messenger_emulator" if each.startswith("messenger_emulator") else each for each in homes}
    definitions = [node for home in homes for node in definitions_in(home).get(found.__name__, [])]
    assert definitions, f"{name} is made by no plain statement"
    assert all(map(ast.get_docstring, definitions)), f"{name} has no docstring"


@cache
def definitions_in(home: str) -> dict[str, list[ast.ClassDef | ast.FunctionDef]]:
    """Return the classes and functions at the top of a module, or of all files of a package, by name."""
    found: dict[str, list[ast.ClassDef | ast.FunctionDef]] = {}
    place = path_of(home)
    for path in place.parent.rglob("*.py") if place.stem == "__init__" else [place]:
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
