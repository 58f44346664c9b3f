"""The emulator judges djmessenger, so it knows nothing of it: neither its code nor its limits."""

from __future__ import annotations

import ast
import datetime
import inspect
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

import messenger_emulator
from djmessenger import emulator as documented
from djmessenger import rulebook
from djmessenger.emulator import server as documented_server
from djmessenger.rulebook.facts import Row
from messenger_emulator import Emulator, server
from messenger_emulator.limits import LIMITS, Limits
from tests.test_emulator import Bench
from tests.test_faces import isort_style

SOURCE = Path(__file__).parent.parent / "src"
PACKAGE = "messenger_emulator"
FILES = sorted((SOURCE / PACKAGE).rglob("*.py"))
STANDARD = {*sys.stdlib_module_names, "__future__"}

DIFFERENT: dict[str, str] = {}
"""Rows whose values differ, each with the reason."""

ONLY_IN_THE_EMULATOR: dict[str, str] = {}
"""Rows that the rulebook lacks, each with the reason."""

_BOT = "a decision of the bot, not a limit of Meta"
_RECEIVED = "shown to the person or answered by the person; no call is refused"
_SILENT = "Meta drops or cuts it without a refusal, or enforces it outside of Graph's answer"
_OPEN = "not enforced by the emulator: Meta's pages do not say how a call over it is answered"
_REFUSED = "refused by name, whatever the day: it ended before all versions that the emulator serves"
_BEGAN = "has begun, and no end is announced; the emulator always takes it"
ONLY_IN_THE_RULEBOOK = {
    "metadata.reserved": _BOT,
    "quick_replies.count.instagram": "equal to the row without the channel, which the emulator applies to both",
    "generic.elements.instagram": "equal to the row without the channel, which the emulator applies to both",
    "images.count.instagram": "known from third parties only; the emulator applies the 30 of Messenger to both",
    "quick_reply.image": _SILENT,
    "payload.length": "a general row; the emulator has one for each kind of payload",
    "attachment.fetch": _OPEN,
    "attachment.fetch.video": _OPEN,
    "persona.picture.bytes": _OPEN,
    "sticker_search.query": "the emulator has no search for stickers",
    "feedback.answer": _RECEIVED,
    "m_me.ref": _RECEIVED,
    "notification_tokens.page": "the emulator has no marketing messages",
    "rate.pages.calls_per_engaged_user": "the emulator has no calls of the Pages API",
    "rate.conversations": _OPEN,
    "rate.private_replies": _OPEN,
    "template.notification_messages": _REFUSED,
    "template.list": _REFUSED,
    "template.open_graph": _REFUSED,
    "quick_reply.location": _REFUSED,
    "quick_reply.user_phone_number.instagram": "refused on Instagram by name, whatever the day",
    "quick_reply.user_email.instagram": "refused on Instagram by name, whatever the day",
    "button.element_share": _REFUSED,
    "profile.home_url": _REFUSED,
    "template.image_grid": _BEGAN,
    "sticker": _BEGAN,
}
"""Rows that the emulator lacks, each with the reason."""


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and module of each import, those inside functions and for the type checker among them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


def inner_imports(name: str) -> set[str]:
    """Return the modules of the package that a module imports, and the packages whose faces it reads.

    ``from package import module`` counts as both, because it runs the package's ``__init__`` first.
    """
    found = set()
    for _line, target in imports_of(MODULES[name]):
        if target.partition(".")[0] == PACKAGE:
            face = target.rpartition(".")[0]
            found |= {target, face} & MODULES.keys() if "." in target else {target}
    return found


