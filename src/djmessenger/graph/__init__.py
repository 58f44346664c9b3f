"""Calls to Meta's Graph API (internal): each call is a value, and a client executes it through a transport.

>>> from djmessenger.graph.context import current
>>> current().send({"id": "7012345678901234"}, {"message": {"text": "Hello"}})  # doctest: +SKIP
"""
