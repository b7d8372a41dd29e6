"""Filters of the review's lists. What the address bar brings is checked: nonsense is refused with its reason."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth import get_user_model
from django.db.models import Model, Q, QuerySet, TextField
from django.db.models.functions import Cast
from django.http import HttpRequest

from conversations.models import REVIEW, AuditEntry, Export, Run, StageRun
from conversations.pipeline.events import STAGES
from conversations.pipeline.tools import registry

#: Names that are suggested for one that no user has.
_SUGGESTIONS = 5


class InputFilter(admin.ListFilter):
    """A filter by what is typed: the form of its inputs keeps the other filters."""

    template = "admin/filter_input.html"
    #: Parameter of the address -> (label, type of the input).
    inputs: ClassVar[dict[str, tuple[str, str]]]

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: type[Model], model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        self.values = {name: params.pop(name, [""])[-1].strip() for name in self.inputs}
        #: The other parameters of the address, which the form sends along.
        self.others: list[tuple[str, str]] = []
        #: What is odd about the values, for people.
        self.remark = ""
        #: Better values, and the address with each.
        self.suggestions: list[tuple[str, str]] = []

    def has_output(self) -> bool:
        return True

    def expected_parameters(self) -> list[Any]:
        return list(self.inputs)

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        kept = changelist.filter_params.items()
        self.others = [(name, value) for name, values in kept if name not in self.inputs for value in values]
        for name, (label, kind) in self.inputs.items():
            yield {"name": name, "label": label, "kind": kind, "value": self.values[name]}


class ByUser(InputFilter):
    """By a user's whole name, typed: a list of all users would be long, and not everybody's to see."""

    title = "user"
    inputs: ClassVar = {"user": ("User name", "text")}
    #: From a row to the name.
    path = "user__username"
    similar: list[str] | None = None

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        name = self.values["user"]
        if not name:
            return queryset
        self.similar = self._similar(request, name)
        return queryset.filter(**{self.path: name})

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        if self.similar is not None:
            self.remark = "No user of this name."
            self.suggestions = [(name, changelist.get_query_string({"user": name})) for name in self.similar]
        yield from super().choices(changelist)

    def _similar(self, request: HttpRequest, name: str) -> list[str] | None:
        """Similar names when nobody has this one, else None.

        Who may see only their own rows learns nothing of other users.
        """
        people = get_user_model().objects.order_by("username")
        if not request.user.has_perm(REVIEW):
            people = people.filter(username=request.user.get_username())
        if people.filter(username=name).exists():
            return None
        return list(people.filter(username__icontains=name).values_list("username", flat=True)[:_SUGGESTIONS])


class ByOwner(ByUser):
    path = "owner__username"


class ByRunUser(ByUser):
    path = "run__user__username"


class ByActor(ByUser):
    """Names are kept as they were: an entry outlives its actor."""

    path = "actor_name"


class ByDay(InputFilter):
    """Between two days, both included, in UTC."""

    title = "day (UTC)"
    inputs: ClassVar = {"from": ("From", "date"), "to": ("To", "date")}
    path = "created_at"

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        first, last = self._day("from"), self._day("to")
        if first and last and first > last:
            raise IncorrectLookupParameters("“from” is after “to”; swap them.")
        self.range = Q()
        if first:
            self.range &= Q(**{f"{self.path}__gte": datetime.combine(first, time(), UTC)})
        if last:
            self.range &= Q(**{f"{self.path}__lt": datetime.combine(last + timedelta(days=1), time(), UTC)})

    def _day(self, name: str) -> date | None:
        if not self.values[name]:
            return None
        try:
            day = date.fromisoformat(self.values[name])
            day + timedelta(days=1)
        except (ValueError, OverflowError):
            raise IncorrectLookupParameters(f"“{name}” is no day; write it as 2026-11-22.") from None
        return day

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(self.range)


class ByStartDay(ByDay):
    path = "started_at"


class ByEntryDay(ByDay):
    path = "at"


class Choice(admin.SimpleListFilter):
    """One of a few known values."""

    options: ClassVar[list[tuple[str, str]]] = []
    path = ""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        value, known = self.value(), [key for key, _ in self.lookup_choices]
        if value and value not in known:
            raise IncorrectLookupParameters(f"“{self.parameter_name}” is one of: {', '.join(known)}.")

    def has_output(self) -> bool:
        return True

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return self.options

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(self.condition(value)) if (value := self.value()) else queryset

    def condition(self, value: str) -> Q:
        return Q(**{self.path: value})


class ByStage(Choice):
    title = parameter_name = path = "stage"
    options: ClassVar = [(letter, f"{letter} {name}") for letter, name in STAGES.items()]


class ByStageStatus(Choice):
    title = parameter_name = path = "status"
    options: ClassVar = StageRun.Status.choices


class BySource(Choice):
    title = parameter_name = path = "source"
    options: ClassVar = Export.Source.choices


class ByOutcome(Choice):
    title = parameter_name = path = "outcome"
    options: ClassVar = AuditEntry.Outcome.choices


class ByExportTool(Choice):
    title = parameter_name = path = "tool"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return _tools()


class ByAction(InputFilter):
    """By an action or its beginning. Typed: to list those that occur, the whole trail would have to be read."""

    title = "action"
    inputs: ClassVar = {"action": ("Action; “export.” for all of exports", "text")}

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        action = self.values["action"]
        if not action:
            return queryset
        # A range, which an index answers in every database; a prefix match is not in SQLite.
        return (
            queryset.filter(action__gte=action, action__lt=f"{action}\uffff")
            if action.endswith(".")
            else queryset.filter(action=action)
        )


class ByObject(admin.ListFilter):
    """By one object, as links from its pages bring it; there is nothing to choose."""

    title = "object"
    template = "admin/filter_object.html"

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: type[Model], model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        names = self.expected_parameters()
        self.wanted: dict[str, str] = {name: params.pop(name)[-1] for name in names if name in params}

    def expected_parameters(self) -> list[Any]:
        return ["object_type", "object_id"]

    def has_output(self) -> bool:
        return bool(self.wanted)

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        without = changelist.get_query_string(remove=self.expected_parameters())
        yield {"display": " ".join(self.wanted.values()), "query_string": without}

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**self.wanted)


# -- Of runs ---------------------------------------------------------------------------------------------------------


class OfRuns:
    """Filters whose condition is on a run. A list of conversations joins them: one run has to fulfil them all."""

    def runs(self) -> Q:
        """The condition, empty when nothing is chosen."""
        raise NotImplementedError

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Left as it is: the list joins the conditions of all such filters."""
        return queryset


