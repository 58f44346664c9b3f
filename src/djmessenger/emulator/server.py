"""The server of the emulator under its documented name."""

from __future__ import annotations

from messenger_emulator.server import serve

__all__ = ["serve"]
