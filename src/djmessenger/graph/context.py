"""Current client: the client of the Page whose work this thread does, without a parameter for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.graph.client import Client

_bound: ContextVar[Client | None] = ContextVar("djmessenger_graph_client", default=None)
_default: Callable[[], Client] | None = None


def current() -> Client:
    """Return the client that is bound in this context, otherwise the client of the default Page.

    Raise ``DJMInvalidConfigException`` if there is neither.
    """
    client = _bound.get()
    if client is not None:
        return client
    if _default is None:
        raise DJMInvalidConfigException(
            "No Graph client is bound and no default is set; call it after django.setup()"
        )
    return _default()


@contextmanager
def bound(client: Client) -> Iterator[Client]:
    """Bind ``client`` as the current client inside the ``with`` block."""
    token = _bound.set(client)
    try:
        yield client
    finally:
        _bound.reset(token)


def set_default(factory: Callable[[], Client] | None) -> None:
    """Set the factory that ``current`` calls if no client is bound; ``None`` removes it."""
    global _default  # noqa: PLW0603
    _default = factory
