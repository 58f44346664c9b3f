"""Transport of the bot's Graph calls: calls about simulated persons go to the emulator, never to Meta."""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import urlsplit

from django.urls import NoReverseMatch, reverse

from djmessenger import bot
from djmessenger.bot.pages import app_secrets, page_access_token
from djmessenger.graph.errors import NotSent, UnknownFate
from djmessenger.graph.transports import default_transport
from djmessenger.graph.wire import Request, Response
from djmessenger.settings.declared import SETTINGS, app_settings
from djmessenger.simulator.access import is_enabled
from djmessenger.simulator.identity import SIMULATED
from djmessenger.simulator.session import get_session, is_configuring
from djmessenger.simulator.shared_process import call_shared_process
from messenger_emulator import NoAnswer
from messenger_emulator.core import GraphResponse
from messenger_emulator.encoding import read_parameters

_PERSONS = frozenset({"psid", "recipient", "user", "user_id", "user_ids"})
"""Parameters of Graph that name a person."""


class SimulatorTransport:
    """Transport of the Graph client that sends simulated calls to the emulator of the site.

    Without a real token, all calls are simulated. With one, a call is simulated if it names a simulated person or
    Page; all other calls go to Meta.
    """

    def send(self, request: Request, /) -> Response:
        if not (_is_made_up(request) or is_configuring() or is_simulated(request)):
            return default_transport().send(request)
        parts = urlsplit(request.url)
        stored = _call_shared_process(request)
        if stored is not None:
            return stored
        try:
            status, headers, body = answer(
                request.method, parts.path, parts.query, request.headers, request.body or b""
            )
        except NoAnswer as error:
            kind = UnknownFate if error.sent else NotSent
            raise kind(str(error)) from None
        return Response(status, headers, body)


def install() -> None:
    """Set the transport of the bot to the simulator, unless ``DJM_GRAPH_URL`` names another address."""
    if is_enabled() and SETTINGS["DJM_GRAPH_URL"].default == app_settings.DJM_GRAPH_URL:
        bot.use_transport(SimulatorTransport())


def _call_shared_process(request: Request) -> Response | None:
    """Return the answer of the shared process; None if this process has the emulator."""
    parts = urlsplit(request.url)
    try:
        path = reverse("djmessenger-simulator:graph", args=[parts.path.lstrip("/")])
    except NoReverseMatch:
        return None
    shared = call_shared_process(
        request.method, f"{path}?{parts.query}", request.headers, request.body or b""
    )
    if shared is None:
        return None
    status, headers, body = shared
    return Response(status, dict(headers), body)


def _is_made_up(request: Request) -> bool:
    """Return whether a call has no token, or a made-up token that only the emulator accepts."""
    values = [] if app_settings.DJM_PAGE_ACCESS_TOKEN else [page_access_token()]
    values += [] if app_settings.DJM_APP_SECRET else app_secrets().values()
    header = request.headers.get("Authorization", "")
    return not header or any(value and value.reveal() in header for value in values)


def is_simulated(request: Request) -> bool:
    """Return whether a call names a simulated person, or a Page that exists in the simulator only.

    The path and the persons whom the call names decide. A number in a text of the message is no id.
    """
    parts = urlsplit(request.url)
    headers = {name.lower(): value for name, value in request.headers.items()}
    parameters = read_parameters(parts.query, headers, request.body or b"")
    if parameters.malformed:
        return SIMULATED.search((request.body or b"").decode("latin-1")) is not None
    named = [value for key, value in parameters.values.items() if key in _PERSONS]
    return SIMULATED.search(f"{parts.path} {json.dumps(named, default=str)}") is not None


def answer(method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> GraphResponse:
    """Answer a Graph call from the emulator; raise ``NoAnswer`` if a fault leaves the caller without an answer."""
    return get_session().emulator.handle(method, path, query, headers, body)
