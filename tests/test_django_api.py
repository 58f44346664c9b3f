"""Uses of private parts of Django, and of a database by its alias: none but the listed ones, each with its reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src" / "djmessenger"

PUBLIC = {"_meta", "_default_manager", "_base_manager", "_state"}
"""Names with an underscore that Django documents: Model _meta API, Managers, Model instances."""
OF_OTHERS = {"_asdict", "_replace", "_exit", "_getframe", "_dns_host"}
"""Names of the standard library, which documents them, and of urllib3."""
UNDOCUMENTED = {
    "as_sql", "create_connection", "execute_sql", "fields_cache", "get_col", "get_compiler", "get_db_converters",
    "results_iter",
}  # fmt: skip
"""Names without an underscore that Django's documentation does not have."""
UNDOCUMENTED_MODULES = (
    "django.db.models.query",
    "django.db.models.sql",
    "django.db.models.fields.related_descriptors",
)

EXCEPTIONS = {
    (
        "pipeline/connections.py",
        "create_connection",
    ): "a listener needs a session of its own, also where Django has a pool",
    ("sql.py", "as_sql"): "a function that differs by database calls it, as Django's page on functions shows",
    ("sql.py", "create_connection"): "converters keep their connection, so they get one that no thread opens",
    ("sql.py", "get_col"): "the converters of a backend depend on the expression of a column",
    (
        "sql.py",
        "get_db_converters",
    ): "a backend stores types in its own way, and nothing else converts them back",
}
"""File and name of each use, with its reason."""


def trees() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(SOURCE.rglob("*.py")):
        if "migrations" not in path.parts:
            yield str(path.relative_to(SOURCE)), ast.parse(path.read_text(encoding="utf-8"))


def members() -> set[str]:
    """Return the private names that the package's own classes and modules define."""
    found = set()
    for _, tree in trees():
        for node in ast.walk(tree):
            for inner in node.body if isinstance(node, (ast.ClassDef, ast.Module)) else ():
                if isinstance(inner, (ast.FunctionDef, ast.ClassDef)):
                    found.add(inner.name)
                elif isinstance(inner, (ast.Assign, ast.AnnAssign)):
                    targets = inner.targets if isinstance(inner, ast.Assign) else [inner.target]
                    found |= {target.id for target in targets if isinstance(target, ast.Name)}
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                found.add(node.attr)
    return found


def uses() -> Iterator[tuple[str, str]]:
    own = members() | OF_OTHERS
    for name, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                is_private = node.attr.startswith("_") and not node.attr.startswith("__")
                is_state = node.attr == "_state" and not is_documented_state(node, tree)
                if (is_private and node.attr not in own | PUBLIC) or node.attr in UNDOCUMENTED or is_state:
                    yield name, node.attr
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("django"):
                for alias in node.names:
                    is_private = any(part.startswith("_") for part in [*node.module.split("."), alias.name])
                    if is_private or node.module.startswith(UNDOCUMENTED_MODULES):
                        yield name, f"{node.module}.{alias.name}"


def is_documented_state(node: ast.Attribute, tree: ast.Module) -> bool:
    """Return whether only ``adding`` or ``db`` of ``_state`` is used; Django documents these two."""
    return any(
        isinstance(outer, ast.Attribute) and outer.value is node and outer.attr in {"adding", "db"}
        for outer in ast.walk(tree)
    )


def test_private_parts_of_django_are_used_only_where_a_reason_is_listed():
    assert sorted(set(uses()) - EXCEPTIONS.keys()) == []


def test_each_listed_use_exists():
    assert EXCEPTIONS.keys() <= set(uses())


DEFAULT_ONLY = {"DEFAULT_DB_ALIAS", "connection", "router"}
"""Names of ``django.db`` that mean the database ``default``, or that ask for an alias."""
WITH_ALIAS = {
    ("checks.py", "connections[alias]"): "Django gives the aliases to check",
    ("database_checks.py", "router"): "the check compares the alias of each model",
    ("operations/profile_apply.py", "connections[using]"): "Django gives the alias that was migrated",
    (
        "operations/replay.py",
        "transaction.set_rollback",
    ): "a rollback without an exception; it names the alias",
    (
        "pipeline/settling.py",
        "transaction.set_rollback",
    ): "a rollback without an exception; it names the alias",
    ("views.py", "transaction.non_atomic_requests"): "the views run outside of transactions of each database",
}
"""Uses of a database that is not that of ``sql.py``, each with its reason."""


def uses_of_databases() -> Iterator[tuple[str, str]]:
    for name, tree in trees():
        for node in ast.walk(tree) if name != "sql.py" else ():
            if isinstance(node, ast.ImportFrom) and node.module == "django.db":
                yield from ((name, alias.name) for alias in node.names if alias.name in DEFAULT_ONLY)
            elif isinstance(node, ast.ImportFrom) and node.module == "django.db.transaction":
                yield from ((name, f"transaction.{alias.name}") for alias in node.names)
            elif isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.value, ast.Name):
                is_of_database = node.value.id == (
                    "transaction" if isinstance(node, ast.Attribute) else "connections"
                )
                if is_of_database:
                    yield name, ast.unparse(node)


def test_the_alias_of_the_app_is_asked_in_one_place():
    assert sorted(set(uses_of_databases()) - WITH_ALIAS.keys()) == []


def test_each_listed_use_of_a_database_exists():
    assert WITH_ALIAS.keys() <= set(uses_of_databases())
