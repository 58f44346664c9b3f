"""Where the bot's Graph calls go: those about simulated persons to the emulator, never to Meta."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from djmessenger import bot, settings
from djmessenger.emulator import Answer, NoAnswer
from djmessenger.graph import NotSent, UnknownFate, default_transport
from djmessenger.graph.wire import Request, Response
from djmessenger.simulator.access import is_enabled
from djmessenger.simulator.stage import PERSON_PREFIX, get_stage, is_configuring

_SIMULATED = re.compile(rf"(?<![0-9]){PERSON_PREFIX}[0-9]{{10}}(?![0-9])")
_VERSION = re.compile(r"v[0-9]+\.[0-9]+")


class SimulatorTransport:
    """A transport of the Graph client that hands simulated traffic to the emulator of this process.

    Without a real token that is all of it. With one, calls that name a simulated person or Page stay here, and only
    the others go to Meta.
    """

    def send(self, request: Request, /) -> Response:
        if not (_is_made_up(request) or is_configuring() or is_simulated(request)):
            return default_transport().send(request)
        parts = urlsplit(request.url)
        try:
            status, headers, body = answer(
                request.method, parts.path, parts.query, request.headers, request.body or b""
            )
        except NoAnswer as error:
            kind = UnknownFate if error.sent else NotSent
            raise kind(str(error)) from None
        return Response(status, headers, body)


def install() -> None:
    """Let the bot speak to the simulator, unless the project sends it to another address.

    A worker process of its own reaches the simulator over HTTP, by ``DJM_GRAPH_URL``.
    """
    if is_enabled() and settings.SETTINGS["DJM_GRAPH_URL"].default == settings.DJM_GRAPH_URL:
        bot.use_transport(SimulatorTransport())


def _is_made_up(request: Request) -> bool:
    """Whether a call carries no token, or one that only the emulator takes."""
    values = [] if settings.DJM_PAGE_ACCESS_TOKEN else [bot.page_access_token()]
    values += [] if settings.DJM_APP_SECRET else bot.app_secrets().values()
    given = request.headers.get("Authorization", "")
    return not given or any(value and value in given for value in values)


def is_simulated(request: Request) -> bool:
    """Whether a call names a simulated person, or a Page that only the simulator knows."""
    if _SIMULATED.search(request.url) or _SIMULATED.search((request.body or b"").decode("latin-1")):
        return True
    target = _target(urlsplit(request.url).path)
    return target in get_stage().made_up_pages


def answer(method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Answer:
    """Answer a call to Graph; raises ``NoAnswer`` for the faults that leave the caller without an answer."""
    return get_stage().emulator.handle(method, path, query, headers, body)


def _target(path: str) -> str:
    parts = [part for part in path.split("/") if part]
    if parts and _VERSION.fullmatch(parts[0]):
        parts.pop(0)
    return parts[0] if parts else ""
