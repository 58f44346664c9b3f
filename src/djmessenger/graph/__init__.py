"""Calls to Meta's Graph API: each call is a value, and a client executes it through a transport.

>>> from djmessenger import graph
>>> graph.current().send({"id": "7012345678901234"}, {"message": {"text": "Hello"}})  # doctest: +SKIP
"""

from __future__ import annotations

from djmessenger.graph import errors
from djmessenger.graph.client import Client, LoggedCall
from djmessenger.graph.context import bound, current, set_default
from djmessenger.graph.errors import (
    GraphError,
    MessageRejected,
    NotSent,
    PageRestricted,
    PermissionMissing,
    PersonUnreachable,
    ProfileRefused,
    RetryLater,
    ThreadTaken,
    Throttled,
    TokenError,
    UnknownFate,
    WindowClosed,
    error_from,
)
from djmessenger.graph.results import BatchAnswer, Done, MessengerProfile, Profile, Sent
from djmessenger.graph.transports import PooledTransport, default_transport
from djmessenger.graph.usage import Usage, UsageReport
from djmessenger.graph.wire import Call, Request, Response, Secret, Transport, Upload

__all__ = [
    "BatchAnswer",
    "Call",
    "Client",
    "Done",
    "GraphError",
    "LoggedCall",
    "MessageRejected",
    "MessengerProfile",
    "NotSent",
    "PageRestricted",
    "PermissionMissing",
    "PersonUnreachable",
    "PooledTransport",
    "Profile",
    "ProfileRefused",
    "Request",
    "Response",
    "RetryLater",
    "Secret",
    "Sent",
    "ThreadTaken",
    "Throttled",
    "TokenError",
    "Transport",
    "UnknownFate",
    "Upload",
    "Usage",
    "UsageReport",
    "WindowClosed",
    "bound",
    "current",
    "default_transport",
    "error_from",
    "errors",
    "set_default",
]
