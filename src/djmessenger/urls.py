"""Where Meta finds the bot: the path that ``DJM_ENDPOINT`` names, with or without a final slash."""

from __future__ import annotations

import re

from django.urls import URLPattern, re_path

from djmessenger import settings
from djmessenger.views import DJMBotView

urlpatterns: list[URLPattern] = []

if settings.DJM_ENDPOINT:
    endpoint = re.escape(settings.DJM_ENDPOINT.strip("/"))
    urlpatterns.append(re_path(rf"^{endpoint}/?$", DJMBotView.as_view(), name="djmessenger-webhook"))
