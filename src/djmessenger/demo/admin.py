"""Orders in the admin."""

from __future__ import annotations

from typing import ClassVar

from django.contrib import admin

from djmessenger.demo.models import Order


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin[Order]):
    """Who ordered what."""

    list_display: ClassVar[list[str]] = ["drink", "person", "created"]
    list_select_related: ClassVar[list[str]] = ["person"]
