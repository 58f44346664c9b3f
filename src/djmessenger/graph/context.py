"""The client of the Page that is being worked for, without passing it through every call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from djmessenger.exceptions import DJMInvalidConfigException
from djmessenger.graph.client import Client

_bound: ContextVar[Client | None] = ContextVar("djmessenger_graph_client", default=None)
_default: Callable[[], Client] | None = None


def current() -> Client:
    """Give the client bound here, else the default Page's.

    ``DJMInvalidConfigException`` when there is neither.
    """
    client = _bound.get()
    if client is not None:
        return client
    if _default is None:
        raise DJMInvalidConfigException("No Graph client is bound and none is set as default")
    return _default()


@contextmanager
def bound(client: Client) -> Iterator[Client]:
    """Make this the current client for what runs inside."""
    token = _bound.set(client)
    try:
        yield client
    finally:
        _bound.reset(token)


def set_default(factory: Callable[[], Client] | None) -> None:
    """Say who makes the client when none is bound."""
    global _default  # noqa: PLW0603
    _default = factory
