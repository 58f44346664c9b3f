"""Persons and their shared locations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.db.models import Q
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.translation import gettext_lazy as _

from djmessenger.admin.base import RecordAdmin, admin_link, outside_link
from djmessenger.models import Conversation, FBUserProfile, UserLocation

if TYPE_CHECKING:
    from django.utils.safestring import SafeString


@admin.register(FBUserProfile)
class FBUserProfileAdmin(RecordAdmin):
    """Admin of persons. Staff may change ``is_active``."""

    editable = ("is_active",)
    exact = ("psid",)
    list_display = ("__str__", "psid", "page", "locale", "is_active", "thumbups", "date_joined")
    list_filter = ("is_active", "profile_state")
    list_select_related = ("page",)
    ordering = ("-date_joined",)
    search_fields = ("psid",)
    search_help_text = _("A page-scoped id, or the start of a first name, last name or username.")
    fieldsets = (
        (None, {"fields": ("psid", "page", "is_active", "their_conversations")}),
        (
            _("Profile"),
            {
                "fields": (
                    "first_name",
                    "last_name",
                    "username",
                    "locale",
                    "timezone",
                    "gender",
                    "picture",
                    "profile_state",
                    "date_profile",
                )
            },
        ),
        (_("Record"), {"fields": ("date_joined", "thumbups", "date_unreachable", "their_locations")}),
    )

    def search(self, term: str) -> Q:
        condition = super().search(term)
        if term.isdecimal():
            return condition
        names = Q(first_name__istartswith=term) | Q(last_name__istartswith=term)
        return condition | names | Q(username__istartswith=term)

    @admin.display(description=_("profile picture"))
    def picture(self, person: FBUserProfile) -> str | SafeString:
        return outside_link(person.profile_pic, _("open the picture"))

    @admin.display(description=_("conversations"))
    def their_conversations(self, person: FBUserProfile) -> str | SafeString:
        conversation = Conversation.objects.filter(person=person).order_by("-date_last_activity").first()
        if conversation is None:
            return "-"
        return admin_link(Conversation, conversation.pk, _("open the dialogue"))

    @admin.display(description=_("locations"))
    def their_locations(self, person: FBUserProfile) -> SafeString:
        url = reverse("admin:djmessenger_userlocation_changelist", current_app=self.admin_site.name)
        return format_html('<a href="{}?{}">{}</a>', url, urlencode({"q": person.psid}), _("show"))


@admin.register(UserLocation)
class UserLocationAdmin(RecordAdmin):
    """Admin of shared locations, each with a link to a map."""

    exact = ("user", "id")
    list_display = ("__str__", "person", "latitude", "longitude", "map", "timestamp", "date_created")
    list_select_related = ("user",)
    ordering = ("-id",)
    search_fields = ("user",)
    search_help_text = _("A page-scoped id.")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "person",
                    "title",
                    "latitude",
                    "longitude",
                    "map",
                    "sent_address",
                    "mid",
                    "seq",
                    "timestamp",
                    "date_created",
                )
            },
        ),
    )

    def search(self, term: str) -> Q:
        return Q(user=term)

    @admin.display(description=_("person"))
    def person(self, location: UserLocation) -> str | SafeString:
        return admin_link(FBUserProfile, location.user_id, location.user)

    @admin.display(description=_("map"))
    def map(self, location: UserLocation) -> str | SafeString:
        return outside_link(map_url(location.latitude, location.longitude), "OpenStreetMap")

    @admin.display(description=_("address in the message"))
    def sent_address(self, location: UserLocation) -> str | SafeString:
        return outside_link(location.url)


def map_url(latitude: object, longitude: object) -> str:
    """Return the address of a map with a mark at a place (OpenStreetMap wiki, "Permalink", 2026)."""
    place = f"{float(str(latitude)):.6f}", f"{float(str(longitude)):.6f}"
    query = urlencode({"mlat": place[0], "mlon": place[1]})
    return f"https://www.openstreetmap.org/?{query}#map=16/{place[0]}/{place[1]}"
