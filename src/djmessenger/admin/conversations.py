"""Conversations: the messages of both sides in order, with the rule of each reply."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.functional import Promise
from django.utils.timezone import now
from django.utils.translation import gettext_lazy as _

from djmessenger.admin.base import RecordAdmin, admin_link, pretty
from djmessenger.admin.dialogue import Cursor, read_dialogue
from djmessenger.models import Conversation, FBUserProfile
from djmessenger.rulebook import limit

if TYPE_CHECKING:
    from django.utils.safestring import SafeString


class WindowFilter(admin.SimpleListFilter):
    """A filter by the state of Meta's window."""

    title: str | Promise = _("window")  # type: ignore[assignment]
    parameter_name = "window"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("open", str(_("open"))), ("closed", str(_("closed")))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        is_open = Q(window_until__gt=now())
        if self.value() == "open":
            # ``window_until`` has no index, and few rows of a large table are open. Each of them was active lately.
            longest = datetime.timedelta(days=limit("window.ad"), hours=limit("window.standard"))
            return queryset.filter(is_open, date_last_activity__gt=now() - longest)
        return queryset.exclude(is_open) if self.value() == "closed" else queryset


@admin.register(Conversation)
class ConversationAdmin(RecordAdmin):
    """Admin of conversations, which shows each as a readable dialogue."""

    change_form_template = "djmessenger/admin/conversation.html"
    list_display = ("person", "page", "date_last_inbound", "window_until", "date_last_activity")
    list_filter = (("page", admin.RelatedOnlyFieldListFilter), WindowFilter)
    list_select_related = ("person", "page")
    ordering = ("-date_last_activity",)
    search_fields = ("person",)
    search_help_text = _("A page-scoped id, or the start of a first name, last name or username.")
    fieldsets = (
        (None, {"fields": ("its_person", "page", "state_json")}),
        (
            _("Activity"),
            {"fields": ("date_last_inbound", "window_until", "date_last_activity", "fast_exchanges")},
        ),
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
