"""URLs of the bot: webhook at ``DJM_ENDPOINT``, with or without a final slash, and ``health`` below it."""

from __future__ import annotations

import re

from django.urls import URLPattern, re_path

from djmessenger.settings import app_settings
from djmessenger.views import DJMBotView, health

urlpatterns: list[URLPattern] = []

if app_settings.DJM_ENDPOINT:
    endpoint = re.escape(app_settings.DJM_ENDPOINT.strip("/"))
    urlpatterns.append(re_path(rf"^{endpoint}/?$", DJMBotView.as_view(), name="djmessenger-webhook"))
    urlpatterns.append(re_path(rf"^{endpoint}/health/?$", health, name="djmessenger-health"))