class TestImports:
    @pytest.mark.parametrize("path", FILES, ids=name_of)
    def test_a_module_imports_the_standard_library_and_its_own_package_alone(self, path):
        roots = {(line, target.partition(".")[0]) for line, target in imports_of(path)}
        assert {(line, root) for line, root in roots if root not in STANDARD | {PACKAGE}} == set()

    @pytest.mark.parametrize("path", FILES, ids=name_of)
    def test_a_module_loads_nothing_by_name(self, path):
        text = path.read_text(encoding="utf-8")
        assert not any(word in text for word in ("import_module", "__import__", "import_string"))

    @pytest.mark.parametrize("path", FILES, ids=name_of)
    def test_a_module_imports_nothing_inside_a_function(self, path):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        top = {node.lineno for node in tree.body}
        assert {line for line, _target in imports_of(path)} <= top

    @pytest.mark.parametrize("name", MODULES)
    def test_a_module_does_not_import_its_own_face(self, name):
        faces = {
            face
            for face in MODULES
            if MODULES[face].name == "__init__.py" and f"{name}.".startswith(f"{face}.")
        }
        assert inner_imports(name) & faces == set()

    def test_there_is_no_loop(self):
        edges = {name: inner_imports(name) - {name} for name in MODULES}
        done: set[str] = set()

        def visit(name: str, path: tuple[str, ...]) -> None:
            assert name not in path, f"loop: {' > '.join([*path[path.index(name) :], name])}"
            if name not in done:
                for target in sorted(edges[name]):
                    visit(target, (*path, name))
                done.add(name)

        for name in MODULES:
            visit(name, ())
        assert edges[f"{PACKAGE}.core"] >= {f"{PACKAGE}.webhook", f"{PACKAGE}.endpoints.messages"}

    def test_it_runs_without_django(self):
        """Neither djmessenger nor Django is loaded by all modules together and a first call."""
        code = f"""
import sys
for name in {[name for name in MODULES if not name.endswith("__main__")]}:
    __import__(name)
from messenger_emulator import Emulator
emulator = Emulator()
emulator.add_page("104233987650012", "made-up-token")
assert emulator.handle("GET", "/me", "access_token=made-up-token")[0] == 200
print(sorted({{"django", "djmessenger"}} & {{name.partition(".")[0] for name in sys.modules}}))
"""
        environment = {key: value for key, value in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"}
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**environment, "PYTHONPATH": str(SOURCE)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.stdout, done.stderr) == ("[]\n", "")


class TestTheOtherDirection:
    """The parts of djmessenger that run in production do without the emulator."""

    USERS: ClassVar = {"__main__", "demo", "emulator", "simulator", "testing"}

    def test_only_tools_for_development_import_it(self):
        users = {
            path.relative_to(SOURCE / "djmessenger").with_suffix("").parts[0]
            for path in (SOURCE / "djmessenger").rglob("*.py")
            for _line, target in imports_of(path)
            if target.partition(".")[0] == PACKAGE
        }
        assert users == self.USERS


class TestFace:
    def test_is_sorted_and_whole(self):
        names = messenger_emulator.__all__
        assert names == sorted(names, key=isort_style)
        gathered = {
            alias.name
            for node in ast.parse(MODULES[PACKAGE].read_text(encoding="utf-8")).body
            if isinstance(node, ast.ImportFrom) and node.module != "__future__"
            for alias in node.names
        }
        assert gathered == set(names)

    @pytest.mark.parametrize("name", messenger_emulator.__all__)
    def test_a_class_or_function_says_what_it_is(self, name):
        found = getattr(messenger_emulator, name)
        if inspect.isclass(found) or inspect.isfunction(found):
            tree = ast.parse(MODULES[found.__module__].read_text(encoding="utf-8"))
            (definition,) = [node for node in tree.body if getattr(node, "name", None) == found.__name__]
            assert ast.get_docstring(definition)

    @pytest.mark.parametrize("path", FILES, ids=name_of)
    def test_a_module_says_what_it_is(self, path):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assert ast.get_docstring(tree)
        if len(tree.body) > 1:
            assert ast.unparse(tree.body[1]) == "from __future__ import annotations"