class ByRunDay(OfRuns, ByDay):
    def runs(self) -> Q:
        return self.range


class RunChoice(OfRuns, Choice):
    def runs(self) -> Q:
        return self.condition(value) if (value := self.value()) else Q()


class ByRunStatus(RunChoice):
    title = parameter_name = path = "status"
    options: ClassVar = Run.Status.choices


class ByFailedStage(RunChoice):
    title = "failed stage"
    parameter_name = "failed"
    options: ClassVar = [("any", "Any stage"), *ByStage.options]

    def condition(self, value: str) -> Q:
        failed = StageRun.objects.filter(status=StageRun.Status.FAILED)
        return Q(pk__in=(failed if value == "any" else failed.filter(stage=value)).values("run"))


class ByTool(RunChoice):
    """By a tool that stage E was given to run.

    Every call is in its input: also one that failed (a run has a response only when it succeeded) or that counted (an
    export has a tool, and a count has none). The text of the JSON is compared, because arrays can be searched in
    PostgreSQL alone; quotes within values are escaped there, so that no argument looks like a call. An index finds the
    stage runs of E, one a run.
    """

    title = parameter_name = "tool"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return _tools()

    def condition(self, value: str) -> Q:
        called = StageRun.objects.filter(stage="E").annotate(calls=Cast("input", TextField()))
        return Q(pk__in=called.filter(calls__contains=f'"tool": "{value}"').values("run"))


def _tools() -> list[tuple[str, str]]:
    return [(tool.name, tool.name) for tool in registry.tools]
