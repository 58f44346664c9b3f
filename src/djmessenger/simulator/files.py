"""Files that persons send, in memory. Their addresses cannot be guessed, as those of Meta's CDN."""

from __future__ import annotations

import re
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass, field

MOST_BYTES = 25 * 1024 * 1024
"""Bytes of the largest file (Messenger Platform, "Send messages": 25 MB)."""
_MOST_TOTAL_BYTES = 64 * 1024 * 1024
"""Bytes of all files together; the oldest files are dropped first."""

_SHOWN = frozenset(
    {
        "image/png",
        "image/jpeg",
        "image/gif",
        "image/webp",
        "audio/webm",
        "audio/mpeg",
        "audio/mp4",
        "audio/ogg",
        "audio/wav",
        "audio/x-wav",
        "video/mp4",
        "video/webm",
    }
)
"""Content types that the browser shows. Other types could contain a script and are served as downloads."""


@dataclass(frozen=True)
class StoredFile:
    """One file of a person."""

    name: str
    content_type: str
    content: bytes = field(repr=False)

    @property
    def is_shown(self) -> bool:
        return self.content_type in _SHOWN

    @property
    def kind(self) -> str:
        """Type of the attachment: ``image``, ``audio``, ``video`` or ``file``."""
        family = self.content_type.partition("/")[0]
        return family if self.is_shown and family in {"image", "audio", "video"} else "file"


class Files:
    """Store of the newest files. Safe to use from several threads."""

    def __init__(self) -> None:
        self._files: OrderedDict[str, StoredFile] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, name: str, content_type: str, content: bytes) -> tuple[str, StoredFile]:
        """Store a file and return its key; raise ``ValueError`` if it is empty or too large."""
        if not content:
            raise ValueError("The file is empty.")
        if len(content) > MOST_BYTES:
            raise ValueError("Messenger takes files of 25 MB at most.")
        plain = re.sub(r"[^\w.\- ]", "_", name.rpartition("/")[2])[-80:].strip(" .") or "file"
        stored = StoredFile(plain, content_type.partition(";")[0].strip().lower(), content)
        key = secrets.token_urlsafe(24)
        with self._lock:
            self._files[key] = stored
            while sum(len(one.content) for one in self._files.values()) > _MOST_TOTAL_BYTES:
                self._files.popitem(last=False)
        return key, stored

    def get(self, key: str) -> StoredFile | None:
        return self._files.get(key)


FILES = Files()
