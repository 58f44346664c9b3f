"""Documented modules ``serializable``, ``default_routing_policy`` and ``utils``; no new module is added here."""
