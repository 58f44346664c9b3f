"""URLs of the simulator: ``path("simulator/", include("djmessenger.simulator.urls"))``."""

from __future__ import annotations

from django.urls import path

from djmessenger.simulator.views import (
    action,
    asset,
    catalogue,
    details,
    export,
    file,
    graph,
    linked,
    page,
    sample,
    state,
    traffic,
    upload,
)

app_name = "djmessenger-simulator"
urlpatterns = [
    path("", page, name="page"),
    path("assets/<str:name>", asset, name="asset"),
    path("state", state, name="state"),
    path("catalogue", catalogue, name="catalogue"),
    path("sample", sample, name="sample"),
    path("details", details, name="details"),
    path("traffic", traffic, name="traffic"),
    path("export", export, name="export"),
    path("orders/<str:name>", action, name="order"),
    path("linked", linked, name="linked"),
    path("files", upload, name="upload"),
    path("files/<str:key>/<str:name>", file, name="file"),
    path("graph/<path:path>", graph, name="graph"),
]
