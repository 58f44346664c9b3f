"""Closed room: ``serializable``, ``default_routing_policy``, ``utils`` are documented; nothing joins them."""
