"""A database in a file of its own."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from llm_server.storage import Storage, StorageConfig


@pytest.fixture
async def storage(tmp_path: Path) -> AsyncGenerator[Storage, None]:
    storage = Storage(StorageConfig(), tmp_path)
    yield storage
    await storage.close()
