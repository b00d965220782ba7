"""What the tests of groups share."""

from collections.abc import AsyncIterator

import pytest

from tests.batching.grouped import Bench


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.end()
