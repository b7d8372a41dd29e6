"""What all pages of the review have in common: the access rule, the refusal to write, bounded lists, audited looks."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import BadRequest
from django.db.models import Model, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.text import smart_split, unescape_string_literal

from conversations import audit
from conversations.admin.cells import Column, address_of_list
from conversations.admin.filters import OfRuns
from conversations.models import AuditEntry

#: Words of one search: each reads all texts once.
_MAX_WORDS = 10
#: Rows of a section; the list behind its link has them all.
SECTION_ROWS = 50


@dataclass(frozen=True, kw_only=True)
class Section:
    """Rows that belong to the row of a page: the first of them, and a link to the list of all."""

    title: str
    #: In the order in which they are shown.
    rows: Callable[[Any], QuerySet[Any]]
    columns: tuple[Column, ...]
    #: Address of the list with all of them; empty when there are never more.
    rest: Callable[[Any], str] = lambda row: ""

    def drawn(self, request: HttpRequest, row: Model) -> dict[str, Any]:
        found = list(self.rows(row).visible_to(request.user)[: SECTION_ROWS + 1])  # type: ignore[attr-defined]  # ours
        shown = found[:SECTION_ROWS]
        return {
            "title": self.title,
            "heads": [column.short_description for column in self.columns],  # type: ignore[attr-defined]  # admin.display
            "rows": [[column(each) for column in self.columns] for each in shown],
            "n_shown": len(shown),
            "rest": self.rest(row) if len(found) > len(shown) else "",
        }


class ReviewList(ChangeList):
    """A list that takes its own filters alone, joins their conditions on runs, and reads what its columns show."""

    def get_filters(self, request: HttpRequest) -> Any:
        """Django would filter by any field, also by what is never shown."""
        found = super().get_filters(request)
        for name in found[2].keys() - {self.model_admin.parent}:  # type: ignore[attr-defined]  # always a ReviewAdmin
            raise IncorrectLookupParameters(f"There is no filter “{name}” here.")
        return found

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> QuerySet[Any]:
        queryset: QuerySet[Any] = super().get_queryset(request, exclude_parameters)
        runs = Q()
        for spec in self.filter_specs:
            if isinstance(spec, OfRuns):
                runs &= spec.runs()
        if runs:
            queryset = self.model_admin.of_runs(queryset, runs)  # type: ignore[attr-defined]  # as above
        return queryset.defer(*self.model_admin.heavy)  # type: ignore[attr-defined]  # as above


class ReadOnly:
    """Rows by the one access rule, no permission that writes."""

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return request.user.is_active and bool(getattr(request.user, "is_staff", False))

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class ReviewAdmin(ReadOnly, admin.ModelAdmin):  # type: ignore[type-arg]  # generic only for type checkers
    actions = None
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    change_form_template = "admin/review_form.html"
    #: What the page of a row shows.
    details: ClassVar[tuple[Column, ...]] = ()
    #: What it shows below everything else: data as it was stored.
    stored: ClassVar[tuple[Column, ...]] = ()
    #: The foreign key to what the rows are part of; links to the list of its parts filter by it.
    parent = ""
    #: Fields that lists don't show and don't read.
    heavy: ClassVar[tuple[str, ...]] = ()
    sections: ClassVar[tuple[Section, ...]] = ()

    # -- Rows

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        queryset = super().get_queryset(request).visible_to(request.user)  # type: ignore[attr-defined]  # ours
        return queryset.select_related(*self.list_select_related) if self.list_select_related else queryset  # type: ignore[no-any-return]

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """The row. Raises Http404: who may not see it can't tell it from one that isn't there."""
        found = super().get_object(request, object_id, from_field)
        if found is None:
            raise Http404
        return found

    def get_fieldsets(self, request: HttpRequest, obj: Model | None = None) -> Any:
        shown = [(None, {"fields": self.details})]
        return [*shown, ("As stored", {"fields": self.stored})] if self.stored else shown

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return (*self.details, *self.stored)

    def of_runs(self, queryset: QuerySet[Any], runs: Q) -> QuerySet[Any]:
        """The rows for which one run fulfils the condition."""
        return queryset.filter(runs)

    # -- Search

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Rows in which each word is found, or those with an id. In quotes several words are one."""
        words = [_unquoted(word) for word in smart_split(search_term)]
        if len(words) > _MAX_WORDS:
            raise IncorrectLookupParameters(f"“q” has more than {_MAX_WORDS} words; search for fewer.")
        for word in words:
            found_id = as_uuid(word)
            queryset = queryset.filter(self.found(word) | self.identified(found_id) if found_id else self.found(word))
        return queryset, False

    def found(self, word: str) -> Q:
        """Where a word is searched."""
        raise NotImplementedError

    def identified(self, row_id: UUID) -> Q:
        """Rows with the id, or of something with it."""
        return Q(pk=row_id)

    # -- Pages

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return ReviewList

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """Raises BadRequest: Django would forget all filters when one is wrong."""
        try:
            return super().get_changelist_instance(request)
        except IncorrectLookupParameters as error:
            raise BadRequest(_said(error)) from error

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        title = str(self.opts.verbose_name_plural).capitalize()
        return super().changelist_view(request, {"title": title, **(extra_context or {})})

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        obj = context["original"]
        self.looked(request, obj)
        context["sections"] = [section.drawn(request, obj) for section in self.sections]
        context["tools"] = self.tools(request, obj)
        return super().render_change_form(request, context, *args, **kwargs)

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """The history of a row is its audit entries; Django's own would be empty."""
        raise Http404

    def looked(self, request: HttpRequest, row: Any) -> None:
        """Leaves an audit entry when the row is another user's content."""

    def tools(self, request: HttpRequest, row: Any) -> list[tuple[str, str]]:
        """(text, address) of what else there is about the row."""
        return []


