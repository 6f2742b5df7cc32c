"""Servers for the tests of production; each test says which it needs."""

from collections.abc import Iterator

import pytest

from tests.production.servers import Postgres, object_store, postgres


@pytest.fixture(scope="module", name="postgres")
def postgres_server() -> Iterator[Postgres]:
    """A Postgres server of the module's own."""
    with postgres() as server:
        yield server


@pytest.fixture(scope="module", name="object_store")
def store_server() -> Iterator[dict[str, str]]:
    """The environment of an object store with the bucket `cqox`."""
    with object_store() as environment:
        yield environment
