"""Encryption of tokens in the database; they are decrypted only for a client.

A ciphertext contains the page id beside the token, so it cannot be copied to the row of another Page. Errors are
raised outside of ``except`` and secrets stay wrapped, so no frame of an exception holds a token or a key.
"""

from __future__ import annotations

from functools import lru_cache

from djmessenger.exceptions import DJMInvalidConfigException, DJMInvalidValueException, TokenKeyError
from djmessenger.requirements import install
from djmessenger.secret import Secret
from djmessenger.settings import app_settings

try:
    from cryptography.fernet import Fernet, InvalidToken, MultiFernet
except ImportError:
    HAS_CRYPTOGRAPHY = False
else:
    HAS_CRYPTOGRAPHY = True

MAKE_ONE = "Make one with manage.py djmessenger tokens --new-key and read it into DJM_TOKEN_KEYS from a secret store."
INSTALL = f"Tokens in the database need a package: {install('cryptography')}."


def new_key() -> str:
    """Return a new random key for ``DJM_TOKEN_KEYS``."""
    if not HAS_CRYPTOGRAPHY:
        raise TokenKeyError(INSTALL)
    return Fernet.generate_key().decode()


def encrypt(page_id: str, token: Secret) -> str:
    """Encrypt a Page's token with the newest key. Raises ``TokenKeyError`` if there is no usable key."""
    return _ring().encrypt(f"{page_id} {token.reveal()}".encode()).decode()


@lru_cache(maxsize=1024)
def decrypt(page_id: str, ciphertext: str) -> Secret:
    """Decrypt a Page's token. Raises ``TokenKeyError`` if no key decrypts it or it belongs to another Page."""
    found = _opened(_ring(), ciphertext)
    if found is None:
        raise TokenKeyError(
            f"No key of DJM_TOKEN_KEYS opens the token of Page {page_id}. Put the key back with which it was stored "
            "(older keys stand after the newest), or enter the token again in the admin."
        )
    if found[0] != page_id:
        raise TokenKeyError(
            f"The row of Page {page_id} holds the token of another Page. Enter the token again in the admin."
        )
    return found[1]


def is_under_newest_key(ciphertext: str) -> bool:
    """Return whether the newest key decrypts a ciphertext. The older keys are then not needed for it."""
    return _opened(_ring(newest_only=True), ciphertext) is not None


def key_problems() -> list[str]:
    """Return the problems of ``DJM_TOKEN_KEYS`` as texts that show no part of a key. An empty setting has none."""
    if not _keys():
        return []
    if not HAS_CRYPTOGRAPHY:
        return [INSTALL]
    return [
        f"DJM_TOKEN_KEYS[{number}] is no key. {MAKE_ONE}"
        for number, key in enumerate(_keys())
        if _fernet(key) is None
    ]


def _keys() -> list[Secret]:
    try:
        return list(app_settings.DJM_TOKEN_KEYS.values())
    except DJMInvalidConfigException as error:
        problem = str(error)
    raise TokenKeyError(problem)


def _fernet(key: Secret) -> Fernet | None:
    try:
        return Fernet(key.reveal())
    except (ValueError, TypeError):
        return None


def _ring(*, newest_only: bool = False) -> MultiFernet:
    if not _keys():
        raise TokenKeyError(f"DJM_TOKEN_KEYS is empty, and tokens are never stored unencrypted. {MAKE_ONE}")
    problems = key_problems()
    if problems:
        raise TokenKeyError(problems[0])
    found = [_fernet(key) for key in _keys()[: 1 if newest_only else None]]
    return MultiFernet([key for key in found if key is not None])


def _opened(ring: MultiFernet, ciphertext: str) -> tuple[str, Secret] | None:
    """Return page id and token, or None if no key of the ring decrypts the ciphertext."""
    try:
        page_id, token = map(Secret, ring.decrypt(ciphertext.encode()).decode().split(" "))
    except (InvalidToken, ValueError, DJMInvalidValueException):
        return None
    return page_id.reveal(), token
