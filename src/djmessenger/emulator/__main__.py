"""Entry of ``python -m djmessenger.emulator``."""

from __future__ import annotations

import sys

from messenger_emulator.run import main

sys.exit(main())
