"""Tokens in the database: encrypted there, plain only on the way into a client.

A ciphertext holds the page id beside the token, so that one cannot be moved to the row of another Page. Errors are
raised outside of ``except``, and secrets stay wrapped: no frame of an exception holds a token or a key.
"""

from __future__ import annotations

from functools import lru_cache

from djmessenger.exceptions import DJMInvalidValueException, TokenKeyError
from djmessenger.graph.wire import Secret
from djmessenger.settings import app_settings

try:
    from cryptography.fernet import Fernet, InvalidToken, MultiFernet
except ImportError:
    HAS_CRYPTOGRAPHY = False
else:
    HAS_CRYPTOGRAPHY = True

MAKE_ONE = "Make one with manage.py djmessenger tokens --new-key and read it into DJM_TOKEN_KEYS from a secret store."
INSTALL = 'Tokens in the database need the extra: python -m pip install "cryptography".'


def new_key() -> str:
    """Give a fresh key for ``DJM_TOKEN_KEYS``."""
    if not HAS_CRYPTOGRAPHY:
        raise TokenKeyError(INSTALL)
    return Fernet.generate_key().decode()


def encrypt(page_id: str, token: Secret) -> str:
    """Give the ciphertext of a Page's token under the newest key; ``TokenKeyError`` where there is none."""
    return _ring().encrypt(f"{page_id} {token.reveal()}".encode()).decode()


@lru_cache(maxsize=1024)
def decrypt(page_id: str, ciphertext: str) -> Secret:
    """Give the token of a Page; ``TokenKeyError`` says what to do where no key opens it."""
    found = _opened(_ring(), ciphertext)
    if found is None:
        raise TokenKeyError(
            f"No key of DJM_TOKEN_KEYS opens the token of Page {page_id}. Put the key back under which it was kept "
            "(older keys stand after the newest), or type the token again in the admin."
        )
    if found[0] != page_id:
        raise TokenKeyError(
            f"The row of Page {page_id} holds the token of another Page. Type the token again in the admin."
        )
    return found[1]


def is_under_newest_key(ciphertext: str) -> bool:
    """Tell whether the newest key alone opens it, so that the older ones can go."""
    return _opened(_ring(newest_only=True), ciphertext) is not None


def key_problems() -> list[str]:
    """Say what is wrong with ``DJM_TOKEN_KEYS``, without showing any of it; an empty setting is no problem."""
    if not _count():
        return []
    if not HAS_CRYPTOGRAPHY:
        return [INSTALL]
    return [
        f"DJM_TOKEN_KEYS[{number}] is no key. {MAKE_ONE}"
        for number in range(_count())
        if _fernet(number) is None
    ]


def _count() -> int:
    configured = app_settings.DJM_TOKEN_KEYS
    return (1 if configured else 0) if isinstance(configured, str) else len(configured)


def _key(number: int) -> Secret:
    # Expressions, not variables: whoever collects frames collects those.
    if isinstance(app_settings.DJM_TOKEN_KEYS, str):
        return Secret(app_settings.DJM_TOKEN_KEYS)
    return Secret(app_settings.DJM_TOKEN_KEYS[number])


def _fernet(number: int) -> Fernet | None:
    try:
        return Fernet(_key(number).reveal())
    except (ValueError, TypeError, AttributeError, DJMInvalidValueException):
        return None


def _ring(*, newest_only: bool = False) -> MultiFernet:
    if not _count():
        raise TokenKeyError(f"DJM_TOKEN_KEYS is empty, and tokens are never kept in the clear. {MAKE_ONE}")
    problems = key_problems()
    if problems:
        raise TokenKeyError(problems[0])
    found = [_fernet(number) for number in range(1 if newest_only else _count())]
    return MultiFernet([key for key in found if key is not None])


def _opened(ring: MultiFernet, ciphertext: str) -> tuple[str, Secret] | None:
    """Give page id and token, or None where no key of the ring opens it."""
    try:
        page_id, token = map(Secret, ring.decrypt(ciphertext.encode()).decode().split(" "))
    except (InvalidToken, ValueError, DJMInvalidValueException):
        return None
    return page_id.reveal(), token