class TestDocumentedNames:
    def test_stay_in_djmessenger(self):
        assert documented.Emulator is messenger_emulator.Emulator
        assert documented.VirtualClock is messenger_emulator.VirtualClock
        assert documented.FAULTS is messenger_emulator.FAULTS
        assert documented.EmulatorTransport(Emulator()).emulator.pages == {}
        assert documented_server.serve is server.serve

    @pytest.mark.parametrize("module", ["djmessenger.emulator", "messenger_emulator"])
    def test_the_server_starts_by_module_name(self, module):
        done = subprocess.run(
            [sys.executable, "-m", module, "--help"],
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "--verify-token" in done.stdout


def value_of(row: Row) -> object:
    """Return the number of a row, or the first day on which it no longer holds."""
    return row.until if row.value is None else row.value


class TestTheTwoTables:
    def test_equal_rows_have_equal_values(self):
        both = LIMITS.keys() & rulebook.table.keys()
        assert {key for key in both if LIMITS[key].value != value_of(rulebook.table[key])} == DIFFERENT.keys()
        assert len(both) > 70

    def test_a_row_of_one_table_alone_has_a_reason(self):
        assert LIMITS.keys() - rulebook.table.keys() == ONLY_IN_THE_EMULATOR.keys()
        assert rulebook.table.keys() - LIMITS.keys() == ONLY_IN_THE_RULEBOOK.keys()

    def test_each_row_has_a_source_and_a_date(self):
        assert [key for key, row in LIMITS.items() if not row.source or not row.date] == []

    def test_an_override_of_the_bot_does_not_reach_the_emulator(self, settings):
        settings.DJM_RULEBOOK = {"buttons.count": 1, "text.length": 5, "tag.ACCOUNT_UPDATE": None}
        assert rulebook.limit("buttons.count") == 1
        assert Emulator().limits["buttons.count"] == 3

    def test_djmessenger_passes_no_limits(self):
        wrong = [
            f"{path}:{node.lineno}"
            for path in (SOURCE / "djmessenger").rglob("*.py")
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.Call)
            and (
                (
                    ast.unparse(node.func).endswith("Emulator")
                    and {keyword.arg for keyword in node.keywords} & {"limits", None}
                )
                or ast.unparse(node.func).endswith(".limits.override")
            )
        ]
        assert wrong == []


def text(length: int) -> dict[str, Any]:
    return {"text": "x" * length}


class TestOverrides:
    def test_a_row_is_replaced_for_one_emulator(self):
        shorter, usual = Bench(limits={"text.length": 5}), Bench()
        assert shorter.send(text(5))[0] == 200
        status, answer = shorter.send(text(6))
        assert (status, answer["error"]["message"]) == (
            400,
            "(#100) Length of param message[text] must be less than or equal to 5",
        )
        assert usual.send(text(6))[0] == 200

    def test_a_row_is_replaced_later_too(self):
        bench = Bench()
        bench.emulator.limits.override("text.length", 5)
        assert bench.send(text(6))[0] == 400

    def test_a_day_is_replaced(self):
        day = datetime.date(2026, 4, 27)
        before = day - datetime.timedelta(days=1)
        assert [Limits().has_ended("tag.ACCOUNT_UPDATE", on) for on in (before, day)] == [False, True]
        assert not Limits({"tag.ACCOUNT_UPDATE": None}).has_ended("tag.ACCOUNT_UPDATE", day)
        ended = Limits({"graph.v27.0": day})
        assert [ended.has_ended("graph.v27.0", on) for on in (before, day)] == [False, True]

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("buttons", 3),
            ("buttons.count", None),
            ("buttons.count", True),
            ("graph.v21.0", 3),
            ("graph.v21.0", "2027-01-21"),
        ],
    )
    def test_a_wrong_override_is_refused(self, key, value):
        with pytest.raises(ValueError, match=key):
            Emulator(limits={key: value})

    def test_a_day_is_no_number(self):
        with pytest.raises(KeyError, match=r"graph\.v21\.0"):
            Limits()["graph.v21.0"]
