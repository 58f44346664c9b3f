"""Simulator: a page in the browser that looks like Messenger and talks to the bot through the real engine.

Each act on the page becomes a callback, signed and posted to the bot's webhook. Replies of the bot come back through
the emulator. The page is open to everyone in DEBUG; otherwise to staff, if ``DJM_SIMULATOR`` is on.
"""
