"""Kit for Django's test cases."""

from __future__ import annotations

from django.test import SimpleTestCase

from djmessenger.testing.kit import Messenger


class MessengerTestMixin(SimpleTestCase):
    """Mixin with ``self.messenger``, a new kit for each test.

    ``class OrderTest(MessengerTestMixin, TestCase)``, or with ``TransactionTestCase``.
    """

    messenger: Messenger

    def setUp(self) -> None:
        super().setUp()
        self.messenger = Messenger()
        self.messenger.start()
        self.addCleanup(self.messenger.stop)
