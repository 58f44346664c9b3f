"""Outgoing rows: replies with their state and Graph's answer, and their attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _

from djmessenger.admin.actions import do_over, may
from djmessenger.admin.base import RecordAdmin, TypeFilter, admin_link, preformatted, pretty
from djmessenger.admin.dialogue import read_reply
from djmessenger.models import Attempt, Conversation, FBUserProfile, Messaging, Reply
from djmessenger.operations import replay
from djmessenger.outgoing.base import MESSAGES
from djmessenger.replying import ReplyingType

if TYPE_CHECKING:
    from django.utils.safestring import SafeString

_SHOWN_ATTEMPTS = 50


class KindFilter(TypeFilter):
    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        kinds = {message.kind for message in MESSAGES.values()} | {str(ReplyingType.QUICK_REPLY)}
        return [(kind, kind) for kind in sorted(kinds)]


@admin.register(Reply)
class ReplyAdmin(RecordAdmin):
    """Admin of replies, with the event, the rule, the state and the attempts of each."""

    exact = ("mid",)
    list_display = ("__str__", "text", "dialogue", "rule", "state", "status_code", "date_sent")
    list_filter = ("state", "is_over_limit", KindFilter)
    list_select_related = ("conversation__person", "conversation__page")
    ordering = ("-id",)
    search_fields = ("mid",)
    search_help_text = _("A message id or a page-scoped id, each in full.")
    fieldsets = (
        (None, {"fields": ("type", "text", "person", "dialogue", "rule", "answers")}),
        (
            _("Sending"),
            {
                "fields": (
                    "state",
                    "problem",
                    "status_code",
                    "answer",
                    "attempts",
                    "mid",
                    "date_sent",
                    "date_delivered",
                    "date_read",
                )
            },
        ),
        (_("Call"), {"fields": ("body",)}),
    )

    actions = ("resend",)

    def has_resend_permission(self, request: HttpRequest) -> bool:
        return may(request, "resend_reply")

    @admin.action(permissions=["resend"], description=_("Send failed, parked and expired replies again"))
    def resend(self, request: HttpRequest, rows: QuerySet[Reply]) -> None:
        """Queue replies again unchanged. A reply that an echo proves to be sent is settled instead."""
        do_over(self, request, rows, replay.resend, "resent")

    def search(self, term: str) -> Q:
        condition = super().search(term)
        return condition | Q(recipient=term) if term.isdecimal() else condition

    @admin.display(description=_("text"))
    def text(self, reply: Reply) -> str:
        content = read_reply(reply.data)
        return Truncator(content.text or ", ".join(content.notes)).chars(80) or "-"

    @admin.display(description=_("person"))
    def person(self, reply: Reply) -> str | SafeString:
        return admin_link(FBUserProfile, reply.recipient_id, reply.recipient)

    @admin.display(description=_("conversation"))
    def dialogue(self, reply: Reply) -> str | SafeString:
        return admin_link(Conversation, reply.conversation_id, reply.conversation)

    @admin.display(description=_("reply to"))
    def answers(self, reply: Reply) -> str | SafeString:
        return admin_link(Messaging, reply.messaging_id, reply.messaging)

    @admin.display(description=_("error"))
    def problem(self, reply: Reply) -> str | SafeString:
        return preformatted(reply.error)

    @admin.display(description=_("Graph's answer"))
    def answer(self, reply: Reply) -> str | SafeString:
        return "-" if reply.response is None else pretty(reply.response)

    @admin.display(description=_("attempts"))
    def attempts(self, reply: Reply) -> str | SafeString:
        tries = (
            (attempt, _facts(attempt)) for attempt in reply.attempts.order_by("number")[:_SHOWN_ATTEMPTS]
        )
        return format_html_join("", "<div>{} {}</div>", tries) or "-"

    @admin.display(description=_("body of the call, without the recipient"))
    def body(self, reply: Reply) -> SafeString:
        return pretty(reply.data)


@admin.register(Attempt)
class AttemptAdmin(RecordAdmin):
    """Admin of attempts: each call of the Send API for a reply, with its outcome."""

    exact = ("token",)
    list_display = (
        "__str__",
        "its_reply",
        "outcome",
        "status_code",
        "code",
        "subcode",
        "date_started",
        "date_ended",
    )
    list_filter = ("outcome",)
    list_select_related = ("reply",)
    ordering = ("-id",)
    search_fields = ("token",)
    search_help_text = _("The id of a reply or a send token, each in full.")
    fieldsets = (
        (None, {"fields": ("its_reply", "number", "outcome", "date_started", "date_ended")}),
        (_("Graph's answer"), {"fields": ("status_code", "code", "subcode", "fbtrace_id", "mid")}),
        (_("Record"), {"fields": ("token", "fencing_token")}),
    )

    def search(self, term: str) -> Q:
        condition = super().search(term)
        return (
            condition | Q(reply=int(term))
            if term.isascii() and term.isdecimal() and len(term) < 19
            else condition
        )

    @admin.display(description=_("reply"))
    def its_reply(self, attempt: Attempt) -> str | SafeString:
        return admin_link(Reply, attempt.reply_id, f"{attempt.reply_id}: {attempt.reply}")


def _facts(attempt: Attempt) -> str:
    facts = {
        "HTTP": attempt.status_code,
        "code": attempt.code,
        "subcode": attempt.subcode,
        "fbtrace_id": attempt.fbtrace_id,
    }
    known_facts = ", ".join(f"{name} {value}" for name, value in facts.items() if value)
    return f"{attempt.date_started:%Y-%m-%d %H:%M:%S}{f' ({known_facts})' if known_facts else ''}"
