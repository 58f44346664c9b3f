"""``python -m messenger_emulator``: the emulator as a server, for bots in any language."""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TextIO

from messenger_emulator.control import Control
from messenger_emulator.core import Emulator
from messenger_emulator.faults import FAULTS
from messenger_emulator.person import NotOnScreen, Person
from messenger_emulator.server import Callback, Courier, GraphServer, serve
from messenger_emulator.state import VirtualClock

HELP = """What you type is what the person says. Further:
  /start            Get Started          /tap TITLE     tap a quick reply, button or menu item
  /sticker          the thumb            /image URL     a picture
  /location LAT LON                      /travel HOURS  move the clock
  /fault NAME       switch a fault on    /clear         switch all off
  /faults           list them            /quit
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the server needs to know, for this command line and for another that has the server as a command."""
    parser.add_argument(
        "--port", type=int, default=8001, help="port for the calls to Graph; 0 takes a free one"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--callback", default="", help="address of the bot's webhook")
    parser.add_argument("--verify-token", default="", help="verify the webhook with this token first")
    parser.add_argument("--app-secret", default="", help="the secret that signs callbacks")
    parser.add_argument("--app-id", default="883041772661055", help="the app's id, as echoes tell it")
    parser.add_argument("--page", default="104233987650012", help="the Page's id")
    parser.add_argument("--token", default="made-up-page-token", help="the Page's token")
    parser.add_argument("--person", default="Ana Torres", help="name of the first person")
    parser.add_argument("--locale", default="en_US", help="the person's locale")
    parser.add_argument("--timezone", type=float, default=0, help="hours from UTC")


def build(options: argparse.Namespace) -> tuple[Emulator, Person]:
    """Make the emulator that the options describe."""
    emulator = Emulator(VirtualClock(running=True))
    page = emulator.add_page(options.page, options.token, options.app_id, options.app_secret)
    return emulator, emulator.add_person(page, options.person, options.locale, options.timezone)


def run(
    options: argparse.Namespace,
    *,
    typed: TextIO | None = None,
    say: Callable[[str], object] = print,
    started: Callable[[GraphServer], object] | None = None,
) -> int:
    """Serve until the input ends, or for ever where there is no terminal; give the exit code."""
    emulator, person = build(options)
    server = serve(emulator, options.port, options.host)
    server.control = Control(emulator)
    courier = Courier(emulator, Callback(options.callback)) if options.callback else None
    say(f"Graph is at {server.url}; Page {options.page}; {person.name} is {person.id}")
    say(
        f"Orders go to {server.url}/_emulator/ (state, act, person, set, clock, fault, raw, calls, deliveries)"
    )
    try:
        if courier is not None and options.verify_token:
            verdict = courier.verify(options.verify_token)
            if not verdict.accepted:
                say(f"The webhook was not verified: {verdict.reason}")
                return 1
            say("The webhook is verified")
        if courier is not None:
            courier.start()
        if started is not None:
            started(server)
        stream = typed if typed is not None else (sys.stdin if sys.stdin.isatty() else None)
        if stream is None:
            threading.Event().wait()
        else:
            say(HELP)
            _converse(emulator, person, stream, say)
    except KeyboardInterrupt:
        say("")
    finally:
        if courier is not None:
            courier.stop()
        server.stop()
    return 0


def _converse(emulator: Emulator, person: Person, stream: TextIO, say: Callable[[str], object]) -> None:
    shown = 0
    for line in stream:
        words = line.strip()
        if words == "/quit":
            break
        if words:
            try:
                obey(emulator, person, words, say)
            except (NotOnScreen, KeyError, ValueError) as error:
                say(str(error))
        for bubble in person.received[shown:]:
            say(f"  bot: {bubble.text or f'[{bubble.template or bubble.kind}]'}")
        shown = len(person.received)


def obey(emulator: Emulator, person: Person, line: str, say: Callable[[str], object]) -> None:
    """Do what a typed line asks for."""
    order, _, rest = line.partition(" ")
    if order == "/start":
        person.gets_started()
    elif order == "/tap":
        person.taps(rest)
    elif order == "/sticker":
        person.sends_sticker()
    elif order == "/image":
        person.sends_attachment("image", rest)
    elif order == "/location":
        lat, long = rest.split()
        person.sends_location(float(lat), float(long))
    elif order == "/travel":
        if isinstance(emulator.clock, VirtualClock):
            emulator.clock.advance(hours=float(rest))
    elif order == "/fault":
        emulator.faults.on(rest)
    elif order == "/clear":
        emulator.faults.clear()
    elif order == "/faults":
        say("\n".join(f"  {name:20} {meaning}" for name, meaning in FAULTS.items()))
    else:
        person.says(line)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m messenger_emulator", description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args(arguments))
