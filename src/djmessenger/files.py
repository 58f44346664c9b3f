"""Internal: the read of files that settings and policies name."""

from __future__ import annotations

from pathlib import Path


def read_file(path: Path) -> str:
    """Return the text of a UTF-8 file. Raise ``OSError`` or ``ValueError`` if it is unreadable or no regular file."""
    # The read of a pipe would wait for ever for its writer.
    # test_a_pipe_in_the_place_of_a_file_is_refused
    if path.exists() and not path.is_file():
        raise ValueError("it is no regular file")
    return path.read_text(encoding="utf-8")
