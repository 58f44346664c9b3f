"""Admin of the orders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin

from djmessenger.demo.models import Order

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Order]
else:
    ModelAdmin = admin.ModelAdmin


@admin.register(Order)
class OrderAdmin(ModelAdmin):
    """List of orders with drink and person."""

    list_display = ("drink", "person", "created")
    list_select_related = ("person",)
