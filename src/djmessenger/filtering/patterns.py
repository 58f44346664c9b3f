"""Regular expressions over typed texts, which are not trusted: with a time limit, on a bounded part of the text."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Final

import regex

from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.requirements import install
from djmessenger.settings import app_settings

try:
    import re2  # type: ignore[import-untyped]
except ImportError:
    re2 = None

logger = logging.getLogger("djmessenger.filtering")

MAX_LENGTH: Final = 2000
"""Number of characters at the beginning of a text that a pattern searches. A longer text is not folded either."""
MAX_LITERAL: Final = 500
"""Length of the longest literal that is indexed. It is below ``MAX_LENGTH``, so a cut text equals no such literal."""

_GOES: Final = 5
"""Number of searches of one text before a time-out counts although other threads used the time."""

_STEPS_PER_SECOND: Final = 10_000_000
"""Steps of the engine in a second, at least. A machine of 2026 makes ten times as many."""

timeouts: collections.Counter[str] = collections.Counter()
"""Number of searches of each pattern that exceeded the time limit in this process."""
_counting = threading.Lock()
_MOST_TIMEOUTS: Final = 10
"""Time-outs after which a pattern that has never ended in time is switched off."""
_ended_in_time: set[str] = set()
_switched_off: set[str] = set()

_SHARES: Final = 4
"""Time of all patterns of one event, in units of ``DJM_REGEX_TIMEOUT``."""


@dataclasses.dataclass
class _TimeLeft:
    seconds: float


_time_left: ContextVar[_TimeLeft | None] = ContextVar("djmessenger_patterns_time_left", default=None)


@contextlib.contextmanager
def shared_time() -> Iterator[None]:
    """Limit the time of all patterns of the block to ``_SHARES`` times ``DJM_REGEX_TIMEOUT``.

    A search that begins later raises ``PatternTimeout``. The time is that of this thread.
    """
    token = _time_left.set(_TimeLeft(_SHARES * app_settings.DJM_REGEX_TIMEOUT))
    try:
        yield
    finally:
        _time_left.reset(token)


Groups = dict[str, Any]


class PatternTimeout(Exception):
    """A search exceeded the time limit. The text counts as no match."""


def search(pattern: str, text: str) -> Groups | None:
    """Search the beginning of a text and return the captured values, or None for no match.

    The key ``match`` is the text that matched, ``groups`` are the numbered groups, and each named group has a key of
    its own. ``DJM_REGEX_ENGINE`` is the engine, ``DJM_REGEX_TIMEOUT`` the limit in seconds. Counts and logs a search
    that exceeds the limit, and raises ``PatternTimeout``.
    """
    match = compiled(app_settings.DJM_REGEX_ENGINE, pattern)(text[:MAX_LENGTH])
    if match is None:
        return None
    return {"match": match.group(), "groups": match.groups(), **match.groupdict()}


def compiled(engine: str, pattern: str) -> Callable[[str], Any]:
    """Return a function that searches a text. Raises ``DJMInvalidConfigException`` if the engine refuses the regex."""
    if not isinstance(pattern, str):
        raise DJMInvalidConfigException(f"a pattern is a text, not {type(pattern).__name__}: {pattern!r}")
    return _compiled(engine, pattern)


@functools.lru_cache(maxsize=4096)
def _compiled(engine: str, pattern: str) -> Callable[[str], Any]:
    if engine == "regex":
        return _for_regex(pattern)
    if engine == "re2":
        return _for_re2(pattern)
    raise DJMInvalidConfigException(f"DJM_REGEX_ENGINE is {engine!r}: it must be 'regex' or 're2'")


def _for_regex(pattern: str) -> Callable[[str], Any]:
    try:
        expression = regex.compile(pattern)
    except (regex.error, OverflowError, RecursionError) as error:
        raise DJMInvalidConfigException(f"the pattern {pattern!r} cannot be read: {error}") from error

    count_steps = step_count(pattern)

    def find(text: str) -> Any:
        limit = app_settings.DJM_REGEX_TIMEOUT
        if pattern in _switched_off:
            raise PatternTimeout("over the time limit each time, so it is switched off in this process")
        # The engine's clock adds the time of all threads, so it is slow, and busy threads end a search too early. A
        # search that ends in time in any case needs no clock.
        if count_steps is not None and count_steps(len(text)) <= limit * _STEPS_PER_SECOND:
            return expression.search(text)
        left = _time_left.get()
        if left is not None and left.seconds <= 0:
            raise PatternTimeout("the patterns of this event have used their time")
        began = time.thread_time()
        try:
            for _ in range(_GOES):
                try:
                    found = expression.search(text, timeout=limit)
                except TimeoutError:
                    # The engine's clock also runs while other threads run. If this thread used less than half of the
                    # limit, the search is repeated.
                    if time.thread_time() - began >= limit / 2:
                        break
                else:
                    _ended_in_time.add(pattern)
                    return found
        finally:
            if left is not None:
                left.seconds -= time.thread_time() - began
        with _counting:
            timeouts[pattern] += 1
            is_last = timeouts[pattern] == _MOST_TIMEOUTS and pattern not in _ended_in_time
        if is_last:
            # A pattern that has ended in time once stays: a person could otherwise switch it off for all others.
            # Test: tests/test_filtering_bounds.py, test_a_pattern_that_ended_in_time_once_is_not_switched_off.
            _switched_off.add(pattern)
            logger.error(
                "Pattern %r took more than %s s each time; it is switched off until this process ends",
                pattern,
                limit,
                extra={"action": "pattern_off", "pattern": pattern},
            )
            raise PatternTimeout(f"over the time limit of {limit} s")
        # The log must not contain texts of persons.
        logger.warning(
            "Pattern %r took more than %s s on %s characters; it counts as no match",
            pattern,
            limit,
            len(text),
            extra={"action": "pattern_timeout", "pattern": pattern},
        )
        raise PatternTimeout(f"over the time limit of {limit} s")

    return find


_TOKEN = re.compile(
    r"""
    (?P<open> \( (?: \?: | \?P<[A-Za-z_]\w*> )? ) |
    (?P<close> \) ) |
    (?P<repeat> [*+?] \?? | \{ \d+ (?: ,\d* )? \} \?? ) |
    (?P<branch> \| ) |
    (?P<item> \[ \^? (?: [^][\\] | \\[dDwWsS] | \\[^\w\s] )+ \] | \\[dDwWsSbBAZ] | \\[^\w\s] | [^][\\(){}*+?|] )
    """,
    re.VERBOSE,
)
"""One part of a pattern of which the number of steps has a known bound."""


def step_count(pattern: str) -> Callable[[int], int] | None:
    """Return a function from the length of a text to the most steps of a search in it, or None for an unknown bound.

    Each repetition of one character or set ends at one of the places of the text. Each branch doubles the ways at most.
    A repeated group, a look-around and a reference have no such bound.
    """
    body = pattern.removeprefix("(?i)")
    repeats = branches = position = 0
    previous = "open"
    while position < len(body):
        token = _TOKEN.match(body, position)
        if token is None:
            return None
        kind, position = str(token.lastgroup), token.end()
        if kind == "repeat":
            # `(...)?` is a way more; `(...)*` repeats ways. A second repetition would make the first one possessive.
            if previous not in {"item", "close"} or (previous == "close" and token.group()[0] != "?"):
                return None
            repeats += 1
        branches += kind == "branch"
        previous = kind
    starts = 0 if branches == 0 and body.startswith(("^", "\\A")) else 1
    size = 2**branches * (len(body) + 1)
    return lambda length: size * (length + 2) ** (repeats + starts)


def _for_re2(pattern: str) -> Callable[[str], Any]:
    if re2 is None:
        raise DJMInvalidConfigException(
            f"DJM_REGEX_ENGINE is 're2', which is not installed: {install('re2')}"
        )
    options = re2.Options()
    options.log_errors = False
    try:
        expression = re2.compile(pattern, options)
    except re2.error as error:
        raise DJMInvalidConfigException(
            f"the pattern {pattern!r} cannot be read by re2, which has no lookaround and no backreference: {error}"
        ) from error
    # re2 works on UTF-8, which cannot encode lone surrogates.
    return lambda text: expression.search(text.encode("utf-8", "replace").decode("utf-8"))


def literals_of(pattern: str | None) -> frozenset[str] | None:
    """Return the texts of a pattern of anchored literals only (``^hi$``, ``(?i)^(hi|hello)$``), otherwise None.

    The texts serve the index only; the pattern itself decides. ``^hi$`` finds "hi\\n" too, which folds to the same key.
    """
    if not isinstance(pattern, str):
        return None
    body, ignores_case = (pattern[4:], True) if pattern.startswith("(?i)") else (pattern, False)
    for start, end in (("^", "$"), ("\\A", "\\Z"), ("^", "\\Z"), ("\\A", "$")):
        if body.startswith(start) and body.endswith(end) and len(body) >= len(start) + len(end):
            body = body[len(start) : len(body) - len(end)]
            break
    else:
        return None
    for opening in ("(?:", "("):
        if body.startswith(opening) and body.endswith(")"):
            texts = [_unescaped(part) for part in body[len(opening) : -1].split("|")]
            break
    else:
        texts = [_unescaped(body)]
    if not all(text is not None and _is_plain(text, ignores_case) for text in texts):
        return None
    return frozenset(text for text in texts if text is not None)


def _is_plain(text: str, ignores_case: bool) -> bool:
    # Beyond ASCII, the engine and literal_key may fold case differently.
    return len(text) <= MAX_LITERAL and (text.isascii() or not ignores_case)


def _unescaped(pattern: str) -> str | None:
    """Return the text of a pattern that has no operator, otherwise None."""
    result: list[str] = []
    characters = iter(pattern)
    for character in characters:
        if character == "\\":
            escaped = next(characters, "")
            # A backslash before a letter or a digit is an operator; before other characters it quotes.
            if not escaped or escaped.isalnum() or not escaped.isascii():
                return None
            result.append(escaped)
        elif character in ".^$*+?{}[]()|":
            return None
        else:
            result.append(character)
    return "".join(result)
