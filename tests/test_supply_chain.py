"""Supply chain: bounds, locked versions, licences, hints that install the right package, the policy of security."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from djmessenger.requirements import REQUIREMENTS

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
OF_USERS = sorted(EXTRAS.keys() - {"dev", "docs"})
LOCK = (ROOT / "constraints.txt").read_text(encoding="utf-8")
PIN = re.compile(
    r"^([A-Za-z0-9._-]+)==(\S+)( ; [^\\\n]+)?((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", re.MULTILINE
)
KINDS = {".html", ".js", ".md", ".po", ".py", ".toml"}
LOCKED: dict[str, list[str]] = {}
for _name, _version, *_ in PIN.findall(LOCK):
    LOCKED.setdefault(canonicalize_name(_name), []).append(_version)
TEXTS = [
    *sorted(
        path
        for path in (ROOT / "src").rglob("*")
        if path.suffix in {".py", ".md", ".toml", ".html", ".js", ".po"}
    ),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted(ROOT.glob("*.md")),
    ROOT / "dev.py",
]


def requirements(*groups: list[str]) -> list[Requirement]:
    return [Requirement(line) for group in groups for line in group]


# Names in commands that install


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_text_installs_the_package_of_a_stranger(path):
    text = path.read_text(encoding="utf-8")
    # The name on the public index belongs to another package, of 2016. With "@ address" the name is not looked up.
    assert [
        found for found in re.findall(r"djmessenger\[[^\]\n]*\][^\n]{0,4}", text) if " @ " not in found
    ] == []
    assert (
        re.findall(
            r"(?:pip|uv|poetry|pipx|uvx)[a-z ]* (?:install|add|run) (?:-\S+ )*[\"']?djmessenger\b(?!\[)(?! @)",
            text,
        )
        == []
    )


def test_hints_name_the_requirements_of_the_extras():
    assert {name: tuple(EXTRAS[name]) for name in OF_USERS} == REQUIREMENTS


# Versions


def test_each_requirement_of_users_has_a_lower_bound_and_those_that_break_have_an_upper_one():
    for one in requirements(PROJECT["dependencies"], *(EXTRAS[name] for name in OF_USERS)):
        operators = {specifier.operator for specifier in one.specifier}
        assert ">=" in operators, one
        # Their versions are dates, or their major versions come several times a year.
        assert ("<" in operators) != (one.name in {"regex", "cryptography"}), one


def test_an_extra_and_the_tools_have_the_same_bounds():
    of_tools = {one.name: one for one in requirements(EXTRAS["dev"])}
    for one in requirements(*(EXTRAS[name] for name in OF_USERS)):
        assert of_tools[one.name].specifier == one.specifier


def test_each_line_of_the_locked_versions_is_one_version_with_hashes():
    rest = PIN.sub("", LOCK)
    assert [line for line in rest.splitlines() if line and not line.startswith("#")] == []
    assert "://" not in LOCK
    assert "index" not in LOCK


def test_the_locked_versions_are_those_of_the_project():
    for one in requirements(PROJECT["dependencies"], *EXTRAS.values()):
        versions = LOCKED.get(canonicalize_name(one.name), [])
        assert versions, f"{one.name} is not locked; run python3 dev.py lock"
        assert all(one.specifier.contains(version) for version in versions), one


# Licences


def closure() -> dict[str, metadata.PackageMetadata]:
    """Return the metadata of the packages that users get with all extras, by name."""
    found: dict[tuple[str, frozenset[str]], metadata.PackageMetadata] = {}
    own = requirements(PROJECT["dependencies"], *(EXTRAS[name] for name in OF_USERS))
    waiting = [(one, frozenset[str]()) for one in own]
    while waiting:
        one, extras = waiting.pop()
        key = (canonicalize_name(one.name), frozenset(one.extras))
        wanted = one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in ("", *extras))
        if wanted and key not in found:
            found[key] = metadata.metadata(one.name)
            waiting += [(Requirement(line), key[1]) for line in metadata.requires(one.name) or []]
    return {name: package for (name, _extras), package in found.items()}


def licence(package: metadata.PackageMetadata) -> str:
    classifiers = [
        line.rpartition(" :: ")[2] for line in package.get_all("Classifier") or [] if "License ::" in line
    ]
    text = package.get("License-Expression") or package.get("License") or ""
    return text if text and "\n" not in text and len(text) < 60 else " and ".join(classifiers)


def test_the_licence_of_each_package_of_users_is_listed():
    page = (
        (ROOT / "CONTRIBUTING.md")
        .read_text(encoding="utf-8")
        .partition("## Licences of what users get")[2]
        .partition("\n## ")[0]
    )
    listed = dict(re.findall(r"^\| ([a-z0-9-]+) \| ([^|]+) \|", page.partition("|---|---|")[2], re.MULTILINE))
    installed = closure()
    if any(package["Version"] not in LOCKED.get(name, ()) for name, package in installed.items()):
        pytest.skip("this environment has other versions than the locked ones, with other metadata")
    assert {name: licence(package) for name, package in installed.items()} == listed


# The policy


def test_the_policy_names_versions_an_address_and_what_counts():
    policy = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    for heading in ("## Reporting", "## Supported versions", "## Weaknesses", "## Your part"):
        assert heading in policy
    assert re.search(r"[\w.-]+@[\w.-]+", policy)
    assert "2.0" in policy
