"""The errors of calls to Graph, as one tree; the branch names the side that has to act::

    GraphError
    ├── NotSent              no action: nothing left this machine; the engine repeats the call
    ├── UnknownFate          no action: Graph may have accepted it; wait for the echo before a repeat
    ├── RetryLater           no action: wait ``after`` seconds
    │   ├── Throttled        a limit of calls is reached; the whole Page waits
    │   └── PageRestricted   Meta restricts the Page; the whole Page waits for days, its owner should know
    ├── TokenError           the owner of the token: make a new one; the whole Page waits
    ├── PermissionMissing    the owner of the app: App Review, a role, a switch
    ├── PersonUnreachable    no action until the person writes again
    ├── WindowClosed         no action until the person writes again; or another kind of message
    ├── ThreadTaken          the app that has the conversation passes control
    ├── ProfileRefused       no action: Graph returns nothing about this person; remember it
    └── MessageRejected      the bot's author: the message or the call is wrong

The class depends on ``code`` and ``error_subcode`` and never on Meta's words; the table is
``djmessenger.graph.codes``.
"""

from __future__ import annotations

import datetime
import email.utils
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from djmessenger.exceptions import DJMException
from djmessenger.graph.codes import NEW_TOKEN, find
from djmessenger.graph.decoding import decoded_answer
from djmessenger.graph.usage import parse_usage
from djmessenger.graph.wire import find_header

Fate = Literal["unsent", "refused", "unknown"]

LONGEST_WAIT = 24 * 3600.0
"""Longest wait in seconds; Meta counts calls over a rolling day, so a longer ``Retry-After`` is cut."""


class GraphError(DJMException):
    """A call to Graph did not succeed. All fields are safe to log: no token, no text of a person."""

    action: str = "Read the code in Meta's list of error codes."
    """Advice to the operator, one sentence."""
    fate: ClassVar[Fate] = "refused"
    """Fate of the message: ``unsent`` (repeat it), ``refused`` (not accepted), ``unknown`` (perhaps accepted)."""
    pauses_page: ClassVar[bool] = False
    """True if every other call for the same Page would fail too."""
    usual_wait: ClassVar[float | None] = None
    """Value of ``after`` in seconds if Meta names no time."""

    def __init__(
        self,
        message: str = "",
        *,
        code: int | None = None,
        subcode: int | None = None,
        type: str = "",  # noqa: A002
        fbtrace_id: str = "",
        status: int | None = None,
        meaning: str = "",
        action: str = "",
        after: float | None = None,
        is_transient: bool = False,
        user_title: str = "",
        user_message: str = "",
        call: str = "",
    ) -> None:
        super().__init__(message or meaning)
        self.message = message
        self.code = code
        self.subcode = subcode
        self.type = type
        self.fbtrace_id = fbtrace_id
        self.status = status
        self.meaning = meaning
        self.after = after
        self.is_transient = is_transient
        self.user_title = user_title
        self.user_message = user_message
        self.call = call
        if action:
            self.action = action
        self.add_note(self.action)

    @property
    def data(self) -> dict[str, Any]:
        """Error object of Graph's answer, as JSON to store; empty if the answer had none."""
        error = {
            "message": self.message,
            "type": self.type,
            "code": self.code,
            "error_subcode": self.subcode,
            "is_transient": self.is_transient,
            "error_user_title": self.user_title,
            "error_user_msg": self.user_message,
            "fbtrace_id": self.fbtrace_id,
        }
        error = {key: value for key, value in error.items() if value not in ("", None, False)}
        return {"error": error} if error else {}

    def __str__(self) -> str:
        number = "" if self.code is None else f" {self.code}"
        if self.subcode is not None:
            number += f"/{self.subcode}"
        reason = ": ".join(part for part in (self.meaning, self.message) if part)
        facts = [
            f"{name} {value}"
            for name, value in (
                ("call", self.call),
                ("status", self.status),
                ("fbtrace_id", self.fbtrace_id),
            )
            if value
        ]
        details = f" [{', '.join(facts)}]" if facts else ""
        return f"{type(self).__name__}{number}: {reason or 'no reason given'}{details}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), dict(vars(self)))


def _restore(cls: type[GraphError], state: dict[str, Any]) -> GraphError:
    error = cls(str(state.get("message", "")))
    vars(error).update(state)
    return error


class NotSent(GraphError):
    """No byte left this machine: no address, connection refused, no TLS, or a timeout before the first byte."""

    action = "Check the network and DJM_GRAPH_URL; the message is repeated by itself."
    fate = "unsent"


class UnknownFate(GraphError):
    """The request was written and no answer came: Graph may have accepted it."""

    action = "Wait for the echo before a repeat; repeat calls that only read at will."
    fate = "unknown"


class RetryLater(GraphError):
    """Not accepted now; accepted later. ``after`` is the time to wait in seconds, if Meta names one."""

    action = "Wait, then repeat; the message is repeated by itself."
    fate = "unsent"


class Throttled(RetryLater):
    """A limit of calls is reached for the Page or the app."""

    action = (
        "Wait until the usage headers are below 100 and send less; the messages are repeated by themselves."
    )
    pauses_page = True


class PageRestricted(RetryLater):
    """Meta restricts the Page for breaking a policy."""

    action = "Read the Page's Support Inbox, correct the violation, and wait some days."
    pauses_page = True
    usual_wait = 6 * 3600.0


class TokenError(GraphError):
    """The access token is not valid any more; the messages wait for a new one."""

    action = NEW_TOKEN
    fate = "unsent"
    pauses_page = True


