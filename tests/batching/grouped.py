"""A grouped upstream, and requests to it as tasks."""

import asyncio
from typing import Any

from llm_server.batching import EmbeddingsConfig, Grouped
from llm_server.contract import Context, EmbedCall, Embeddings, ServerError
from llm_server.testing import outcome
from tests.batching.upstream import Gated, Heard, ask, context

LONG_MS = 1000.0


class Bench:
    """A grouped upstream, and requests to it as tasks."""

    def __init__(self, **config: Any) -> None:
        self.up, self.heard = Gated(), Heard()
        wanted = EmbeddingsConfig.model_validate({"max_wait_ms": LONG_MS, **config})
        self.grouped = Grouped(self.up, wanted, self.heard)
        self.tasks: list[asyncio.Task[Any]] = []

    def send(self, *texts: str | tuple[int, ...], ctx: Context | None = None, **fields: Any) -> Any:
        answers = self.grouped(ask(*texts, **fields), ctx or context())
        task = asyncio.create_task(outcome(answers))
        self.tasks.append(task)
        return task

    @property
    def asked(self) -> list[tuple[str | tuple[int, ...], ...]]:
        """The texts of the calls that the upstream got."""
        return [call.inputs for call in self.up.calls if isinstance(call, EmbedCall)]

    async def end(self) -> None:
        """Answer everything."""
        await self.up.answer_all()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        assert self.grouped._lanes == {}
        assert self.grouped._tasks == set()


def given(task: Any) -> Embeddings:
    (answer,), error = task.result()
    assert error is None
    assert isinstance(answer, Embeddings)
    return answer


def failed(task: Any) -> ServerError:
    answers, error = task.result()
    assert answers == []
    assert isinstance(error, ServerError)
    return error
