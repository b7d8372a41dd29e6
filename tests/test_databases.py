"""Which tests run on which database: what a test says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import databases
from tests.environment import is_postgres
from tests.server import Server


def test_a_test_of_which_no_database_is_known_starts_no_server(tmp_path: Path) -> None:
    assert not is_postgres()
    with pytest.raises(AssertionError, match="takes it from a fixture `server`"):
        Server(folder=tmp_path / "server", prepared=False).start()


@pytest.mark.one_database
@pytest.mark.django_db
def test_a_test_with_the_mark_runs_on_sqlite_alone(request: pytest.FixtureRequest) -> None:
    assert not is_postgres()
    assert not databases.needs_a_database(request.node)
