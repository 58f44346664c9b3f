"""App whose bot repeats each text."""
