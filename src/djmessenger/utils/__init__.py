"""Closed room: ``serializable``, ``default_routing_policy`` and ``utils`` are documented; nothing joins them."""
