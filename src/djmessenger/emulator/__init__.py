"""The emulator under its documented names; the package itself is ``messenger_emulator``."""

from __future__ import annotations

from djmessenger.emulator.transport import EmulatorTransport
from messenger_emulator import FAULTS, Emulator, VirtualClock

__all__ = ["FAULTS", "Emulator", "EmulatorTransport", "VirtualClock"]
