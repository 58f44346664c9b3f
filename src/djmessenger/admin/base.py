"""Parts of all admin pages: read-only pages, bounded queries on large tables, and links without a referrer."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.utils.functional import Promise
    from django.utils.safestring import SafeString

LISTED = 10_000
"""Number of rows that a list counts and shows. A search or a filter finds older rows."""


if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
    _Paginator = Paginator[Any]
else:
    _ModelAdmin, _Paginator = admin.ModelAdmin, Paginator


class BoundedPaginator(_Paginator):
    """A paginator that counts up to ``LISTED`` rows, because on PostgreSQL a full count reads the whole table."""

    @functools.cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows.order_by()[:LISTED].count())

    @property
    def is_cut(self) -> bool:
        return self.count >= LISTED


class RecordAdmin(_ModelAdmin):
    """An admin of records that Meta and the bot make. Staff cannot add, change or delete them.

    A subclass lists in ``editable`` the fields that staff may change. Only changed columns are written: a full save
    would overwrite columns that a worker wrote after the form was opened.
    """

    editable: ClassVar[tuple[str, ...]] = ()
    exact: ClassVar[tuple[str, ...]] = ()
    """Indexed lookups that a search compares with the whole term."""

    actions: Any = None
    list_select_related: ClassVar[tuple[str, ...]] = ()
    change_list_template = "djmessenger/admin/change_list.html"
    list_per_page = 100
    list_max_show_all = 0
    paginator = BoundedPaginator
    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False
    sortable_by = ()

    class Media:
        css: ClassVar[dict[str, list[str]]] = {"all": ["djmessenger/admin.css"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        rows = super().get_queryset(request)
        return rows.select_related(*self.list_select_related) if self.list_select_related else rows

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return bool(self.editable) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> tuple[str, ...]:
        return tuple(name for name in self.flat_fields() if name not in self.editable)

    def flat_fields(self) -> Iterable[str]:
        for _title, options in self.fieldsets or ():
            for name in options["fields"]:
                yield str(name)

    def save_model(self, request: HttpRequest, obj: Model, form: Any, change: bool) -> None:
        if form.changed_data:
            obj.save(update_fields=form.changed_data)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Return Django's list, or raise its error for parameters that PostgreSQL refuses: the list without them."""
        parameters = [value for _name, values in request.GET.lists() for value in values]
        chosen = request.POST.getlist(ACTION_CHECKBOX_NAME)
        if any("\x00" in value for value in parameters) or not all(map(self._is_key, chosen)):
            raise IncorrectLookupParameters
        return super().get_changelist_instance(request)

    def _is_key(self, value: str) -> bool:
        field = self.opts.pk
        try:
            field.run_validators(field.to_python(value))
        except ValidationError:
            return False
        return "\x00" not in value

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        return None if "\x00" in object_id else super().get_object(request, object_id, from_field)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Filter the rows by ``search``, which compares whole ids, so that a search reads an index."""
        term = search_term.strip()
        if not term or "\x00" in term:
            return queryset, False
        return queryset.filter(self.search(term)), False

    def search(self, term: str) -> Q:
        condition = Q(pk__in=())
        for lookup in self.exact:
            condition |= Q(**{lookup: term})
        return condition


def admin_link(model: type[Model], pk: object, text: object) -> str | SafeString:
    """Return a link to the admin page of a row, or only the text if that page is not installed."""
    if pk is None:
        return "-"
    url = admin_url(model, pk)
    return format_html('<a href="{}">{}</a>', url, text) if url else str(text)


def admin_url(model: type[Model], pk: object) -> str:
    """Return the address of a row's admin page, or an empty text if that page is not installed."""
    try:
        return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[pk])
    except NoReverseMatch:
        return ""


def is_https(url: object) -> bool:
    """Return whether an address from outside is a plain https address that may become a link."""
    if (
        not isinstance(url, str)
        or not url.isprintable()
        or any(character in url for character in " \\\"'<>`")
    ):
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme == "https" and bool(parts.hostname) and "@" not in parts.netloc


def outside_link(url: object, text: object = "") -> str | SafeString:
    """Return a link to an https address that sends no referrer. Other addresses are returned as text."""
    if not is_https(url):
        return str(text or url or "-")
    return format_html(
        '<a href="{}" rel="noopener noreferrer" referrerpolicy="no-referrer" target="_blank">{}</a>',
        url,
        text or url,
    )


def pretty(data: object) -> SafeString:
    """Return data as indented JSON."""
    text = json.dumps(data, indent=2, ensure_ascii=False, default=str)
    return format_html('<pre class="djm-code">{}</pre>', text)


def preformatted(text: object) -> str | SafeString:
    return format_html('<pre class="djm-code">{}</pre>', text) if text else "-"


class TypeFilter(admin.SimpleListFilter):
    """A filter by type from a fixed list, because a query for the distinct types would read the whole table."""

    title: str | Promise = _("type")  # type: ignore[assignment]
    parameter_name = "type"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(type=self.value()) if self.value() else queryset
