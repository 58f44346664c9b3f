"""The two channels: Messenger and Instagram."""

from __future__ import annotations

MESSENGER = "messenger"
INSTAGRAM = "instagram"
