"""Every store, and two towns in it: the suite is the same for the databases and for their twin in memory."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from gateway.store.engine import open_store
from gateway.store.memory import MemoryStore
from gateway.store.port import Store, Town


@pytest_asyncio.fixture(params=["memory", "sqlite", "postgresql"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    match request.param:
        case "memory":
            opened: Store = MemoryStore()
        case "sqlite":
            opened = await open_store(f"sqlite:///{tmp_path}/mensa.db")
        case _:
            opened = await open_store(request.getfixturevalue("postgres_url"))
    await opened.migrate()
    yield opened
    await opened.close()


@pytest.fixture
def here(store: Store) -> Town:
    return store.at("roccachiara")


@pytest.fixture
def elsewhere(store: Store) -> Town:
    return store.at("montelago")
