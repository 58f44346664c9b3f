"""The stand-in for Meta over a socket."""

from __future__ import annotations

from messenger_emulator.server import serve

__all__ = ["serve"]
