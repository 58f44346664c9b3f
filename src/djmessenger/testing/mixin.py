"""The kit for Django's own test cases."""

from __future__ import annotations

from django.test import SimpleTestCase

from djmessenger.testing.kit import Messenger


class MessengerTestMixin(SimpleTestCase):
    """Gives a test case ``self.messenger``, fresh for each test.

    ``class OrderTest(MessengerTestMixin, TestCase)``, or with ``TransactionTestCase``.
    """

    messenger: Messenger

    def setUp(self) -> None:
        super().setUp()
        self.messenger = Messenger()
        self.messenger.start()
        self.addCleanup(self.messenger.stop)
