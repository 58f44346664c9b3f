"""Command ``python -m messenger_emulator``: the emulator as a server, for bots in any language."""

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

HELP = """The person sends each line that you type. Commands:
  /start            Get Started          /tap TITLE     tap a quick reply, button or menu item
  /sticker          the thumb            /image URL     a picture
  /location LAT LON                      /travel HOURS  move the clock
  /fault NAME       switch a fault on    /clear         switch all off
  /faults           list them            /quit
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the server to a parser, here or in a command that includes the server."""
    parser.add_argument(
        "--port", type=int, default=8001, help="port for the calls to Graph; 0 takes a free one"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument(
        "--allowed-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a host name that clients use, beside localhost and the address above; may be repeated",
    )
    parser.add_argument("--callback", default="", help="address of the bot's webhook")
    parser.add_argument("--verify-token", default="", help="verify the webhook with this token first")
    parser.add_argument("--app-secret", default="", help="the secret that signs callbacks")
    parser.add_argument("--app-id", default="883041772661055", help="the app's id, as in echoes")
    parser.add_argument("--page", default="104233987650012", help="the Page's id")
    parser.add_argument("--token", default="made-up-page-token", help="the Page's token")
    parser.add_argument("--person", default="Ana Torres", help="name of the first person")
    parser.add_argument("--locale", default="en_US", help="the person's locale")
    parser.add_argument("--timezone", type=float, default=0, help="hours from UTC")


def build(options: argparse.Namespace) -> tuple[Emulator, Person]:
    """Build the emulator and the first person from the options."""
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
    """Serve until the input ends, or for ever without a terminal; return the exit code."""
    emulator, person = build(options)
    server = serve(emulator, options.port, options.host, options.allowed_host)
    server.control = Control(emulator)
    courier = Courier(emulator, Callback(options.callback)) if options.callback else None
    say(f"Graph is at {server.url}; Page {options.page}; {person.name} is {person.id}")
    say(
        f"Control is at {server.url}/_emulator/ (state, act, person, set, clock, fault, raw, calls, deliveries)"
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
                perform(emulator, person, words, say)
            except (NotOnScreen, KeyError, ValueError) as error:
                say(str(error))
        for bubble in person.received[shown:]:
            say(f"  bot: {bubble.text or f'[{bubble.template or bubble.kind}]'}")
        shown = len(person.received)


def perform(emulator: Emulator, person: Person, line: str, say: Callable[[str], object]) -> None:
    """Perform the command in a typed line; any other line is a message of the person."""
    command, _, rest = line.partition(" ")
    if command == "/start":
        person.gets_started()
    elif command == "/tap":
        person.taps(rest)
    elif command == "/sticker":
        person.sends_sticker()
    elif command == "/image":
        person.sends_attachment("image", rest)
    elif command == "/location":
        lat, long = rest.split()
        person.sends_location(float(lat), float(long))
    elif command == "/travel":
        if isinstance(emulator.clock, VirtualClock):
            emulator.clock.advance(hours=float(rest))
    elif command == "/fault":
        emulator.faults.on(rest)
    elif command == "/clear":
        emulator.faults.clear()
    elif command == "/faults":
        say("\n".join(f"  {name:20} {meaning}" for name, meaning in FAULTS.items()))
    else:
        person.says(line)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m messenger_emulator", description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args(arguments))
