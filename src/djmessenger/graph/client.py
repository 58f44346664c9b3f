"""The client: executes the calls of one Page, logs each one, and shows its token in no log and no error."""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import ipaddress
import json
import logging
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import urllib3

from djmessenger.channels import MESSENGER, channel_of
from djmessenger.exceptions import DJMInvalidConfigException, DJMInvalidValueException
from djmessenger.graph.batches import batch_answer
from djmessenger.graph.calls import Calls
from djmessenger.graph.decoding import NOT_JSON, decoded_answer
from djmessenger.graph.errors import GraphError, UnknownFate, error_from, printable
from djmessenger.graph.results import RenewedToken, TokenInfo, text_of
from djmessenger.graph.transports import default_transport
from djmessenger.graph.usage import UsageReport, parse_usage
from djmessenger.graph.wire import Call, Request, Response, Transport
from djmessenger.logs import hidden
from djmessenger.secret import Body, Secret, without_texts_in_frames
from djmessenger.signatures import appsecret_proof

logger = logging.getLogger("djmessenger.graph")

GRAPH_URL = "https://graph.facebook.com"
GRAPH_VERSION = "v26.0"
"""Newest version of Graph since 29 Jul 2026 (Graph API changelog)."""

REDIRECTS, OK = range(300, 400), range(200, 300)


@dataclass(frozen=True)
class LoggedCall:
    """One line of the request log of a client, without secrets and texts; ids are short hashes."""

    at: float
    """Unix time in seconds."""
    method: str
    path: str
    status: int | None
    outcome: str
    """``ok``, or the name of the error's class."""
    code: int | None
    subcode: int | None
    ms: float
    fbtrace_id: str


