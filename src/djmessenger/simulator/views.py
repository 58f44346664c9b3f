"""Views of the simulator: the page, its data and actions, and Graph for bots in other processes."""

from __future__ import annotations

import gzip
import hashlib
import json
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import NoReverseMatch, reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from djmessenger.facebook_locales import FacebookLocale
from djmessenger.settings import app_settings
from djmessenger.simulator.access import for_machines, for_visitors, may_see_persons
from djmessenger.simulator.actions import Actions
from djmessenger.simulator.export import as_test
from djmessenger.simulator.files import FILES
from djmessenger.simulator.panel import of_call, of_delivery, of_message
from djmessenger.simulator.panel import traffic as traffic_of
from djmessenger.simulator.samples import sample_for, samples
from djmessenger.simulator.screen import state as state_of
from djmessenger.simulator.session import Session, get_session
from djmessenger.simulator.transport import answer as answer_graph_call
from messenger_emulator import FAULTS, NoAnswer
from messenger_emulator.faults import GRAPH_FAULTS

ASSETS = ("simulator.css", "simulator.js", "elements.js", "bubbles.js", "panel.js", "tools.js", "forms.js")
_MOST_BODY = 8 * 1024 * 1024
"""Bytes of an action."""
_MOST_CALL = 32 * 1024 * 1024
"""Bytes of a Graph call; attachments may have 25 MB."""
_TYPES = {"css": "text/css", "js": "text/javascript"}


@for_visitors
@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """Serve the page. The first visit starts the session and adds a person."""
    session = _started_session(request)
    if not session.emulator.persons:
        session.add_person()
    return render(request, "djmessenger/simulator/page.html", {"base": reverse("djmessenger-simulator:page")})


def _started_session(request: HttpRequest) -> Session:
    """Return the session, started with the address of the bot if it is known."""
    session = get_session()
    address = callback_url(request)
    session.start(address)
    if not address:
        session.problem = "set DJM_SIMULATOR_CALLBACK to the address of the webhook, because DEBUG is off"
    return session


def callback_url(request: HttpRequest) -> str:
    """Return ``DJM_SIMULATOR_CALLBACK``; in DEBUG without it, the webhook on this server's port of the loopback.

    The Host header is not used. With it, a visitor would choose the receiver of signed callbacks.
    """
    if app_settings.DJM_SIMULATOR_CALLBACK:
        return str(app_settings.DJM_SIMULATOR_CALLBACK)
    if not settings.DEBUG:
        return ""
    try:
        path = reverse("djmessenger-webhook")
    except NoReverseMatch:
        path = f"/{app_settings.DJM_ENDPOINT.strip('/')}"
    return f"http://127.0.0.1:{request.META['SERVER_PORT']}{path}"


