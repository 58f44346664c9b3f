"""Commands ``djmessenger demo``, a sample bot, and ``djmessenger emulator``, a stand-in for Meta."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from django.core.management import execute_from_command_line

from messenger_emulator import run as emulator


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    parser = argparse.ArgumentParser(prog="djmessenger", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser(
        "demo",
        help="run the bot of a coffee shop against the emulator, then keep its admin open",
        description="Migrate a small database, start the bot of a coffee shop and a stand-in for Meta on this machine, "
        "send the messages of three people over HTTP, print each message with the rule that answered it, and "
        "keep the admin open.",
    )
    demo.add_argument("--port", type=int, default=8000, help="port of the site; 0 selects a free port (8000)")
    demo.add_argument("--folder", type=Path, default=Path(".demo"), help="folder of database and log (.demo)")
    demo.add_argument(
        "--once", action="store_true", help="end after the visit, with exit code 1 if something failed"
    )
    demo.set_defaults(run=_demo)
    stand_in = commands.add_parser(
        "emulator",
        help="run a stand-in for Graph and for the sender of callbacks, for a bot in any language",
        description="Answer calls as Graph does, post callbacks to your webhook as Meta does, and read from the "
        "terminal the messages of a person.",
    )
    emulator.add_arguments(stand_in)
    stand_in.set_defaults(run=emulator.run)
    options = parser.parse_args(arguments)
    return int(options.run(options))


def _demo(options: argparse.Namespace) -> int:
    options.folder.mkdir(parents=True, exist_ok=True)
    os.environ["DJANGO_SETTINGS_MODULE"] = "djmessenger.demo.settings"
    os.environ["DJM_DEMO_FOLDER"] = str(options.folder.resolve())
    execute_from_command_line(
        ["djmessenger", "visit", f"--port={options.port}", *(["--once"] if options.once else [])]
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