class Client(Calls):
    """Client of Graph for one Page; threads may share it.

    ``page_id`` is ``me`` if the token alone names the Page. ``base_url`` is the only place that names a host, so
    no call can send the token to another one. ``log`` contains the latest ``log_size`` calls. ``on_call`` is
    called with each call when it ends. Raise ``DJMInvalidConfigException`` for an address or version that
    cannot be right.
    """

    def __init__(
        self,
        token: str | Secret,
        *,
        app_secret: str | Secret = "",
        page_id: str = "me",
        channel: str = MESSENGER,
        base_url: str = GRAPH_URL,
        version: str = GRAPH_VERSION,
        transport: Transport | None = None,
        timeout: float = 10.0,
        log_size: int = 0,
        on_call: Callable[[LoggedCall], None] | None = None,
    ) -> None:
        token, app_secret = Secret(token), Secret(app_secret)
        self._token = token
        self._proof = _proof(token, app_secret)
        self._key = hashlib.sha256(token.reveal().encode()).digest()
        self.page_id = page_id
        self.channel = channel_of(channel)
        self.base_url = _checked_url(base_url)
        self.version = _checked_version(version)
        self.transport: Transport = transport or default_transport()
        self.timeout = timeout
        self.usage = UsageReport()
        """Latest value of each counter of Meta's limits."""
        self.clock_skew: float | None = None
        """Seconds by which this machine's clock was ahead of Meta's at the last answer; exact to about 2 s."""
        self.served_version = ""
        """Graph version of the last answer; differs from ``version`` if Meta has ended that version."""
        self.log: deque[LoggedCall] = deque(maxlen=log_size)
        self._on_call = on_call

    def __repr__(self) -> str:
        return f"<Client for page {self.page_id} at {self.base_url}/{self.version}>"

    def debug_token(self, client: Client) -> TokenInfo:
        """Return Graph's facts about the token of ``client``; this client must have the app's own token.

        The call is sent as a batch of one, so that the token is in the body and in no URL.
        """
        query = Secret(f"debug_token?input_token={quote(client._token.reveal(), safe='')}")
        slot = {"method": "GET", "relative_url": query}
        answers = self.execute(Call("POST", "", {"batch": [slot], "include_headers": False}))
        first = answers[0] if isinstance(answers, list) and answers else None
        data = batch_answer(Call("GET", "debug_token"), first).get()
        return TokenInfo.read(data.get("data") if isinstance(data, Mapping) else {})

    def renew_token(self) -> RenewedToken:
        """Return a token of Instagram Login that lives another 60 days. It may be the present one.

        Graph refuses a token that is younger than 24 hours or has ended (Instagram Platform, "Refresh Access Token", 17
        Jul 2025). The token is in the query, because the page names no other place.
        """
        params = {"grant_type": "ig_refresh_token"}
        call = Call("GET", "refresh_access_token", params=params, token_in_query=True)
        data = self.execute(call)
        token = data.get("access_token") if isinstance(data, Mapping) else None
        if not isinstance(token, Secret) or not token:
            raise UnknownFate(meaning="the answer has no token")
        seconds = data.get("expires_in")
        return RenewedToken(
            # ``_without_secrets`` has replaced the present token in the answer.
            self._token if token == _HIDDEN else token,
            seconds if isinstance(seconds, int) and 0 < seconds < _CENTURY else 0,
        )

    @property
    def token_hash(self) -> str:
        """Short hash that identifies the token without revealing it."""
        return self._key.hex()[:16]

    def execute(self, call: Call) -> Any:
        """Execute one call and return the decoded JSON; raise a ``GraphError`` for any other answer."""
        return self._answer(call)[1]

    @without_texts_in_frames
    def _answer(self, call: Call, *, needs: str = "") -> tuple[int, Any]:
        started = time.perf_counter()
        status: int | None = None
        trace = ""
        error: GraphError | None = None
        data: Any = None
        try:
            response = self.transport.send(self._request(call))
            status, trace = response.status, printable(response.header("x-fb-trace-id"))
            self.usage = self.usage.updated(parse_usage(response.headers))
            self.clock_skew = _clock_skew(response, self.clock_skew)
            self.served_version = response.header("facebook-api-version") or self.served_version
            data = _decoded(response, Body(self._without_secrets(response.body)), needs)
        except GraphError as raised:
            error = raised
        if error is not None:
            error.call = f"{call.method} /{self._hidden(call.path)}"
            trace = error.fbtrace_id = error.fbtrace_id or trace
        self._note(call, status, error, trace, (time.perf_counter() - started) * 1000)
        if error is not None:
            raise error
        return response.status, data

    def _without_secrets(self, body: bytes) -> bytes:
        """Replace token and proof in an answer, because Meta's error messages quote a malformed token."""
        return self._proof.hide_in(self._token.hide_in(body))

    def _request(self, call: Call) -> Request:
        headers = {"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "djmessenger"}
        url = "/".join(part for part in (self.base_url, self.version, call.path) if part)
        query = {key: _parameter(value) for key, value in (call.params or {}).items() if value is not None}
        if call.files:
            content, headers["Content-Type"] = self._multipart(call)
        elif call.json is not None:
            headers["Content-Type"] = "application/json"
            content = Body(self._body(call.json))
        else:
            url = self._with_secrets(url, query, with_token=call.token_in_query)
            return Request(call.method, url, self._signed(headers), None, self._time(call))
        if query:
            url = f"{url}?{urlencode(query, errors='replace')}"
        return Request(call.method, url, self._signed(headers), content.reveal(), self._time(call))

    def _time(self, call: Call) -> float:
        return self.timeout if call.timeout is None else call.timeout

    def _signed(self, headers: Mapping[str, str]) -> dict[str, str]:
        return {**headers, "Authorization": f"Bearer {self._token.reveal()}"}

    def _with_secrets(self, url: str, query: Mapping[str, str], *, with_token: bool) -> str:
        # Token and proof are added after the encoding, as in ``_body``.
        encoded = urlencode(query, errors="replace")
        named = [("access_token", self._token)] if with_token else []
        named += [("appsecret_proof", self._proof)] if self._proof else []
        for name, secret in named:
            encoded += f"{'&' if encoded else ''}{name}={quote(secret.reveal(), safe='')}"
        return f"{url}?{encoded}" if encoded else url

    def _body(self, data: Mapping[str, Any]) -> bytes:
        # The proof is added after the encoding: a failing encoder would show it in a traceback.
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, default=_revealed)
        if not self._proof:
            return text.encode("utf-8", "replace")
        start = text[:-1].encode("utf-8", "replace") + (b", " if data else b"")
        return start + f'"appsecret_proof": "{self._proof.reveal()}"}}'.encode()

    def _multipart(self, call: Call) -> tuple[Body, str]:
        fields: dict[str, Any] = {
            key: _parameter(value).encode("utf-8", "replace") for key, value in (call.json or {}).items()
        }
        for key, upload in (call.files or {}).items():
            name = upload.name.encode("utf-8", "replace").decode()
            fields[key] = (name, upload.read(), upload.media_type)
        # No variable holds the proof, as in ``_body``.
        content, kind = urllib3.encode_multipart_formdata(
            {**fields, **({"appsecret_proof": self._proof.reveal()} if self._proof else {})}
        )
        return Body(content), kind

    def _note(self, call: Call, status: int | None, error: GraphError | None, trace: str, ms: float) -> None:
        level = logging.WARNING if error else logging.INFO
        if not (self.log.maxlen or self._on_call or logger.isEnabledFor(level)):
            return
        line = LoggedCall(
            at=time.time(),
            method=call.method,
            path=f"/{self._hidden(call.path)}",
            status=status,
            outcome=type(error).__name__ if error else "ok",
            code=error.code if error else None,
            subcode=error.subcode if error else None,
            ms=round(ms, 1),
            fbtrace_id=trace,
        )
        self.log.append(line)
        if self._on_call is not None:
            self._on_call(line)
        logger.log(
            level,
            "graph_call %s %s: %s, status %s, code %s/%s, %s ms",
            line.method,
            line.path,
            line.outcome,
            line.status,
            line.code,
            line.subcode,
            line.ms,
            extra={
                "action": "graph_call",
                "method": line.method,
                "path": line.path,
                "status": line.status,
                "outcome": line.outcome,
                "code": line.code,
                "subcode": line.subcode,
                "ms": line.ms,
                "fbtrace_id": line.fbtrace_id,
                "page": self._hidden(self.page_id),
            },
        )

    def _hidden(self, path: str) -> str:
        """Return the path with each id as a short keyed hash, the same in all log lines of the project."""
        return "/".join(
            segment if _WORD.fullmatch(segment) else hidden(segment) for segment in path.split("/")
        )


