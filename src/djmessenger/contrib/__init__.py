"""Bridges to what a project may run already; each needs its own extra."""
