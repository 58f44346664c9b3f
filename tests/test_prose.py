"""The rule for prose: docstrings open with a plain verb or noun, sentences are short, and no private words are left."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("src", "chaos", "benchmarks", "tests")
LONGEST = 25
"""Words of a sentence."""
OPENINGS = {
    "give", "gives", "given", "let", "lets", "have", "has", "tell", "tells", "say", "says", "ask", "asks",
    "what", "who", "whoever", "whatever", "where", "wherever", "whether", "whose", "how", "that",
    "nobody", "somebody", "nothing", "none", "others", "else",
}  # fmt: skip
"""First words of a docstring that hide its effect or its subject."""
PHRASES = (
    r"nobody", r"somebody", r"whoever", r"anybody else", r"nobody's",
    r"lanes?", r"roads?", r"clerks?", r"crews?", r"vouch\w*", r"voice", r"judgement", r"epochs?",
    r"let go of", r"lets go of", r"says so", r"say so", r"is told", r"are told", r"told nobody", r"hears?", r"heard",
    r"goes its way", r"a hand on",
    r"at hand", r"by (?:its|a) hand", r"in hand", r"in vain", r"to hand on", r"hands? on",
    r"set aside", r"writ(?:e|ten|es) down", r"speaks? to", r"speaking", r"spoken to",
)  # fmt: skip
"""Figures of speech, and words that the glossary replaced."""
SENTENCE_WITH_FREE_CLAUSE = re.compile(r"(?:^|[.:;]\s+)(?:What|Who|Whoever|Where|Whatever)\s+\w+")

Text = tuple[str, int, str]
"""Path, line and prose of a docstring or comment."""


def files() -> list[Path]:
    found = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    return [path for path in found if "migrations" not in str(path)] + [ROOT / "dev.py"]


def is_prose(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


@cache
def docstrings(path: Path) -> list[Text]:
    """Return the docstrings of a file, those below assignments included."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        for place, inner in enumerate(body):
            described = place and isinstance(body[place - 1], (ast.Assign, ast.AnnAssign))
            opens = place == 0 and isinstance(
                node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
            )
            if is_prose(inner) and (described or opens):
                found.append((str(path.relative_to(ROOT)), inner.lineno, inner.value.value))
    return found


def comments(path: Path) -> Iterator[Text]:
    with tokenize.open(path) as file:
        for token in tokenize.generate_tokens(io.StringIO(file.read()).readline):
            if token.type == tokenize.COMMENT and not re.match(
                r"#(?:!|:| noqa| type:| fmt:| pragma)", token.string
            ):
                yield (
                    str(path.relative_to(ROOT)),
                    token.start[0],
                    token.string.lstrip("# ").split("  # noqa")[0],
                )


def plain(text: str) -> str:
    """Return the text without code, examples and addresses."""
    text = re.sub(r"``[^`]+``|`[^`]+`|https?://\S+", "CODE", text)
    return re.sub(r"\s+", " ", text).strip()


def sentences(text: str) -> list[str]:
    """Return the sentences of a docstring, literal blocks apart."""
    text = re.sub(r"(?m)::\n\n(?:(?: {4,}[^\n]*)?\n)+", ".\n\n", text + "\n")
    text = re.sub(r"(?m)^ *\w+ {2,}.*$", "", text)
    paragraphs = re.split(r"\n\s*\n|\n\s*[*-] ", text)
    return [
        part for one in paragraphs for part in re.split(r"(?<=[.!?])\s+(?=[A-Z`\"'(])", plain(one)) if part
    ]


def faults_of(path: Path) -> Iterator[str]:
    """Yield each place of a file whose docstrings or comments break the rule."""
    for name, line, text in docstrings(path):
        first = re.match(r"\W*([A-Za-z']+)", text)
        if first and first[1].lower() in OPENINGS:
            yield f"{name}:{line}: begins with {first[1]}"
        for sentence in sentences(text):
            if (count := len(sentence.split())) > LONGEST:
                yield f"{name}:{line}: {count} words: {sentence[:60]}"
    for name, line, text in [*docstrings(path), *comments(path)]:
        for phrase in PHRASES:
            if match := re.search(rf"(?i)\b{phrase}\b", plain(text)):
                yield f"{name}:{line}: says {match[0]!r}"
        if match := SENTENCE_WITH_FREE_CLAUSE.search(plain(text)):
            yield f"{name}:{line}: free clause {match[0]!r}"


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_prose_keeps_the_rule(path):
    assert list(faults_of(path)) == []


# Words of class names that are no term of the glossary: names of Django, Python and Meta, and plain English.
PLAIN = {
    "already", "budget", "buffer", "call", "embedded", "end", "fb", "file", "graph", "handled", "handler",
    "here", "inline", "kind", "known", "limits", "line", "listener", "location", "locked", "login", "lost",
    "manager", "meta", "next", "no", "own", "pool", "pools", "process", "profile", "publisher", "queued",
    "result", "room", "rows", "run", "signal", "signed", "snapshot", "state", "step", "threads",
    "transaction", "turn", "uploaded", "user", "wait",
}  # fmt: skip


def words_of_the_glossary() -> set[str]:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    lines = text[text.index("{glossary}") :].splitlines()[1:]
    return {word for line in lines if not line.startswith(" ") for word in re.findall("[a-z]+", line.lower())}


@pytest.mark.parametrize("package", ["pipeline", "models"])
def test_classes_of_the_engine_are_named_in_words_of_the_glossary(package):
    words = words_of_the_glossary() | PLAIN
    unknown = {
        (path.name, node.name, word)
        for path in (ROOT / "src" / "djmessenger" / package).glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        for word in re.findall("[A-Z]+(?![a-z])|[A-Z][a-z]+", node.name)
        if word.lower() not in words
    }
    assert not unknown


REFERENCE = re.compile(r"(tests/[a-z_/]+\.py), (test_[a-z0-9_]+|Test[A-Za-z]+)")


def test_each_test_that_a_comment_names_is_in_the_file_that_it_names():
    missing = [
        f"{path.relative_to(ROOT)}: {file}, {name}"
        for path in sorted((ROOT / "src").rglob("*.py"))
        for file, name in REFERENCE.findall(path.read_text(encoding="utf-8"))
        if not re.search(rf"(def|class) {name}\b", (ROOT / file).read_text(encoding="utf-8"))
    ]
    assert missing == []
