"""A small coffee shop whose bot runs without a Meta account: ``djmessenger demo``."""
