"""Emulator of Graph: authentication, routing and faults of calls."""

from __future__ import annotations

import email.utils
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from messenger_emulator.batches import answer_batch
from messenger_emulator.calls import LoggedCall, redact
from messenger_emulator.encoding import Parameters, read_parameters
from messenger_emulator.endpoints import apps, messages, pages, people, profile, tokens
from messenger_emulator.endpoints.context import Context
from messenger_emulator.refusals import (
    METHOD_EXCEPTION,
    Refusal,
    business_throttled,
    malformed_body,
    missing,
    no_such_object,
    not_a,
    proof_missing,
    proof_wrong,
    temporary,
    throttled,
    token_dead,
    token_required,
    token_unknown,
    unknown_path,
)
from messenger_emulator.state import DAY, App, Page
from messenger_emulator.webhook import Webhook

GraphResponse = tuple[int, dict[str, str], bytes]
"""Status, headers and body of one answer."""
Edge = Callable[[Context], Any]

GRAPH_VERSION = "v26.0"
"""The version of 29 July 2026 (Graph API changelog)."""
FIRST_LISTED = 20
"""First major version in the table of limits; all older ones have ended."""
KEPT_CALLS = 50_000
"""Minimum number of calls in the log. Older ones are dropped, because a server can run for weeks."""
_VERSION = re.compile(r"v\d+\.\d+")
_MODES = {"GET", "POST", "DELETE"}

_EDGES: Mapping[str, tuple[str, Edge]] = {
    "messages": ("POST", messages.send),
    "message_attachments": ("POST", messages.upload),
    "messenger_profile": ("GET POST DELETE", profile.profile),
    "custom_user_settings": ("GET POST DELETE", profile.user_settings),
    "personas": ("GET POST", pages.personas),
    "custom_labels": ("GET POST", pages.custom_labels),
    "subscribed_apps": ("GET POST DELETE", pages.subscribed_apps),
    "conversations": ("GET", pages.conversations),
    "insights": ("GET", pages.insights),
    "message_templates": ("GET POST DELETE", pages.message_templates),
    "pass_thread_control": ("POST", people.thread_control),
    "take_thread_control": ("POST", people.thread_control),
    "request_thread_control": ("POST", people.thread_control),
    "release_thread_control": ("POST", people.thread_control),
    "extend_thread_control": ("POST", people.thread_control),
    "thread_owner": ("GET", people.thread_owner),
    "moderate_conversations": ("POST", people.moderate),
    "unlink_accounts": ("POST", people.unlink_account),
}
"""Methods and function of each edge of a Page."""


class NoAnswer(Exception):
    """A call without an answer. ``sent`` is False if there was no connection either."""

    def __init__(self, *, accepted: bool, sent: bool = True) -> None:
        self.accepted = accepted
        """True if Graph performed the call nevertheless."""
        self.sent = sent
        super().__init__("no answer" if sent else "no connection")


