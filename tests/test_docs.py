"""The documentation against the code: tables are complete, code compiles, versions are those that are tested."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from djmessenger.settings.declared import GONE, PAGE_KEYS, RENAMED, SETTINGS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *(ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"))]
PAGES += sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (DOCS / "architecture.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def code_blocks() -> list[pytest.param]:
    return [
        pytest.param(code, id=f"{page.relative_to(ROOT)}-{number}")
        for page in PAGES
        for number, code in enumerate(blocks(page.read_text(encoding="utf-8"), "python"), 1)
    ]


@pytest.mark.parametrize("code", code_blocks())
def test_code_compiles(code):
    compile(code, "<documentation>", "exec")


@pytest.mark.parametrize("code", code_blocks())
def test_code_imports_names_that_exist(code):
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "djmessenger":
            module = importlib.import_module(str(node.module))
            missing = [
                alias.name
                for alias in node.names
                if not hasattr(module, alias.name) and not find_spec(f"{node.module}.{alias.name}")
            ]
            assert not missing, f"{node.module} has no {', '.join(missing)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_to_files_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_bare_name_is_never_installed(page):
    """The bare name on the public index belongs to another package."""
    text = page.read_text(encoding="utf-8")
    assert not re.search(
        r"(pip|uv) (install|add)( -\S+)* [\"']?djmessenger(\[\w+\])?[\"']?(\s*$|\s*[=<>~])",
        text,
        re.MULTILINE,
    )


def tables():
    sys.path.insert(0, str(DOCS / "_ext"))
    try:
        return pytest.importorskip("sphinx") and importlib.import_module("tables")
    finally:
        sys.path.remove(str(DOCS / "_ext"))


def test_the_settings_table_is_generated_and_complete():
    assert "```{settings-table}" in (DOCS / "settings.md").read_text(encoding="utf-8")
    lines = tables().settings_table().splitlines()
    assert [re.findall(r"`(DJM_\w+)`", line)[0] for line in lines[2:]] == list(SETTINGS)
    for line, row in zip(lines[2:], SETTINGS.values(), strict=True):
        assert row.meaning in line
        assert row.bounds_text in line
        assert row.type_text in line
        assert ("| yes |" in line) == row.secret


def test_the_keys_of_a_page_have_a_table_too():
    assert "```{page-keys-table}" in (DOCS / "settings.md").read_text(encoding="utf-8")
    lines = tables().page_keys_table().splitlines()
    assert [line.split("`")[1] for line in lines[2:]] == list(PAGE_KEYS)
    assert any("'messenger' or 'instagram'" in line for line in lines)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_settings_that_are_named_exist(page):
    named = set(re.findall(r"\bDJM_[A-Z_]+\b", page.read_text(encoding="utf-8")))
    known = {"DJM_VERIFY_TOKEN", *SETTINGS}
    if page.name == "CHANGELOG.md":
        known |= {*RENAMED, *GONE}
    assert {name for name in named if not name.endswith("_")} <= known


def test_renamed_settings_are_in_the_changelog():
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for before, now in RENAMED.items():
        assert f"| setting `{before}` | `{now}` |" in changes


def moved_names() -> list[tuple[str, str, list[str]]]:
    """Return each row of the changelog with names that left a module: module, names, new modules."""
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `(djmessenger\.\w+)`: (.*) \| (`.*`)(?: \(internal\))? \|$", changes, re.MULTILINE
    )
    return [(before, names, re.findall(r"`([\w.]+)`", homes)) for before, names, homes in rows]


def test_names_that_left_a_module_are_where_the_changelog_says():
    assert len(moved_names()) > 15
    for _before, names, homes in moved_names():
        parent = homes[0].rpartition(".")[0]
        modules = [importlib.import_module(f"{parent}{home}" if home[0] == "." else home) for home in homes]
        for name in re.findall(r"`(\w+)`", names):
            assert any(hasattr(module, name) for module in modules), name


# Public names of the emulator before it became a package of its own.
NAMES_OF_THE_EMULATOR = {
    "FAULTS", "GRAPH_FAULTS", "WEBHOOK_FAULTS", "Act", "Answer", "App", "Bubble", "Delivery", "Emulator",
    "EmulatorTransport", "Fault", "Faults", "Fetched", "LoggedCall", "NoAnswer", "NotOnScreen", "Page", "Person",
    "Refusal", "Verification", "VirtualClock", "encode_like_meta",
}  # fmt: skip


def test_names_that_left_the_emulator_are_in_the_changelog():
    listed = {
        name
        for before, names, _homes in moved_names()
        if before == "djmessenger.emulator"
        for name in re.findall(r"`(\w+)`", names)
    }
    here = set(importlib.import_module("djmessenger.emulator").__all__)
    assert NAMES_OF_THE_EMULATOR - here - {"Answer"} == listed


def test_every_event_is_in_the_table_of_events():
    types = importlib.import_module("djmessenger.receiving").ReceivingType
    table = tables().events_table()
    assert all(f"| `{name}` |" in table for name in types.get_members())


def test_events_have_their_field_their_key_and_a_sample():
    lines = {re.findall(r"`(\w+)`", line)[0]: line for line in tables().events_table().splitlines()[2:]}
    assert "`message_reactions`" in lines["REACTION"]
    assert "`message_edits` | `message_edit` | `message_edit` |" in lines["MESSAGE_EDIT"]
    assert "`message.attachments[].type = image` | `message_attachment_image` | yes" in lines["IMAGE"]
    assert "`messaging_postbacks`" in lines["POSTBACK"]
    samples = [line.split("|")[6].strip(" `") for line in lines.values()]
    assert all((ROOT / "tests" / "wire" / f"{name}.json").exists() for name in samples if name != "–")
    assert len([name for name in samples if name != "–"]) > 35


def test_every_message_is_in_the_table_of_messages():
    messages = importlib.import_module("djmessenger.outgoing.base").MESSAGES
    table = tables().messages_table()
    for cls in messages.values():
        assert f"| `{cls.__name__}` |" in table
    lines = {line.split("`")[1]: line for line in table.splitlines()[2:]}
    assert "2000 characters in a text" in lines["Text"]
    assert "1000 bytes of UTF-8 in a text on Instagram" in lines["Text"]
    assert lines["ReceiptTemplate"].split("|")[3:5] == [" yes ", "  "]
    assert lines["GenericTemplate"].split("|")[3:5] == [" yes ", " yes "]


def test_versions_and_endings_are_those_of_the_rulebook():
    module = tables()
    assert "| `v21.0` | 2024-10-02 | 2027-01-21 |" in module.versions_table()
    assert "| `v26.0` | 2026-07-29 | not announced |" in module.versions_table()
    endings = module.endings_table()
    assert "2027-01-21" in endings
    assert "tag.ACCOUNT_UPDATE" not in endings, "that is over"


def test_every_check_is_listed():
    listed = (DOCS / "checks.md").read_text(encoding="utf-8")
    source = (ROOT / "src" / "djmessenger" / "checks.py").read_text(encoding="utf-8")
    assert [id_ for id_ in sorted(set(re.findall(r'"([EW]\d{3})"', source))) if id_ not in listed] == []


def test_every_mistake_of_a_policy_has_its_part():
    anchors = importlib.import_module("djmessenger.routing.problems").ANCHORS
    page = (DOCS / "policy.md").read_text(encoding="utf-8")
    for id_, anchor in anchors.items():
        assert f"({anchor})=\n### {id_}:" in page


def support(row: str) -> str:
    found = re.search(rf"^\| {row} \| (.*) \|$", README, re.MULTILINE)
    assert found, row
    return found[1]


def versions(of: str) -> list[str]:
    found = [
        re.fullmatch(rf"{re.escape(of)} :: (\d+\.\d+)", line) for line in PYPROJECT["project"]["classifiers"]
    ]
    return [match[1] for match in found if match]


def test_the_support_table_names_what_the_package_names():
    assert re.findall(r"3\.\d+", support("Python")) == versions("Programming Language :: Python")
    assert f">={versions('Programming Language :: Python')[0]}" == PYPROJECT["project"]["requires-python"]
    assert set(versions("Framework :: Django")) <= set(re.findall(r"\d+\.\d+", support("Django")))
    assert SETTINGS["DJM_GRAPH_VERSION"].default in support("Graph API")
    assert "WhatsApp is not supported" in support("Channels")
    assert support("Licence") == PYPROJECT["project"]["license"]


def test_the_first_screen():
    """One sentence, a picture, fifteen lines of rules, a command for a look and one for a project."""
    title, sentence, picture = README.split("\n\n")[:3]
    assert title == "# djmessenger"
    assert sentence.startswith("**")
    assert sentence.count(".") == 1
    image = re.search(r"\]\((docs/images/\S+)\)", picture)
    assert image
    assert (ROOT / image[1]).exists()
    code = blocks(README, "python")[0]
    statements = [
        line for line in code.splitlines() if line.strip() and not line.startswith(("#", "from", "import"))
    ]
    assert code.startswith("# shop/messenger.py")
    assert len(statements) <= 15
    consoles = "".join(blocks(README, "console"))
    assert "$ python3 dev.py demo" in consoles
    assert "$ python3 dev.py test" in consoles
    assert "djmessenger @ git+" in consoles


A_TEST_OF_THE_SITE = """
from django.test import TestCase

