"""A page in the browser that looks like Messenger and takes the real engine: an app of its own.

Each act on the page becomes a callback, signed and posted to the bot's real webhook; what the bot sends comes back
through the emulator. Open in DEBUG; else for staff, and only where ``DJM_SIMULATOR`` is on.
"""
