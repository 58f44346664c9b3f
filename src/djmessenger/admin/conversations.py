"""Conversations: the messages of both sides in order, with the rule of each reply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _

from djmessenger.admin.base import RecordAdmin, admin_link, pretty
from djmessenger.admin.dialogue import Cursor, read_dialogue
from djmessenger.models import Conversation, FBUserProfile

if TYPE_CHECKING:
    from django.utils.safestring import SafeString


@admin.register(Conversation)
class ConversationAdmin(RecordAdmin):
    """Admin of conversations, which shows each as a readable dialogue."""

    change_form_template = "djmessenger/admin/conversation.html"
    list_display = ("person", "page", "date_last_inbound", "date_last_activity")
    list_filter = (("page", admin.RelatedOnlyFieldListFilter),)
    list_select_related = ("person", "page")
    ordering = ("-date_last_activity",)
    search_fields = ("person",)
    search_help_text = _("A page-scoped id, or the start of a first name, last name or username.")
    fieldsets = (
        (None, {"fields": ("its_person", "page", "state_json")}),
        (_("Activity"), {"fields": ("date_last_inbound", "date_last_activity", "fast_exchanges")}),
    )

    def search(self, term: str) -> Q:
        if term.isdecimal():
            return Q(person=term)
        names = Q(person__first_name__istartswith=term) | Q(person__last_name__istartswith=term)
        return names | Q(person__username__istartswith=term)

    def change_view(
        self,
        request: HttpRequest,
        object_id: str,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        return super().change_view(
            request, object_id, form_url, {"cursor": request.GET.get("before", ""), **(extra_context or {})}
        )

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        # When this method runs, permissions are checked and the row is read.
        context["dialogue"] = read_dialogue(context["original"], Cursor.parse(context["cursor"]))
        return super().render_change_form(request, context, *args, **kwargs)

    @admin.display(description=_("person"))
    def its_person(self, conversation: Conversation) -> str | SafeString:
        return admin_link(FBUserProfile, conversation.person_id, conversation.person)

    @admin.display(description=_("state"))
    def state_json(self, conversation: Conversation) -> SafeString:
        return pretty(conversation.state)
