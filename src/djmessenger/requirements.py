"""Internal: requirements of the extras, for hints that name a package instead of an extra.

The bare name of this project belongs to another package on the public index, so no hint may name an extra of it.
"""

from __future__ import annotations

from collections.abc import Mapping

REQUIREMENTS: Mapping[str, tuple[str, ...]] = {
    "celery": ("celery[redis]>=5.6,<6",),
    "cryptography": ("cryptography>=44",),
    "re2": ("google-re2>=1.1,<2",),
    "tasks": ("django-tasks-db>=0.12,<1", "django-tasks>=0.12,<1"),
    "postgresql": ("psycopg[binary]>=3.2.1,<4",),
}
"""Requirements by the name of the extra, as in ``pyproject.toml``."""


def install(extra: str) -> str:
    """Return the command that installs what an extra needs."""
    return " ".join(["python -m pip install", *(f'"{line}"' for line in REQUIREMENTS[extra])])
