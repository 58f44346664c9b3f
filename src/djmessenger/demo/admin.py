"""Orders in the admin."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from django.contrib import admin

from djmessenger.demo.models import Order

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Order]
else:
    ModelAdmin = admin.ModelAdmin


@admin.register(Order)
class OrderAdmin(ModelAdmin):
    """Who ordered what."""

    list_display: ClassVar[list[str]] = ["drink", "person", "created"]
    list_select_related: ClassVar[list[str]] = ["person"]
