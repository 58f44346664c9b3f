"""Integrations with other packages; each has an extra of its own."""
