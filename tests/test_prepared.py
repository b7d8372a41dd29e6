"""Queries that are compiled once give what the ORM gives; one's own rows are seen without asking for permissions."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import connection
from django.db.models import Q
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from conversations import runs, threads, tokens
from conversations.models import ApiToken, Conversation, Export, Run, Visible
from conversations.prepared import Prepared
from tests.answers import answered, stored

by_digest: Prepared[ApiToken] = Prepared(
    lambda digest, now: ApiToken.objects.live(now).select_related("user").filter(digest=digest),
    lambda: [ApiToken._meta.get_field("digest"), ApiToken._meta.get_field("expires_at")],
)


def values(row: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(row).items() if name != "_state"}


@pytest.mark.django_db
def test_a_row_is_as_the_orm_gives_it(alice: User, bob: User) -> None:
    now = timezone.now()
    for user in (alice, bob, alice):
        row, _ = tokens.make(user=user, days=3)
        found = by_digest.first(row.digest, now)
        assert found is not None
        assert values(found) == values(ApiToken.objects.get(pk=row.pk))
        assert (found._state.db, found._state.adding) == ("default", False)
        with CaptureQueriesContext(connection) as queries:
            assert values(found.user) == values(User.objects.get(pk=user.pk))
        assert len(queries) == 1
        assert by_digest.first(row.digest, now + timedelta(days=4)) is None
    assert by_digest.first("no such digest", now) is None


@pytest.mark.django_db
def test_a_row_with_documents_times_and_fields_that_wait_is_as_the_orm_gives_it(alice: User) -> None:
    run = answered(alice, "Rows.")
    prepared: Prepared[Run] = Prepared(
        lambda key: Run.objects.select_related("conversation").defer("response").filter(pk=key), lambda: [Run._meta.pk]
    )
    found = prepared.first(run.pk)
    theirs = Run.objects.select_related("conversation").defer("response").get(pk=run.pk)
    assert found is not None
    assert values(found.conversation) == values(theirs.conversation)
    assert found.get_deferred_fields() == {"response"}
    assert (found.context, found.finished_at, found.response) == (theirs.context, theirs.finished_at, theirs.response)


@pytest.mark.django_db(transaction=True)
def test_every_thread_asks_on_its_own_connection(alice: User) -> None:
    rows = [tokens.make(user=alice)[0] for _ in range(4)]

    def found(row: ApiToken) -> bool:
        try:
            return all(by_digest.first(row.digest, timezone.now()) == row for _ in range(20))
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(found, rows))
    threads.reading.close_connections()


@pytest.mark.django_db
def test_a_query_that_does_not_use_a_value_is_refused() -> None:
    unused: Prepared[Run] = Prepared(lambda _: Run.objects.filter(Q(status="running")), lambda: [Run._meta.pk])
    with pytest.raises(TypeError, match="each of its values"):
        unused.first(uuid4())


@pytest.mark.django_db
@pytest.mark.parametrize("model", [Conversation, Run, Export])
def test_visible_is_what_the_rules_say(model: Any, alice: User, bob: User, erin: User) -> None:
    run = answered(alice, "Rows.")
    row = {Conversation: run.conversation, Run: run, Export: stored(run)}[model]
    visible: Visible[Any] = Visible(model.objects.all)
    closed = User.objects.create(username="closed", is_active=False)
    for user in (alice, bob, erin, closed, AnonymousUser()):
        expected = model.objects.visible_to(user).filter(pk=row.pk).first()
        assert visible.get(user, row.pk) == expected
        assert visible.get(user, uuid4()) is None
    alice.is_active = False
    assert visible.get(alice, row.pk) is None


@pytest.mark.django_db
def test_ones_own_row_takes_one_query(alice: User) -> None:
    conversation = runs.open_conversation(owner=alice)
    visible: Visible[Conversation] = Visible(Conversation.objects.all)
    visible.get(alice, conversation.pk)
    with CaptureQueriesContext(connection) as queries:
        assert visible.get(alice, conversation.pk) == conversation
    assert len(queries) == 1