from djmessenger.testing import MessengerTestMixin


class SiteTest(MessengerTestMixin, TestCase):
    def test_the_rule_answers(self):
        ana = self.messenger.person()
        ana.says("ping")
        ana.sees("pong")

    def test_the_simulator_is_a_page(self):
        self.assertContains(self.client.get("/simulator/"), "<title>")
"""


def test_an_existing_project_works_as_pasted(tmp_path):
    """Paste each snippet of the page into a project that Django just made, without any secret."""
    settings, addresses, rule, sqlite = blocks((DOCS / "existing-project.md").read_text("utf-8"), "python")
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DJM_", "DJANGO_", "PYTHONPATH", "PYTHONDEVMODE"))
    }
    environment["PYTHONPATH"] = str(ROOT / "src")

    def manage(*words: str, program: tuple[str, ...] = ("manage.py",)) -> None:
        answer = subprocess.run(
            [sys.executable, *program, *words],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert answer.returncode == 0, answer.stdout + answer.stderr

    def paste(name: str, code: str) -> None:
        with (tmp_path / name).open("a", encoding="utf-8") as file:
            file.write(code)

    manage("startproject", "mysite", ".", program=("-m", "django"))
    manage("startapp", "shop")
    paste("mysite/settings.py", settings)
    paste("mysite/urls.py", addresses)
    paste("shop/messenger.py", rule)
    manage("migrate", "--verbosity=0")
    manage("check")
    paste("mysite/settings.py", sqlite)
    manage("check", "--fail-level=WARNING")
    paste("shop/tests.py", A_TEST_OF_THE_SITE)
    # The test runner turns DEBUG off, and the snippets add the simulator only in DEBUG.
    manage("test", "--debug-mode", "--verbosity=0")


def test_nothing_looks_like_a_token():
    for path in [
        *PAGES,
        *(ROOT / "src").rglob("*.py"),
        *(ROOT / "tests").rglob("*.py"),
        *(ROOT / "tests").rglob("*.json"),
    ]:
        found = re.search(
            r"EAA[A-Za-z0-9]{20,}|\b\d{8,}\|[A-Za-z0-9_-]{20,}", path.read_text(encoding="utf-8")
        )
        assert not found, path


def glossary() -> dict[str, str]:
    """Return the entries of the glossary: each term with its meaning, in the order of the page."""
    block = re.search(
        r"^```\{glossary\}\n(.*?)^```$",
        (DOCS / "glossary.md").read_text(encoding="utf-8"),
        re.MULTILINE | re.DOTALL,
    )
    assert block
    entries = [entry.partition("\n") for entry in block[1].strip("\n").split("\n\n")]
    return {term: " ".join(meaning.split()) for term, _, meaning in entries}


def test_the_glossary_is_in_order_and_short():
    entries = glossary()
    assert list(entries) == sorted(entries, key=str.lower)
    assert len(entries) > 30
    for term, meaning in entries.items():
        assert not term.startswith(" ")
        assert 1 <= len(sentences(meaning)) <= 4, term


def test_the_states_of_the_models_are_in_the_pictures():
    models = importlib.import_module("djmessenger.models")
    states = {
        "callback": set(models.Callback.State.values),
        # No code sets it yet.
        "event": set(models.Messaging.State.values) - {"paused"},
        "reply": set(models.Reply.State.values),
        "attempt": {value or "open" for value in models.Attempt.Outcome.values},
    }
    for name, wanted in states.items():
        picture = (DOCS / "images" / f"states-{name}.svg").read_text(encoding="utf-8")
        assert set(re.findall(r'<text class="s"[^>]*>(\w+)</text>', picture)) == wanted, name
        assert f"images/states-{name}.svg" in ARCHITECTURE


def source_of(path: str) -> Path:
    """Return a path of the architecture page, which is in the package if it has no other home."""
    package = ROOT / "src" / "djmessenger" / path
    return package if package.exists() else ROOT / path


def test_paths_of_the_architecture_page_exist():
    paths = set(re.findall(r"`((?:\w+/)+(?:\w+\.py)?|\w+\.py)`", ARCHITECTURE))
    assert len(paths) > 40
    assert [path for path in sorted(paths) if not source_of(path).exists()] == []


def test_functions_of_the_architecture_page_are_where_it_says():
    places = re.findall(r"((?:`[\w.]+`(?:, | and ))*`[\w.]+`) in `((?:\w+/)+\w+\.py)`", ARCHITECTURE)
    assert len(places) > 10
    for names, path in places:
        text = source_of(path).read_text(encoding="utf-8")
        for name in re.findall(r"[\w.]+", names):
            for part in name.split("."):
                assert re.search(rf"\b{part}\b", text), f"{path} has no {name}"


def sentences(text: str) -> list[str]:
    """Return the sentences of a page in Markdown, of its lists, cells and headings too; code counts as one word."""
    text = re.sub(r"^```.*?^```$", "\n\n", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^(?:%|\(.*\)=).*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"`[^`]*`", "CODE", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", lambda link: link[1] or "LINK", text)
    blocks = re.split(r"\n\s*\n|\n(?=\s*(?:[*#|-]|\d+\.)\s?)", text)
    cells = [
        cell for block in blocks for cell in (block.split("|") if block.lstrip().startswith("|") else [block])
    ]
    plain = [re.sub(r"^(?:[\s*#-]+|\d+\.\s)", "", " ".join(cell.split())).replace("**", "") for cell in cells]
    return [sentence for cell in plain for sentence in re.split(r"(?<=[.!?:;])\s+", cell) if sentence]


OPENINGS = re.compile(r"(?:What|Who|Whoever|Whom|Where|Whether)\b")
LONGEST_SENTENCE = 28
"""Words; writers aim at 25."""
PROSE = [page for page in PAGES if page.name not in {"README.md", "existing-project.md"}]


@pytest.mark.parametrize("page", PROSE, ids=lambda page: str(page.relative_to(ROOT)))
def test_sentences_are_short_and_begin_with_their_subject(page):
    text = page.read_text(encoding="utf-8")
    if "```{glossary}" in text:
        text = "\n\n".join(glossary().values())
    found = sentences(text)
    assert [sentence for sentence in found if OPENINGS.match(sentence)] == []
    assert [sentence for sentence in found if len(sentence.split()) > LONGEST_SENTENCE] == []
