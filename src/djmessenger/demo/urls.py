"""URLs of the demo: the simulator, the webhook and the admin."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="djmessenger-simulator:page")),
    path("simulator/", include("djmessenger.simulator.urls")),
    path("admin/", admin.site.urls),
    path("", include("djmessenger.urls")),
]