def _clock_skew(response: Response, previous: float | None) -> float | None:
    try:
        theirs = email.utils.parsedate_to_datetime(response.header("Date")).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return previous
    return time.time() - theirs


_HIDDEN = Secret("***")
_CENTURY = 100 * 366 * 24 * 3600
_WORD = re.compile(r"[a-z_]*")


def _decoded(response: Response, body: Body, needs: str) -> Any:
    """Return the JSON of a success; raise the ``GraphError`` of any other answer.

    An answer that cannot be read is ``UnknownFate``, because Graph may have executed the call.
    """
    data, problem = None, NOT_JSON
    try:
        data = _sealed(decoded_answer(body.reveal()))
    except ValueError as error:
        problem = str(error)
    if isinstance(data, Mapping) and data.get("error"):
        raise error_from(response.status, response.headers, data)
    if response.status in REDIRECTS:
        raise UnknownFate(
            meaning="Graph answered with a redirect, which is not followed", status=response.status
        )
    if response.status not in OK:
        raise error_from(response.status, response.headers, data)
    if data is None:
        raise UnknownFate(meaning=problem, status=response.status)
    if needs and not (isinstance(data, Mapping) and text_of(data.get(needs))):
        raise UnknownFate(meaning=f"the answer has no {needs}", status=response.status)
    return data


def _sealed(data: Any) -> Any:
    """Return the answer with its token as a ``Secret``, so that no frame shows it."""
    if isinstance(data, dict) and isinstance(data.get("access_token"), str):
        with contextlib.suppress(DJMInvalidValueException):
            return {**data, "access_token": Secret(data.pop("access_token"))}
    return data


def _revealed(value: Any) -> str:
    """Return the text of a ``Secret`` to the JSON encoder; until then no repr of the call shows it."""
    if isinstance(value, Secret):
        return value.reveal()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _parameter(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _proof(token: Secret, secret: Secret) -> Secret:
    if not (token and secret):
        return Secret()
    return Secret(appsecret_proof(token, secret))


def _checked_version(version: str) -> str:
    if version and not re.fullmatch(r"v[0-9]{1,3}\.[0-9]{1,3}", version):
        raise DJMInvalidConfigException(f"{version!r} is not a Graph version; write it like v26.0")
    return version


def _checked_url(url: str) -> str:
    """Return the address; raise ``DJMInvalidConfigException`` if it would expose the token."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise DJMInvalidConfigException(f"{url!r} is not an address of Graph; write it like {GRAPH_URL}")
    if parts.username or parts.password:
        raise DJMInvalidConfigException("Graph's address must not contain a user or a password")
    if parts.scheme == "http" and not _is_near(parts.hostname):
        raise DJMInvalidConfigException(f"The token would go to {parts.hostname} unencrypted; use https")
    return url.rstrip("/")


def _is_near(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".test", ".internal"))
    return address.is_loopback or address.is_private
