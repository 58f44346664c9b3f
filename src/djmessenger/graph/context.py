"""Current client: the client of the Page whose work this thread does, without a parameter for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from djmessenger.exceptions import DJMException, DJMInvalidConfigException
from djmessenger.graph.client import Client

_bound: ContextVar[Client | DJMException | None] = ContextVar("djmessenger_graph_client", default=None)
_default: Callable[[], Client] | None = None


def current() -> Client:
    """Return the client that is bound in this context, otherwise the client of the default Page.

    Raise the exception that is bound instead of a client, and ``DJMInvalidConfigException`` if nothing is bound or set.
    """
    client = _bound.get()
    if isinstance(client, DJMException):
        raise client.with_traceback(None)
    if client is not None:
        return client
    if _default is None:
        raise DJMInvalidConfigException(
            "No Graph client is bound and no default is set; call it after django.setup()"
        )
    return _default()


@contextmanager
def bound(client: Client | DJMException) -> Iterator[Client | DJMException]:
    """Bind ``client`` as the current client inside the ``with`` block.

    An exception in its place is the reason why the Page has no client. It is raised where a client is needed, so that
    no call is made with the client of another Page.
    """
    token = _bound.set(client)
    try:
        yield client
    finally:
        _bound.reset(token)


def set_default(factory: Callable[[], Client] | None) -> None:
    """Set the factory that ``current`` calls if no client is bound; ``None`` removes it."""
    global _default  # noqa: PLW0603
    _default = factory
