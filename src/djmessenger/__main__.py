"""``djmessenger demo`` and ``djmessenger emulator``: a bot to look at, and Meta to try a bot against."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from django.core.management import execute_from_command_line

from messenger_emulator import run as emulator


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; gives the exit code."""
    parser = argparse.ArgumentParser(prog="djmessenger", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser(
        "demo",
        help="a coffee shop's bot answers real callbacks; then the admin stays open",
        description="Migrates a small database, starts a coffee shop's bot and a stand-in for Meta on this "
        "machine, lets three people visit over real HTTP, prints what was said and which rule said it, and "
        "keeps the admin open.",
    )
    demo.add_argument("--port", type=int, default=8000, help="port of the site, 0 for any free one (8000)")
    demo.add_argument(
        "--folder", type=Path, default=Path(".demo"), help="where database and log are kept (.demo)"
    )
    demo.add_argument(
        "--once", action="store_true", help="end after the visit, with 1 if something went wrong"
    )
    demo.set_defaults(run=_demo)
    stand_in = commands.add_parser(
        "emulator",
        help="a stand-in for Graph and for the sender of callbacks, for bots in any language",
        description="Serves what Graph would answer, posts to your webhook what Meta would post, and lets you type "
        "what a person says.",
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
