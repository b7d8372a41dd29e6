"""Assets for staff to look at. They are changed by imports, which leave a source behind, not by hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern

from inventory.admin import imports
from inventory.models import Asset

if TYPE_CHECKING:
    AssetModelAdmin = admin.ModelAdmin[Asset]
else:
    AssetModelAdmin = admin.ModelAdmin


#: Words of one search: each reads all assets once, and databases limit how deep a condition may be.
_MAX_WORDS = 10


class Known(admin.AllValuesFieldListFilter):
    """By one of the values that occur; the blank one has a name."""

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        for choice in super().choices(changelist):
            yield {**choice, "display": choice["display"] or "(empty)"}


@admin.register(Asset)
class AssetAdmin(AssetModelAdmin):
    list_display = (
        "__str__",
        "asset_type",
        "status",
        "ip_address",
        "site",
        "environment",
        "os",
        "manufacturer",
        "source",
    )
    list_filter = (
        *((name, Known) for name in ("asset_type", "status", "environment", "criticality", "site", "manufacturer")),
        "source",
    )
    search_fields = ("name", "fqdn", "ip_address", "mac_address", "serial_number", "asset_tag", "notes")
    ordering = ("name", "id")
    exclude = Asset.DERIVED
    list_per_page = 50
    show_full_result_count = False

    def get_urls(self) -> list[URLPattern]:
        return [*imports.addresses(), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {"may_import": imports.may_import(request), **(extra_context or {})})

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """Django would forget all filters when one is wrong. Raises BadRequest."""
        if len(request.GET.get("q", "").split()) > _MAX_WORDS:
            raise BadRequest(f"“q” has more than {_MAX_WORDS} words; search for fewer.")
        try:
            return super().get_changelist_instance(request)
        except IncorrectLookupParameters as error:
            raise BadRequest("The list has no such page, or no such filter.") from error

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Asset | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Asset | None = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Asset | None = None) -> bool:
        return request.user.is_active and request.user.is_staff

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)