@for_visitors
@require_GET
def asset(request: HttpRequest, name: str) -> HttpResponse:
    """Serve a script or style sheet. A project needs no ``collectstatic`` for the simulator."""
    if name not in ASSETS:
        raise Http404
    content, packed, tag = _asset(name)
    if request.headers.get("If-None-Match") == tag:
        return HttpResponse(status=304, headers={"ETag": tag})
    kind = f"{_TYPES[name.rpartition('.')[2]]}; charset=utf-8"
    headers = {"ETag": tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        return HttpResponse(packed, content_type=kind, headers={**headers, "Content-Encoding": "gzip"})
    return HttpResponse(content, content_type=kind, headers=headers)


def _asset(name: str) -> tuple[bytes, bytes, str]:
    """Return an asset plain and compressed, and its ETag."""
    content = resources.files("djmessenger.simulator").joinpath("assets", name).read_bytes()
    return content, gzip.compress(content, 6), f'"{hashlib.sha256(content).hexdigest()[:20]}"'


@for_visitors
@require_GET
def state(request: HttpRequest) -> JsonResponse:
    """Return the state of the page, or only its version if the page has that version already."""
    session = get_session()
    screens = state_of(session, request.GET.get("person", ""))
    now = screens.pop("now")
    for person in screens["persons"]:
        person["window"] = None if person["window"] is None else round(person["window"] + now)
    version = hashlib.sha256(json.dumps(screens, sort_keys=True, default=str).encode()).hexdigest()[:16]
    if request.GET.get("known") == version:
        return JsonResponse({"version": version, "now": now})
    return JsonResponse({"version": version, "now": now, "state": screens})


@for_visitors
@require_GET
def catalogue(request: HttpRequest) -> JsonResponse:
    """Return the constant data: faults, samples and locales."""
    return JsonResponse(
        {
            "faults": [
                {"name": name, "meaning": meaning, "side": "graph" if name in GRAPH_FAULTS else "webhook"}
                for name, meaning in FAULTS.items()
            ],
            "samples": sorted(samples()),
            "locales": sorted(locale.name for locale in FacebookLocale),
        }
    )


@for_visitors
@require_GET
def sample(request: HttpRequest) -> JsonResponse:
    """Return a sample callback with the ids of the chosen person and the present time."""
    session = get_session()
    try:
        person = session.person(request.GET.get("person", ""))
        return JsonResponse(
            {"body": sample_for(request.GET.get("name", ""), person, session.emulator.clock())}
        )
    except LookupError as error:
        raise Http404 from error


@for_visitors
@require_GET
def details(request: HttpRequest) -> JsonResponse:
    """Return the details of a message, a callback or a Graph call."""
    session = get_session()
    sees_all = may_see_persons(request)
    try:
        if "delivery" in request.GET:
            return JsonResponse(of_delivery(session, _number(request, "delivery"), sees_all=sees_all))
        if "call" in request.GET:
            return JsonResponse(of_call(session, _number(request, "call")))
    except (IndexError, ValueError) as error:
        raise Http404 from error
    return JsonResponse(
        of_message(
            session, request.GET.get("person", "")[:64], request.GET.get("mid", "")[:255], sees_all=sees_all
        )
    )


def _number(request: HttpRequest, name: str) -> int:
    number = int(request.GET[name][:9])
    if number < 0:
        raise ValueError("numbers begin at 0")
    return number


@for_visitors
@require_GET
def traffic(request: HttpRequest) -> JsonResponse:
    """Return the newest callbacks and Graph calls."""
    return JsonResponse({"lines": traffic_of(get_session())})


@for_visitors
@require_GET
def export(request: HttpRequest) -> JsonResponse:
    """Return the conversations with a Page as the source of a test."""
    session = get_session()
    page_id = request.GET.get("page", "") or session.first_page.id
    return JsonResponse({"source": as_test(session, page_id)})


@for_visitors
@require_POST
def action(request: HttpRequest, name: str) -> JsonResponse:
    """Perform an action of the page."""
    if _length(request) > _MOST_BODY:
        return JsonResponse({"error": "The action is too large: 8 MB at most."}, status=413)
    session = _started_session(request)
    try:
        values: Any = json.loads(request.body or b"{}")
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        return JsonResponse({"error": "An action is a JSON object."}, status=400)
    linking_page = request.build_absolute_uri(reverse("djmessenger-simulator:linked"))
    status, answer = Actions(session, linking_page)(name, values)
    return JsonResponse(answer, status=status)


@for_visitors
@require_GET
def linked(request: HttpRequest) -> HttpResponse:
    """Link the account of a person; a log-in page redirects the browser here as it would to Messenger."""
    session = get_session()
    token, code = request.GET.get("account_linking_token", ""), request.GET.get("authorization_code", "")
    with session.emulator.lock:
        now = session.emulator.clock()
        psids = [page.linking_psid(token, now) for page in session.emulator.pages.values()]
    psid = next(filter(None, psids), "")
    if not (psid and code):
        return HttpResponse("The account was not linked.", status=400, content_type="text/plain")
    Actions(session)("act", {"person": psid, "act": "links_account", "args": [code]})
    return HttpResponse("The account is linked. You may close this window.", content_type="text/plain")


@for_visitors
@require_POST
def upload(request: HttpRequest) -> JsonResponse:
    """Store a file and send it as a message of the person."""
    sent = request.FILES.get("file")
    if sent is None:
        return JsonResponse({"error": "The request contains no file."}, status=400)
    try:
        key, stored = FILES.add(sent.name or "", sent.content_type or "", sent.read())
    except ValueError as error:
        return JsonResponse({"error": str(error)}, status=400)
    session = _started_session(request)
    path = reverse("djmessenger-simulator:file", args=[key, stored.name])
    parts = urlsplit(session.callback_url)
    url = f"{parts.scheme}://{parts.netloc}{path}"
    values = {
        "person": request.POST.get("person", ""),
        "act": "sends_attachment",
        "args": [stored.kind, url],
    }
    status, answer = Actions(session)("act", values)
    return JsonResponse(answer, status=status)


@for_machines
@require_GET
def file(request: HttpRequest, key: str, name: str) -> HttpResponse:
    """Serve a file that a person sent. Its address is the only secret, as at Meta's CDN."""
    stored = FILES.get(key)
    if stored is None:
        raise Http404
    kind = stored.content_type if stored.is_shown else "application/octet-stream"
    response = HttpResponse(stored.content, content_type=kind)
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    if not stored.is_shown:
        response["Content-Disposition"] = (
            f'attachment; filename="{stored.name.encode("ascii", "replace").decode()}"'
        )
    return response


@csrf_exempt
@for_machines
def graph(request: HttpRequest, path: str) -> HttpResponseBase:
    """Answer a Graph call of a bot in another process; the emulator checks the token of each call."""
    if _length(request) > _MOST_CALL:
        return HttpResponse(status=413)
    body = request.read()
    headers = dict(request.headers.items())
    try:
        status, answered, content = answer_graph_call(
            request.method or "GET", f"/{path}", request.META.get("QUERY_STRING", ""), headers, body
        )
    except NoAnswer as error:
        if not error.sent:
            return HttpResponse(status=503)
        # A view cannot leave a request without an answer. An answer cut in the middle is of unknown fate too.
        return StreamingHttpResponse([b'{"recipient_id":'], content_type="application/json")
    return HttpResponse(content, status=status, headers=answered)


def _length(request: HttpRequest) -> int:
    length = request.META.get("CONTENT_LENGTH") or "0"
    return int(length) if length.isdecimal() else 0
