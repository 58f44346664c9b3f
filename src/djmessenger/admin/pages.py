"""Pages with their settings and encrypted tokens, their request log and uploaded files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Model, Q
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.debug import sensitive_post_parameters

from djmessenger import bot
from djmessenger.admin.base import RecordAdmin
from djmessenger.bot.pages import is_default, page_access_token
from djmessenger.exceptions import DJMException, TokenKeyError
from djmessenger.models import GraphCall, Page, UploadedFile
from djmessenger.secret import Secret
from djmessenger.settings import app_settings

if TYPE_CHECKING:
    from django.utils.safestring import SafeString

    _PageForm = forms.ModelForm[Page]
else:
    _PageForm = forms.ModelForm

_PAGE_ID = re.compile(r"[0-9]{1,32}", re.ASCII)
_VERSION = re.compile(r"v[1-9][0-9]?\.[0-9]", re.ASCII)


_RENEWAL = ("date_token_expires", "date_token_renewal")


class SecretField(forms.CharField):
    """A password field that shows no stored value. It returns the typed value as a ``Secret``."""

    widget = forms.PasswordInput(attrs={"autocomplete": "new-password"})

    def clean(self, value: Any) -> Any:
        try:
            return Secret(super().clean(value))
        except DJMException as error:
            value, problem = "***", str(error)
        raise ValidationError(problem)


class PageForm(_PageForm):
    """Form of a Page. It encrypts the token during validation, so that a missing key is an error of the field."""

    new_token = SecretField(
        label=_("new access token"),
        required=False,
        help_text=_(
            "Leave it empty to keep the present token. The token is stored encrypted and is never shown."
        ),
    )
    remove_token = forms.BooleanField(label=_("remove the access token"), required=False)

    class Meta:
        model = Page
        fields = (
            "page_id",
            "name",
            "channel",
            "login",
            "app_id",
            "version",
            "policy",
            "language",
            "is_logged",
        )

    def clean_page_id(self) -> str:
        page_id = str(self.cleaned_data["page_id"])
        if not _PAGE_ID.fullmatch(page_id):
            raise ValidationError(_("The id of a Page or Instagram account is a number."))
        return page_id

    def clean_version(self) -> str:
        version = str(self.cleaned_data["version"])
        if version and not _VERSION.fullmatch(version):
            raise ValidationError(_("Enter a version such as v26.0."))
        return version

    def clean_policy(self) -> str:
        policy = str(self.cleaned_data["policy"])
        if policy and "policy" in self.changed_data:
            problems = [str(problem) for problem in bot.get_problems_at(policy) if problem.is_error]
            if problems:
                raise ValidationError(problems)
        return policy

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        token = cleaned.pop("new_token", None) or Secret()
        if not token and not cleaned.get("remove_token"):
            return cleaned
        target = Page(page_id=cleaned.get("page_id") or self.instance.page_id)
        try:
            bot.set_token(target, token)
        except TokenKeyError as error:
            self.add_error("new_token", str(error))
        else:
            for name in Page.TOKEN_COLUMNS:
                setattr(self.instance, name, getattr(target, name))
        return cleaned


@admin.register(Page)
class PageAdmin(RecordAdmin):
    """Admin of Pages. A Page is inserted with its first callback, or by staff before it.

    Staff who may change a Page may set its token. The policy names code to import, so only superusers may change it.
    """

    form = PageForm
    editable = (
        "name", "channel", "login", "app_id", "version", "policy", "language", "is_logged", "new_token", "remove_token",
    )  # fmt: skip
    exact = ("page_id",)
    list_display = ("__str__", "page_id", "channel", "token", "date_created", "date_last_callback")
    list_filter = ("channel",)
    search_fields = ("page_id",)
    search_help_text = _("A page id or the start of a name.")
    fieldsets = (
        (None, {"fields": ("page_id", "name", "channel", "login", "language", "policy")}),
        (_("Graph"), {"fields": ("token", "new_token", "remove_token", *_RENEWAL, "app_id", "version")}),
        (_("Record"), {"fields": ("is_logged", "calls", "date_created", "date_last_callback")}),
        (_("Sending"), {"fields": ("paused_until", "pause_reason", "date_last_echo", "echo_lag")}),
    )

    def search(self, term: str) -> Q:
        return super().search(term) | Q(name__istartswith=term)

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return admin.ModelAdmin.has_add_permission(self, request)

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        fields = super().get_readonly_fields(request, obj)
        if obj is None:
            fields = tuple(name for name in fields if name != "page_id")
        # The type checker includes anonymous users, but only staff can open the admin.
        return fields if getattr(request.user, "is_superuser", False) else (*fields, "policy")

    def save_model(self, request: HttpRequest, obj: Model, form: Any, change: bool) -> None:
        if not change:
            obj.save()
            return
        changed = [name for name in form.changed_data if name not in {"new_token", "remove_token"}]
        if len(changed) < len(form.changed_data):
            changed += Page.TOKEN_COLUMNS
        if changed:
            obj.save(update_fields=changed)

    @method_decorator(sensitive_post_parameters("new_token"))
    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        return super().changeform_view(request, object_id, form_url, extra_context)

    @admin.display(description=_("access token"))
    def token(self, page: Page) -> str:
        if app_settings.page_setting(page.page_id, "token"):
            return gettext("set in DJM_PAGES")
        if not page.token_ciphertext:
            return gettext("set in the settings") if _uses_the_default_token(page) else gettext("not set")
        try:
            shown = gettext("set, ends in …%s") % bot.token_hint(page)
        except TokenKeyError as error:
            return str(error)
        if page.date_token_expires is None or not page.is_token_ending():
            return shown
        end = date_format(page.date_token_expires, "SHORT_DATE_FORMAT")
        return gettext("%(token)s; it is not renewed, and no reply can be sent from %(end)s on") % {
            "token": shown,
            "end": end,
        }

    @admin.display(description=_("request log"))
    def calls(self, page: Page) -> str | SafeString:
        if page.pk is None:
            return "-"
        url = reverse("admin:djmessenger_graphcall_changelist", current_app=self.admin_site.name)
        return format_html('<a href="{}?{}">{}</a>', url, urlencode({"page__id__exact": page.pk}), _("show"))


def _uses_the_default_token(page: Page) -> bool:
    return bool(page.page_id) and is_default(page) and bool(page_access_token())


@admin.register(GraphCall)
class GraphCallAdmin(RecordAdmin):
    """Admin of the request log of Pages with ``is_logged``. It contains no texts, and ids only as hashes."""

    exact = ("fbtrace_id",)
    list_display = (
        "date", "page", "method", "path", "status", "outcome", "code", "subcode", "ms", "fbtrace_id",
    )  # fmt: skip
    list_filter = ("page",)
    list_select_related = ("page",)
    ordering = ("-id",)
    search_fields = ("fbtrace_id",)
    search_help_text = _("A trace id.")
    fieldsets = ((None, {"fields": list_display}),)


@admin.register(UploadedFile)
class UploadedFileAdmin(RecordAdmin):
    """Admin of files that were uploaded to Meta, by the hash of their content."""

    exact: ClassVar[tuple[str, ...]] = ("sha256", "attachment_id")
    list_display = ("__str__", "page", "kind", "attachment_id", "date_created", "date_expires")
    list_filter = ("page",)
    list_select_related = ("page",)
    ordering = ("-id",)
    search_fields = ("sha256",)
    search_help_text = _("A hash or an attachment id.")
    fieldsets = (
        (None, {"fields": ("page", "kind", "sha256", "attachment_id", "date_created", "date_expires")}),
    )
