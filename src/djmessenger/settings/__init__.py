"""The ``DJM_*`` settings of the project, with their defaults.

``djmessenger.settings.DJM_ENDPOINT`` is the documented access. Code with types reads
``djmessenger.settings.app_settings.DJM_ENDPOINT``. There a secret is a ``Secret``.
"""

from __future__ import annotations

from typing import Any

from djmessenger.secret import Secret
from djmessenger.settings.declared import SETTINGS, app_settings

__all__ = ["app_settings"]


def __getattr__(name: str) -> Any:
    if name in SETTINGS:
        value = getattr(app_settings, name)
        return value.reveal() if isinstance(value, Secret) else value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *SETTINGS])
