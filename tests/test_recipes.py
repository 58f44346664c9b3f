"""The recipes of CONTRIBUTING: each names all files of its sample, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
READ = {".py", ".md", ".js", ".css", ".json", ".html"}

SAMPLE = "samples of events that the channel brings, one by one"
EXAMPLE = "an example that would work with any message"
MIGRATION = "a migration of a version before; a new addition gets a new file"

# Sample of each recipe: a pattern of its names, and the files that mention it for another reason.
SAMPLES: dict[str, tuple[str, dict[str, str]]] = {
    "A filter": (
        r"ReactionFilter|^    \"?reaction\"?,$|def reaction\(\*|^\| `reaction\(",
        {},
    ),
    "An event": (
        r"MESSAGE_EDIT|\bmessage_edits?\b|MessageEdit",
        {},
    ),
    "A message": (
        r"[Cc]oupon",
        {
            "docs/messages.md": EXAMPLE,
            "src/djmessenger/replying/__init__.py": EXAMPLE,
            "src/djmessenger/replying/kinds.py": EXAMPLE,
        },
    ),
    "A setting": (r"\bDJM_HEALTH_TOKEN\b", {}),
    "A verb": (
        r"djmessenger forget|operations[./]erasure|operations import erasure",
        {
            "docs/app-review.md": "answers a question of Meta's form",
            "docs/architecture.md": "lists the modules of a layer",
        },
    ),
    "An admin column": (
        r"\bdate_unreachable\b",
        {
            "src/djmessenger/migrations/0001_squashed_0003.py": MIGRATION,
            "src/djmessenger/pipeline/receipts.py": "writes the value",
            "src/djmessenger/pipeline/call_errors.py": "writes the value",
        },
    ),
    "A limit": (r"coupon\.title|coupon__title", {}),
    "An error code": (r"\b2018278\b", {}),
    "A dispatcher": (r"CeleryDispatcher|DJM_DISPATCHER = \"celery\"", {}),
    "A channel": (
        r"\b(?:ON_)?INSTAGRAM\b|\"instagram\"|\.instagram\b",
        {
            "src/djmessenger/migrations/0001_squashed_0003.py": MIGRATION,
            "src/djmessenger/migrations/0002_words.py": MIGRATION,
            "src/djmessenger/migrations/0009_ask_for_instagram_names.py": MIGRATION,
            "src/djmessenger/simulator/samples.json": SAMPLE,
        },
    ),
}


def recipes() -> dict[str, str]:
    """Return the recipes: heading to text."""
    block = CONTRIBUTING.partition("\n## To add\n")[2].partition("\n## ")[0]
    parts = block.split("\n### ")[1:]
    return {heading: text for heading, _, text in (part.partition("\n") for part in parts)}


def paths_of(text: str) -> set[str]:
    return set(re.findall(r"`((?:src|docs|tests)/[\w./]+)`", text))


def bullets_of(text: str) -> list[str]:
    return re.split(r"^\* ", text, flags=re.MULTILINE)


def files_with(pattern: str) -> set[str]:
    """Return the files of src/ and docs/ that mention a sample."""
    sought = re.compile(pattern, re.MULTILINE)
    return {
        path.relative_to(ROOT).as_posix()
        for folder in ("src", "docs")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in READ and "_build" not in path.parts and "locale" not in path.parts
        if sought.search(path.as_posix()) or sought.search(path.read_text(encoding="utf-8"))
    }


def test_each_addition_has_a_recipe_and_a_sample():
    assert set(recipes()) == {*SAMPLES, "A check"}


@pytest.mark.parametrize("heading", recipes())
def test_files_of_a_recipe_exist(heading):
    named = paths_of(recipes()[heading])
    assert named
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("heading", SAMPLES)
def test_a_recipe_names_each_file_of_its_sample(heading):
    pattern, exceptions = SAMPLES[heading]
    assert sorted(files_with(pattern) - exceptions.keys() - paths_of(recipes()[heading])) == []


@pytest.mark.parametrize("heading", SAMPLES)
def test_a_recipe_names_no_file_without_its_sample(heading):
    pattern, exceptions = SAMPLES[heading]
    mentions = files_with(pattern)
    always = {
        path
        for bullet in bullets_of(recipes()[heading])[1:]
        if not bullet.startswith(("If ", "Tests:"))
        for path in paths_of(bullet)
        if not path.startswith("tests/")
    }
    assert sorted(always - mentions - ALSO_READ.get(heading, frozenset())) == []
    assert sorted(exceptions.keys() - mentions) == [], "an exception without a mention"


# Files that a recipe names for reading.
ALSO_READ = {
    "A dispatcher": frozenset({"src/djmessenger/pipeline/dispatch.py", "src/djmessenger/pipeline/engine.py"}),
}