class PartAdmin(ReviewAdmin):
    """Rows that are listed by what they are part of, never all: they are many, and their list opens that."""

    parent_model: type[Any]

    def get_model_perms(self, request: HttpRequest) -> dict[str, bool]:
        """None: the start page has no link to it."""
        return {}

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        kinds = str(self.opts.verbose_name_plural).capitalize()
        wanted = request.GET.getlist(self.parent)
        # Django would list the rows of all when there are several.
        if len(wanted) != 1:
            raise BadRequest(f"{kinds} are listed by one {self.parent}: open it, its page has the link.")
        row_id = as_uuid(wanted[0])
        whole = row_id and self.parent_model.objects.visible_to(request.user).filter(pk=row_id).first()
        if not whole:
            raise Http404
        self.looked_into(request, whole)
        return super().changelist_view(request, {"title": f"{kinds} of {whole}"})

    def looked_into(self, request: HttpRequest, whole: Any) -> None:
        """Leaves an audit entry when what is listed is another user's."""
        raise NotImplementedError


def looked_at(request: HttpRequest, conversation: Any, **detail: object) -> None:
    audit.opened(
        actor=request.user, owner_id=conversation.owner_id, object_type="conversation", object_id=conversation.pk,
        through="admin", origin=audit.origin_of(request), detail=detail,
    )  # fmt: skip


def chat_page(conversation_id: UUID, anchor: str = "") -> tuple[str, str]:
    return "Open in the chat", reverse("conversation", args=[conversation_id]) + anchor


def trail_of(object_type: str, object_id: UUID) -> str:
    """Address of the audit entries of an object."""
    return address_of_list(AuditEntry, object_type=object_type, object_id=object_id)


def _said(error: IncorrectLookupParameters) -> str:
    """Our own words, or in general what Django could not use: its errors speak of Python."""
    said = error.args[0] if error.args else None
    return said if isinstance(said, str) else "The list has no such page, or no such filter."


def _unquoted(word: str) -> str:
    return unescape_string_literal(word) if len(word) > 1 and word[0] in "\"'" and word[0] == word[-1] else word


def as_uuid(text: str) -> UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