class Emulator(Webhook):
    """A stateful stand-in for graph.facebook.com and for Meta's webhook sender."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.calls: list[LoggedCall] = []

    def handle(
        self,
        method: str,
        path: str,
        query: str | Mapping[str, Any] = "",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> GraphResponse:
        """Answer one call of Graph: status, headers, body.

        ``path`` begins after the host, with or without a version. Raise ``NoAnswer`` for the faults that leave
        the caller without an answer; raise nothing else.
        """
        lowered = {name.lower(): value for name, value in (headers or {}).items()}
        parameters = read_parameters(query, lowered, body)
        call = LoggedCall(self.clock(), method.upper(), path, redact(parameters.values))
        call.files = [upload.filename for upload in parameters.files]
        with self.lock:
            if len(self.calls) >= 2 * KEPT_CALLS:
                del self.calls[:KEPT_CALLS]
            self.calls.append(call)
            if self.faults.strike("unreachable", path):
                call.fault = "unreachable"
                raise NoAnswer(accepted=False, sent=False)
            if self.faults.strike("timeout_before", path):
                call.fault = "timeout_before"
                raise NoAnswer(accepted=False)
            if self.faults.strike("server_error_empty", path):
                call.fault, call.status = "server_error_empty", 500
                return 500, {}, b""
            status, content, extra = self._answer(call, path, parameters, lowered)
            text = json.dumps(content, separators=(",", ":")).encode("ascii")
            call.status = status
            call.answer = redact(content) if _has_token(content) else content
            call.headers = {
                "Content-Type": "application/json; charset=UTF-8",
                "Date": email.utils.formatdate(self.clock(), usegmt=True),
                "facebook-api-version": self._served(_version(path)),
                **self._usage(call),
                **extra,
            }
            if self.faults.strike("timeout_after", path):
                call.fault = "timeout_after"
                raise NoAnswer(accepted=status == 200)
            if self.faults.strike("truncated", path):
                call.fault = "truncated"
                text = text[: len(text) // 2]
            return status, dict(call.headers), text

    def _answer(
        self, call: LoggedCall, path: str, parameters: Parameters, headers: Mapping[str, str]
    ) -> tuple[int, Any, dict[str, str]]:
        try:
            return 200, self._dispatch(call, path, parameters, headers), {}
        except Refusal as refusal:
            return refusal.status, refusal.envelope(self.ids.trace()), refusal.headers

    def _dispatch(
        self, call: LoggedCall, path: str, parameters: Parameters, headers: Mapping[str, str]
    ) -> Any:
        params = parameters.values
        method = str(params.pop("method", None) or call.method).upper()
        has_token = "access_token" in params
        token = str(params.pop("access_token", None) or _bearer(headers))
        proof = params.pop("appsecret_proof", None)
        parts = [unquote(part) for part in path.strip("/").split("/") if part]
        if parts and _VERSION.fullmatch(parts[0]):
            version = parts.pop(0)
            if self._has_ended(version):
                call.warnings.append(f"{version} has ended; Graph serves the oldest version that still works")
        app = self._app_of(token, proof)
        page = self._authenticate(token, proof, path) if app is None else None
        call.page_id = "" if page is None else page.id
        if parameters.malformed:
            raise malformed_body()
        if not parts and "batch" in params and method == "POST":
            return self._batch(call, params, token, proof)
        ids = (
            [one.strip() for one in str(params.pop("ids", "")).split(",") if one.strip()] if not parts else []
        )
        if not (parts or ids) or method not in _MODES or (ids and method != "GET"):
            raise Refusal(100, "Unsupported request", type=METHOD_EXCEPTION)
        self._strike_whole_calls(call, path)
        if app is not None and parts:
            return apps.answer(self, app, method, parts, params)
        if page is None or parts == ["debug_token"]:
            raise apps.debug_token_of_a_page()
        if self.enforce_business_limit:
            most = self.limits["rate.calls_per_engaged_user"] * self.engaged(page)
            if not self.has_left(f"{page.id}:business", most, DAY):
                raise business_throttled(self._full_usage(page.id))
        if ids:
            return {one: self._route(Context(self, page, method, one, one, params), [one]) for one in ids}
        target = page.id if parts[0] == "me" else parts[0]
        context = Context(
            self, page, method, "/".join(parts), target, params, parameters.files, call.warnings
        )
        if parts == ["refresh_access_token"]:
            if not has_token:
                raise missing("access_token")
            return tokens.renew(context, token)
        return self._route(context, parts)

    def _served(self, version: str) -> str:
        """Return the version that answers: the requested one, or the oldest that works if that one has ended."""
        if not version or not self._has_ended(version):
            return version or GRAPH_VERSION
        listed = self.limits.versions()
        return next((name for name in listed if not self._has_ended(name)), GRAPH_VERSION)

    def _has_ended(self, version: str) -> bool:
        older = int(version[1:].partition(".")[0]) < FIRST_LISTED
        return older or self.limits.has_ended(f"graph.{version}", self.today())

    def _app_of(self, token: str, proof: Any) -> App | None:
        """Return the app of an app token (id, bar, secret), or None for other tokens."""
        app_id, bar, secret = token.partition("|")
        mine = [page for page in self.pages.values() if bar and page.app_id == app_id]
        if not any(page.app_secret and hmac.compare_digest(_b(page.app_secret), _b(secret)) for page in mine):
            return None
        _check_proof(proof, token, secret)
        return self.apps[app_id]

    def _authenticate(self, token: str, proof: Any, path: str) -> Page:
        if not token:
            raise token_required()
        page = self._page_of(token, path)
        if page is None:
            raise token_unknown()
        fault = self.faults.strike("token_dead", path)
        if fault is not None:
            raise token_dead(int(fault.options.get("subcode", 463)))
        end = page.token_end(token)
        if end is not None and self.clock() >= end:
            raise token_dead()
        if page.token_error is not None:
            raise token_dead(page.token_error)
        if proof is None and page.require_proof:
            raise proof_missing()
        _check_proof(proof, token, page.app_secret)
        return page

    def _page_of(self, token: str, path: str) -> Page | None:
        """Return the Page of a token. If several Pages share the token, return the Page that the path names."""
        pages = [
            page
            for page in self.pages.values()
            if any(hmac.compare_digest(_b(known), _b(token)) for known in (page.token, *page.former_tokens))
        ]
        named = set(path.split("/"))
        named |= {person.page.id for person in map(self.persons.get, named) if person is not None}
        return next(
            (page for page in pages if named & {page.id, page.account_id}), pages[0] if pages else None
        )

    def _strike_whole_calls(self, call: LoggedCall, path: str) -> None:
        if self.faults.strike("throttled", path):
            call.fault = "throttled"
            raise throttled(self._full_usage(call.page_id))
        if self.faults.strike("business_throttled", path):
            call.fault = "business_throttled"
            raise business_throttled(self._full_usage(call.page_id))
        if self.faults.strike("server_error", path):
            call.fault = "server_error"
            raise temporary()
        refused = self.faults.strike("refused", path)
        if refused is not None:
            call.fault = "refused"
            options = {"code": 1, "message": "An unknown error occurred", **refused.options}
            raise Refusal(**options)

    def _usage(self, call: LoggedCall) -> dict[str, str]:
        fault = self.faults.strike("usage_headers", call.path)
        return self._full_usage(call.page_id, int(fault.options.get("percent", 90)), 0) if fault else {}

    @staticmethod
    def _full_usage(page_id: str, percent: int = 100, minutes: int = 5) -> dict[str, str]:
        """Return the usage headers (Graph API, "Rate limits"): percents, and minutes until access returns."""
        shares = {"call_count": percent, "total_cputime": percent, "total_time": percent}
        case = {"type": "messenger", **shares, "estimated_time_to_regain_access": minutes}
        return {
            "X-App-Usage": json.dumps(shares),
            "X-Business-Use-Case-Usage": json.dumps({page_id: [case]}),
        }

    def _route(self, context: Context, parts: list[str]) -> Any:
        page, target = context.page, context.target
        edge = parts[1] if len(parts) > 1 else ""
        if len(parts) > 2:
            raise unknown_path("/" + "/".join(parts[2:]))
        if target in {page.id, page.account_id}:
            if not edge:
                linking = "account_linking_token" in context.params
                return people.linked_person(context) if linking else pages.page_node(context)
            methods, answer = _EDGES.get(edge, ("", None))
            if answer is None:
                raise unknown_path(f"/{edge}")
            if context.method not in methods.split():
                raise no_such_object(context.method, target)
            return answer(context)
        return self._route_node(context, target, edge)

    def _route_node(self, context: Context, target: str, edge: str) -> Any:
        page = context.page
        person = self.persons.get(target)
        if person is not None and person.page is page and context.method == "GET":
            if edge == "custom_labels":
                return pages.labels_of(context, person)
            if not edge:
                return people.user_profile(context, person)
        if target in page.personas and not edge:
            return pages.persona_node(context)
        if target in page.labels and edge == "label" and context.method in {"POST", "DELETE"}:
            return pages.label_users(context)
        if target in page.labels and not edge:
            return pages.label_node(context)
        if target.startswith("t_") and edge in {"", "messages"} and context.method == "GET":
            return pages.conversation_messages(context) if edge else pages.conversation_node(context)
        for someone in self.persons.values():
            for bubble in someone.thread:
                if bubble.mid == target and someone.page is page and context.method == "GET" and not edge:
                    return pages.message_node(context, someone, bubble)
        raise no_such_object(context.method, target)

    def _batch(self, call: LoggedCall, params: Mapping[str, Any], token: str, proof: Any) -> list[Any]:
        parts = params["batch"]
        if not isinstance(parts, list):
            raise not_a("an array", "batch")
        most = self.limits["batch.count"]
        if len(parts) > most:
            message = f"Too many requests in batch message. Maximum batch size is {most}"
            raise Refusal(1, message, type="GraphBatchException", numbered=False)
        return answer_batch(parts, lambda part: self._batched(part, token, proof, params))

    def _batched(
        self, part: Mapping[str, Any], token: str, proof: Any, params: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        path, _, query = str(part.get("relative_url", "")).partition("?")
        headers = {"content-type": "application/x-www-form-urlencoded", "authorization": f"Bearer {token}"}
        inner = read_parameters(query, headers, str(part.get("body", "")).encode())
        if proof is not None:
            inner.values.setdefault("appsecret_proof", proof)
        method = str(part.get("method", "GET")).upper()
        call = LoggedCall(self.clock(), method, f"/{path.lstrip('/')}", redact(inner.values))
        self.calls.append(call)
        status, content, extra = self._answer(call, call.path, inner, headers)
        call.status, call.answer = status, content
        if self.faults.strike("batch_null", call.path):
            call.fault = "batch_null"
            return None
        answer: dict[str, Any] = {"code": status}
        if str(params.get("include_headers", "true")).lower() != "false":
            named = {"Content-Type": "application/json; charset=UTF-8", **extra}
            answer["headers"] = [{"name": name, "value": value} for name, value in named.items()]
        answer["body"] = json.dumps(content, separators=(",", ":"))
        return answer


def _b(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _has_token(content: Any) -> bool:
    return isinstance(content, dict) and "access_token" in content


def _check_proof(proof: Any, token: str, secret: str) -> None:
    if proof is None:
        return
    right = hmac.new(_b(secret), _b(token), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(_b(right), _b(str(proof))):
        raise proof_wrong()


def _bearer(headers: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() in {"bearer", "oauth"} else ""


def _version(path: str) -> str:
    first = path.strip("/").partition("/")[0]
    return first if _VERSION.fullmatch(first) else ""
