"""Output of the commands, without characters that a terminal executes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, OutputWrapper

_HARMLESS: Final = frozenset("\u00a0\u200c\u200d\u3000")
"""Spaces and joiners that scripts and emoji need, although ``isprintable`` is false for them."""


def on_one_line(text: str) -> str:
    """Return a text in which each control character is its JSON escape: an ANSI escape is ``\\u001b``.

    Line breaks and characters that change the direction of text are escaped too.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in _HARMLESS else json.dumps(char)[1:-1] for char in text
    )


class CleanOutput:
    """Output of a command. Each call of ``write`` is one line on the terminal, whatever texts of others it contains.

    The name of a Page is chosen by its owner. The terminal of the staff would execute an ANSI escape in it. A line
    break in it would begin what looks like another line of the command.
    """

    def __init__(self, inner: OutputWrapper) -> None:
        self._inner = inner

    def write(
        self, msg: str = "", style_func: Callable[[str], str] | None = None, ending: str | None = None
    ) -> None:
        """Write a line. The style is applied after the text was cleaned."""
        # tests/faults/test_attacks_terminal.py, test_no_verb_writes_a_control_character
        self._inner.write(on_one_line(msg.removesuffix("\n")), style_func, ending)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@contextmanager
def clean_output(command: BaseCommand) -> Iterator[None]:
    """Replace the outputs of a command by clean ones during the block, and clean the text of a ``CommandError``."""
    before = command.stdout, command.stderr
    outputs: Any = map(CleanOutput, before)
    command.stdout, command.stderr = outputs
    try:
        yield
    except CommandError as error:
        # The text of an error of Graph and what to do about it are two lines.
        error.args = ("\n".join(map(on_one_line, str(error).split("\n"))),)
        raise
    finally:
        command.stdout, command.stderr = before
