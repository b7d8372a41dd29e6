"""Houses for the fault tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.long import houses
from tests.long.houses import Ear, House, Site
from tests.servers import postgres, valkey


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder that embedded servers begin with."""
    return houses.prepared(tmp_path_factory.mktemp("prepared") / "data")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """PostgreSQL and Valkey for all tests of this process."""
    with postgres() as database, valkey() as bus:
        template = houses.made_database(database.url)
        addresses = {"DATABASE_URL": template, "REDIS_URL": bus.url}
        folder = houses.prepared(tmp_path_factory.mktemp("prepared-site") / "data", **addresses)
        yield Site(postgres=database, valkey=bus, prepared=folder, template=template.rpartition("/")[2])


@pytest.fixture
def ear() -> Iterator[Ear]:
    ear = Ear()
    yield ear
    ear.close()


@pytest.fixture(params=["daphne", "uvicorn"])
def embedded(request: pytest.FixtureRequest, tmp_path: Path, prepared: Path, ear: Ear) -> Iterator[House]:
    """One server that executes by itself; not started."""
    house = houses.embedded(tmp_path / "house", prepared, ear, program=request.param)
    yield house
    house.kill()


@pytest.fixture
def many(tmp_path: Path, site: Site, ear: Ear) -> Iterator[Callable[..., House]]:
    """Makes a house for web servers and workers."""
    made: list[House] = []

    def make(*, dropped: float | None = None) -> House:
        house = site.house(tmp_path / f"house{len(made)}", ear, dropped=dropped)
        made.append(house)
        return house

    yield make
    for house in made:
        house.kill()


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(limits=limits, timeout=httpx.Timeout(30, read=60), verify=False) as client:  # noqa: S501  it is 127.0.0.1
        yield client
