"""``path("simulator/", include("djmessenger.simulator.urls"))``."""

from __future__ import annotations

from django.urls import path

from djmessenger.simulator import views

app_name = "djmessenger-simulator"
urlpatterns = [
    path("", views.page, name="page"),
    path("assets/<str:name>", views.asset, name="asset"),
    path("state", views.state, name="state"),
    path("catalogue", views.catalogue, name="catalogue"),
    path("sample", views.sample, name="sample"),
    path("details", views.details, name="details"),
    path("traffic", views.traffic, name="traffic"),
    path("export", views.export, name="export"),
    path("orders/<str:name>", views.order, name="order"),
    path("linked", views.linked, name="linked"),
    path("files", views.upload, name="upload"),
    path("files/<str:key>/<str:name>", views.file, name="file"),
    path("graph/<path:path>", views.graph, name="graph"),
]
