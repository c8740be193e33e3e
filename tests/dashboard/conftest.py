"""Both databases, one after the other."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dashboard.store import Store
from dashboard.tables import METADATA
from tests.conftest import missing
from tests.databases import find_postgres, postgres


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A running PostgreSQL."""
    programs = find_postgres()
    if programs is None:
        missing("PostgreSQL", "install it, for example: apt install postgresql")
    else:
        with postgres(programs) as url:
            yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    if request.param == "sqlite":
        made = Store(f"sqlite:///{tmp_path / 'store.sqlite'}")
    else:
        made = Store(str(request.getfixturevalue("postgres_url")))
        with made.engine.begin() as connection:
            for table in METADATA.tables:
                connection.exec_driver_sql(f"TRUNCATE {table}")
    yield made
    made.close()
