"""URLs of the bot: webhook at ``DJM_ENDPOINT``, with or without a final slash, and ``health`` below it."""

from __future__ import annotations

import re

from django.urls import URLPattern, re_path

from djmessenger.settings import app_settings
from djmessenger.views import DJMBotView, health

urlpatterns: list[URLPattern] = []

# A value that is refused has no URL. An exception here would end the command `check` before it reports the value.
# With "/" the webhook would be the first page of the site.
# Test: tests/test_views.py, test_an_endpoint_that_names_no_path_has_no_url.
if not app_settings.problem("DJM_ENDPOINT") and app_settings.DJM_ENDPOINT.replace("/", "").strip():
    endpoint = re.escape(app_settings.DJM_ENDPOINT.strip("/"))
    urlpatterns.append(re_path(rf"^{endpoint}/?$", DJMBotView.as_view(), name="djmessenger-webhook"))
    urlpatterns.append(re_path(rf"^{endpoint}/health/?$", health, name="djmessenger-health"))