class PermissionMissing(GraphError):
    """The app, the token or the Page lacks a permission."""

    action = "Check the app's permissions, access level and roles in the App Dashboard."


class PersonUnreachable(GraphError):
    """This person gets no messages from the Page: blocked, gone, or of another Page."""

    action = "Do not send to this person until the person writes again."


class WindowClosed(GraphError):
    """The time to answer freely is over."""

    action = (
        "Wait until the person writes again, or send a utility template; staff may use the HUMAN_AGENT tag."
    )


class ThreadTaken(GraphError):
    """Another app, or a human in the Page's inbox, has the conversation."""

    action = "Request the conversation with request_thread_control, or wait until control is passed."


class ProfileRefused(GraphError):
    """Graph returns no profile of this person, now or later; remember it for some weeks."""

    action = "Go on without a name; the app needs Business Asset User Profile Access to see profiles."


class MessageRejected(GraphError):
    """The message or the call is wrong and will stay wrong."""

    action = "Correct the message; a repeat is refused again."


CLASSES: dict[str, type[GraphError]] = {
    cls.__name__: cls
    for cls in (
        NotSent,
        UnknownFate,
        RetryLater,
        Throttled,
        PageRestricted,
        TokenError,
        PermissionMissing,
        PersonUnreachable,
        WindowClosed,
        ThreadTaken,
        ProfileRefused,
        MessageRejected,
    )
}

TOO_MANY_REQUESTS = 429

INTEGERS_END = 2**31
"""First number that does not fit into an integer column of a database."""


def error_from(status: int, headers: Mapping[str, str], body: Any, *, call: str = "") -> GraphError:
    """Return the ``GraphError`` for an answer that is no success; never raise, whatever the answer is.

    ``body`` is the body of the answer: bytes, text, or decoded JSON. An undocumented code is ``UnknownFate``,
    because that class neither loses nor doubles a message. With a status of 400 to 499 and ``is_transient: false`` it
    is ``MessageRejected``: Meta then says that the call was refused and will be refused again.
    """
    envelope = _envelope(body)
    code, subcode = _number(envelope.get("code")), _number(envelope.get("error_subcode"))
    transient = envelope.get("is_transient") is True
    row = find(code, subcode)
    cls = CLASSES[row.kind] if row else UnknownFate
    if transient and not issubclass(cls, (RetryLater, TokenError)):
        row, cls = None, UnknownFate
    if row is None and status == TOO_MANY_REQUESTS:
        cls = Throttled
    elif row is None and 400 <= status < 500 and code is not None and envelope.get("is_transient") is False:
        cls = MessageRejected
    return cls(
        printable(envelope.get("message")),
        code=code,
        subcode=subcode,
        type=printable(envelope.get("type")),
        fbtrace_id=printable(envelope.get("fbtrace_id")),
        status=status,
        meaning=row.meaning if row else _meaning(envelope, status, transient),
        action=row.action if row else "",
        after=(_after(headers) or cls.usual_wait) if issubclass(cls, RetryLater) else None,
        is_transient=transient,
        user_title=printable(envelope.get("error_user_title")),
        user_message=printable(envelope.get("error_user_msg")),
        call=call,
    )


def _envelope(body: Any) -> Mapping[str, Any]:
    if isinstance(body, (bytes, str)):
        try:
            body = decoded_answer(body)
        except ValueError:
            return {}
    error = body.get("error") if isinstance(body, Mapping) else None
    return error if isinstance(error, Mapping) else {}


def _meaning(envelope: Mapping[str, Any], status: int, transient: bool) -> str:
    if not envelope:
        return f"HTTP {status} without an error that can be read"
    return "a failure that Meta calls temporary" if transient else "a code that is not documented"


def _number(value: Any) -> int | None:
    """Return a code as a number, or ``None`` if it is none or fits no integer column of a database."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < INTEGERS_END:
        return value
    return None


_TOKEN_LIKE = re.compile(r"[A-Za-z0-9|_-]{32,}")
"""Texts that may be a token; Meta's messages quote a malformed token in full."""


def printable(value: Any) -> str:
    """Return a text of Graph without tokens and control characters, cut to 2,000 characters; ``""`` for no text."""
    if not isinstance(value, str):
        return ""
    return "".join(
        char if char.isprintable() else " " for char in _TOKEN_LIKE.sub("***", value[:2000])
    ).strip()


def _after(headers: Mapping[str, str]) -> float | None:
    retry_after = _retry_after(find_header(headers, "Retry-After"), find_header(headers, "Date"))
    wait = parse_usage(headers).regain_after if retry_after is None else retry_after
    return None if wait is None or wait <= 0 else min(wait, LONGEST_WAIT)


def _retry_after(value: str, date: str) -> float | None:
    """Return the seconds of a ``Retry-After`` header, or None if it has none.

    If it contains a date, the seconds count from ``date``, the ``Date`` header of the same response. The clock of this
    host may be wrong.
    """
    value = value.strip()
    if re.fullmatch(r"[0-9]{1,9}", value):
        return float(value)
    when = _moment(value)
    return (
        None
        if when is None
        else (when - (_moment(date) or datetime.datetime.now(datetime.UTC))).total_seconds()
    )


def _moment(value: str) -> datetime.datetime | None:
    """Return the moment of an HTTP date, or None if the text is no date."""
    try:
        when = email.utils.parsedate_to_datetime(value)
        return when.replace(tzinfo=datetime.UTC) if when.tzinfo is None else when.astimezone(datetime.UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
