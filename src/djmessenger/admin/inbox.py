"""Incoming rows: events with their outcome, and the callbacks from which they were split."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.html import format_html_join
from django.utils.translation import gettext_lazy as _

from djmessenger.admin.actions import do_over, may
from djmessenger.admin.base import RecordAdmin, TypeFilter, admin_link, preformatted, pretty
from djmessenger.admin.outcome import as_tree, in_short
from djmessenger.models import Callback, Conversation, Messaging, Reply
from djmessenger.operations import replay
from djmessenger.receiving.types import ReceivingType

if TYPE_CHECKING:
    from django.utils.safestring import SafeString

_RULES_ONLY = {"ANY", "DEFAULT", "FALLBACK"}
_HEX = re.compile(r"[0-9a-f]{6,64}")
_SHOWN_BYTES = 200_000
_SHOWN_ROWS = 100


class ReceivingTypeFilter(TypeFilter):
    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(name, name) for name in ReceivingType.members if name not in _RULES_ONLY]


@admin.register(Messaging)
class MessagingAdmin(RecordAdmin):
    """Admin of events, with the outcome of each, rule by rule."""

    exact = ("mid", "key")
    list_display = ("__str__", "type", "state", "short", "dialogue", "page", "date_received")
    list_filter = ("state", ReceivingTypeFilter, "is_standby")
    list_select_related = ("page", "conversation__person", "conversation__page")
    ordering = ("-id",)
    search_fields = ("mid",)
    search_help_text = _("A message id, a page-scoped id or a key, each in full.")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "type",
                    "state",
                    "reason",
                    "dialogue",
                    "page",
                    "is_standby",
                    "date_event",
                    "replies",
                )
            },
        ),
        (_("Outcome of the policy"), {"fields": ("outcome_tree", "traceback")}),
        (
            _("Record"),
            {
                "fields": (
                    "mid",
                    "key",
                    "from_callback",
                    "crashes",
                    "is_kept",
                    "timestamp",
                    "date_received",
                    "date_handled",
                    "content",
                )
            },
        ),
    )

    actions = ("replay",)

    def has_replay_permission(self, request: HttpRequest) -> bool:
        return may(request, "replay_messaging")

    @admin.action(permissions=["replay"], description=_("Handle failed events again"))
    def replay(self, request: HttpRequest, rows: QuerySet[Messaging]) -> None:
        """Queue failed events again. Handled events are skipped, because their persons would get replies twice."""
        do_over(self, request, rows, replay.replay_event, "replayed")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("error")

    def search(self, term: str) -> Q:
        condition = super().search(term)
        if term.isdecimal():
            # The conversations are read first, because a condition over two tables would use no index.
            condition |= Q(conversation__in=list(_conversations_of(term)))
        return condition

    @admin.display(description=_("outcome"))
    def short(self, row: Messaging) -> str:
        return in_short(row.outcome) or row.reason or "-"

    @admin.display(description=_("conversation"))
    def dialogue(self, row: Messaging) -> str | SafeString:
        return admin_link(Conversation, row.conversation_id, row.conversation)

    @admin.display(description=_("time of the event"))
    def date_event(self, row: Messaging) -> Any:
        return row.date_event

    @admin.display(description=_("replies"))
    def replies(self, row: Messaging) -> SafeString | str:
        replies = row.replies.order_by("id").only("id", "type", "state", "rule")[:_SHOWN_ROWS]
        links = ((admin_link(Reply, reply.pk, reply), reply.rule) for reply in replies)
        return format_html_join("", "<div>{} {}</div>", links) or "-"

    @admin.display(description=_("outcome"))
    def outcome_tree(self, row: Messaging) -> str:
        return render_to_string("djmessenger/admin/outcome.html", {"outcome": as_tree(row.outcome)})

    @admin.display(description=_("traceback"))
    def traceback(self, row: Messaging) -> str | SafeString:
        return preformatted(row.error)

    @admin.display(description=_("callback"))
    def from_callback(self, row: Messaging) -> str | SafeString:
        return admin_link(Callback, row.callback_id, row.callback_id)

    @admin.display(description=_("body, as a callback with this event alone"))
    def content(self, row: Messaging) -> SafeString:
        return pretty(row.body)


@admin.register(Callback)
class CallbackAdmin(RecordAdmin):
    """Admin of callbacks: the bytes of signed POSTs from Meta."""

    exact = ("sha256",)
    list_display = ("__str__", "state", "app_id", "copies", "date_received")
    list_filter = ("state",)
    ordering = ("-id",)
    search_fields = ("sha256",)
    search_help_text = _("The SHA-256 of the body, in full, or its first digits as the list shows them.")
    fieldsets = (
        (None, {"fields": ("state", "problem", "date_received", "copies", "app_id", "sha256")}),
        (_("Content"), {"fields": ("its_messagings", "raw")}),
    )

    actions = ("replay",)

    def has_replay_permission(self, request: HttpRequest) -> bool:
        return may(request, "replay_callback")

    @admin.action(permissions=["replay"], description=_("Split callbacks again"))
    def replay(self, request: HttpRequest, rows: QuerySet[Callback]) -> None:
        """Split callbacks again. Their dedup keys prevent a second row for an event that has one."""
        do_over(self, request, rows, replay.replay_callback, "replayed")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).defer("body")

    def search(self, term: str) -> Q:
        condition, term_in_hex = super().search(term), term.lower()
        if _HEX.fullmatch(term_in_hex):
            # A range uses the index on each database; a prefix comparison does not.
            condition |= Q(sha256__gte=term_in_hex, sha256__lt=term_in_hex + "g")
        return condition

    @admin.display(description=_("error"))
    def problem(self, callback: Callback) -> str | SafeString:
        return preformatted(callback.error)

    @admin.display(description=_("events"))
    def its_messagings(self, callback: Callback) -> SafeString | str:
        rows = callback.messagings.order_by("id").only("id", "type", "timestamp", "state", "date_received")
        links = ((admin_link(Messaging, row.pk, row), row.get_state_display()) for row in rows[:_SHOWN_ROWS])
        return format_html_join("", "<div>{} ({})</div>", links) or "-"

    @admin.display(description=_("raw bytes"))
    def raw(self, callback: Callback) -> str | SafeString:
        body = bytes(callback.body)
        text = body[:_SHOWN_BYTES].decode("utf-8", "backslashreplace").replace("\x00", "\\x00")
        if len(body) > _SHOWN_BYTES:
            text += f"\n… {len(body) - _SHOWN_BYTES:,} bytes more"
        return preformatted(text)


def _conversations_of(psid: str) -> QuerySet[Conversation, int]:
    return Conversation.objects.filter(person_id=psid).values_list("pk", flat=True)
