"""``djmessenger demo``: three people visit the coffee shop over real HTTP with valid signatures."""

from __future__ import annotations

import contextlib
import os
import textwrap
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.management import BaseCommand, CommandError, CommandParser, call_command
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
from django.core.wsgi import get_wsgi_application

from djmessenger import bot, models
from djmessenger.demo import messenger
from djmessenger.settings import app_settings
from djmessenger.simulator.session import Session, get_session
from messenger_emulator import Person
from messenger_emulator.person import Act
from messenger_emulator.server import Callback

WIDTH, BUBBLE = 60, 44
PATIENCE = 30.0
"""Seconds until an answer must have come."""

Visit = list[tuple[Person, str, Callable[[], Act | None]]]


class QuietHandler(WSGIRequestHandler):
    """Request handler without a log, because the terminal shows the conversation."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base class has it
        """Log nothing."""


class Command(BaseCommand):
    """Serve the shop, run the visit of three people and print their conversations."""

    help = "Run the demo: three people visit the coffee shop. The admin stays open after the visit."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument("--once", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        """Migrate, serve and run the visit; raise ``CommandError`` if a message stays unanswered."""
        call_command("migrate", verbosity=0)
        _make_staff()
        with self._site(options["port"]) as address, self._meta(f"{address}/messenger") as session:
            os.environ["SHOP_ADDRESS"] = address
            self.stdout.write(f"Chat with it: {address}/simulator/\n\n")
            for person, caption, act in _visit(session):
                self._show(person, caption, act)
            self.stdout.write(
                f"\nChat with it  {address}/simulator/\n"
                f"Look around   {address}/admin/   (user demo, password demo)\n"
                f"The rules     {_short(Path(messenger.__file__))}\n"
                f"The log       {_short(Path(os.environ['DJM_DEMO_FOLDER']) / 'demo.log')}\n"
            )
            if not options["once"]:
                self.stdout.write("Stop with Ctrl-C.\n")
                with contextlib.suppress(KeyboardInterrupt):
                    threading.Event().wait()

    @contextlib.contextmanager
    def _site(self, port: int) -> Iterator[str]:
        try:
            server = ThreadedWSGIServer(("127.0.0.1", port), QuietHandler)
        except OSError as error:
            raise CommandError(
                f"Port {port} is taken ({error.strerror}). Name another: --port {port + 1}"
            ) from error
        server.set_app(StaticFilesHandler(get_wsgi_application()))
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            bot.get_dispatcher().stop()
            server.shutdown()
            server.server_close()

    @contextlib.contextmanager
    def _meta(self, endpoint: str) -> Iterator[Session]:
        """Verify the webhook as the App Dashboard does; then run a session of the simulator with one Page."""
        session = get_session()
        session.first_page.name = "Coffee shop"
        verified = session.emulator.verify(
            Callback(endpoint).get, app_settings.DJM_ENDPOINT_VERIFY_TOKEN.reveal()
        )
        if not verified.accepted:
            raise CommandError(f"The webhook did not answer the challenge: {verified.reason}")
        session.configure()
        session.start(endpoint)
        try:
            yield session
        finally:
            session.stop()

    def _show(self, person: Person, caption: str, act: Callable[[], Act | None]) -> None:
        before = models.Reply.objects.order_by("-id").values_list("id", flat=True).first() or 0
        result = act()
        self.stdout.write(_bubble(f"{person.first_name}: {caption}", ""))
        mid = result.mid if result is not None else ""
        _wait_for(lambda: _is_answered(mid))
        replies = models.Reply.objects.filter(id__gt=before).order_by("id")
        if not replies and (event := models.Messaging.objects.filter(mid=mid).first()):
            rules = ", ".join((event.outcome or {}).get("applied", []))
            self.stdout.write(_bubble("(stored, no reply)", rules, right=True))
        for reply in replies:
            fate = "" if reply.state == models.Reply.State.SENT else f"  [{reply.get_state_display()}]"
            self.stdout.write(_bubble(_words(reply.data["message"]) + fate, reply.rule, right=True))


def _make_staff() -> None:
    users = get_user_model()
    if not users._default_manager.filter(username="demo").exists():
        users.objects.create_superuser("demo", "demo@example.com", "demo")


def _visit(session: Session) -> Visit:
    mari = session.add_person(None, "Mari Tamm", locale="en_GB", timezone=2)
    jonas = session.add_person(None, "Jonas Weber", locale="de_DE", timezone=1)
    lin = session.add_person(None, "怡君 林", locale="zh_TW", timezone=8)
    return [
        (mari, "(taps Get Started)", mari.gets_started),
        (mari, "(taps Flat white)", lambda: mari.taps("Flat white")),
        (mari, "Where is order 1?", lambda: mari.says("Where is order 1?")),
        (mari, "(thumbs up)", mari.sends_sticker),
        (jonas, "Guten Morgen", lambda: jonas.says("Guten Morgen")),
        (jonas, "(taps Espresso)", lambda: jonas.taps("Espresso")),
        (jonas, "Zahlt man bar?", lambda: jonas.says("Zahlt man bar?")),
        (lin, "你好", lambda: lin.says("你好")),
        (lin, "(sends a picture)", lambda: lin.sends_attachment("image", "https://example.com/cat.jpg")),
        (lin, "(sends her location)", lambda: lin.sends_location(25.034, 121.5645, "Taipei 101")),
        (lin, "(taps 說明 in the menu)", lambda: lin.taps_menu("說明")),
        (mari, "(taps Cancel it)", lambda: mari.taps("Cancel it")),
        (mari, "Do you sell tea pots?", lambda: mari.says("Do you sell tea pots?")),
    ]


def _is_answered(mid: str) -> bool:
    """Return whether the event is handled and no reply waits to be sent."""
    events = models.Messaging.objects
    if mid and not events.filter(mid=mid).exists():
        return False
    waiting = events.filter(state=models.Messaging.State.NEW).exists()
    return not waiting and not models.Reply.objects.filter(state__in=models.Reply.OPEN).exists()


def _wait_for(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not ready():
        if time.monotonic() > deadline:
            raise CommandError("The bot did not answer. The reason is in the log.")
        time.sleep(0.02)


def _words(message: dict[str, Any]) -> str:
    payload = message.get("attachment", {}).get("payload", {})
    words = message.get("text") or payload.get("text") or payload.get("url")
    words = words or (f"(receipt {payload['order_number']})" if "order_number" in payload else "…")
    choices = [
        item.get("title", "") for item in [*message.get("quick_replies", []), *payload.get("buttons", [])]
    ]
    return "  ".join([words, *(f"[{choice}]" for choice in choices)])


def _bubble(words: str, rule: str, *, right: bool = False) -> str:
    indent = " " * (12 if right else 0)
    lines = [f"{indent}{line}" for line in textwrap.wrap(words, BUBBLE)] or [""]
    if rule:
        lines[0] += f"{' ' * max(WIDTH - _columns(lines[0]), 1)}< {rule}"
    return "\n".join(lines)


def _columns(text: str) -> int:
    """Return the columns of a terminal that a text needs; a Chinese character needs two."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def _short(path: Path) -> str:
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
