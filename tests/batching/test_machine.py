"""Arrivals, answers, failures, leavings and time in any order: nothing is lost, mixed up or told twice."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from llm_server.batching import EmbeddingsConfig, Grouped
from llm_server.contract import Context, EmbedCall, Embeddings, ErrorKind, ServerError, Usage
from llm_server.testing import outcome
from tests.batching.upstream import BAD, ByHand, Gated, Heard, ask, context, is_bad, settle, vector_of

T = TypeVar("T")
MAX_WAIT_MS = 10.0
KINDS = st.sampled_from([{}, {"dimensions": 2}, {"base64": True}])


class Request:
    """A caller: what it asked, and how that goes."""

    def __init__(self, call: EmbedCall, ctx: Context, task: "asyncio.Task[Any]", at_s: float) -> None:
        self.call = call
        self.ctx = ctx
        self.task = task
        self.at_s = at_s
        self.left = False


class Groups(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = ByHand()
        self.up, self.heard = Gated(), Heard()
        config = EmbeddingsConfig(max_texts=6, max_wait_ms=MAX_WAIT_MS)
        self.grouped = Grouped(self.up, config, self.heard)
        self.requests: list[Request] = []
        self.failures = 0
        self.least = self.up.most
        self.names = iter(range(1_000_000))

    def run(self, doing: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(doing)

    @rule(kind=KINDS, texts=st.lists(st.booleans(), min_size=1, max_size=4), turns=st.integers(0, 3))
    def arrive(self, kind: dict[str, Any], texts: list[bool], turns: int) -> None:
        async def arriving() -> None:
            names = [f"{BAD if bad else 'fine'} {next(self.names)}" for bad in texts]
            call, ctx = ask(*names, **kind), context()
            task = asyncio.create_task(outcome(self.grouped(call, ctx)))
            self.requests.append(Request(call, ctx, task, self.loop.time()))
            await settle(turns)

        self.run(arriving())

    @precondition(lambda self: self.up.held)
    @rule(data=st.data(), fails=st.sampled_from([None, None, None, *ErrorKind]), turns=st.integers(0, 40))
    def answer(self, data: st.DataObject, fails: ErrorKind | None, turns: int) -> None:
        async def answering() -> None:
            at = data.draw(st.integers(0, len(self.up.held) - 1))
            self.failures += fails is not None
            self.up.answer(at, ServerError(fails, "scripted") if fails else None)
            await settle(turns)

        self.run(answering())

    @precondition(lambda self: any(not each.task.done() for each in self.requests))
    @rule(data=st.data(), turns=st.integers(0, 3))
    def leave(self, data: st.DataObject, turns: int) -> None:
        async def leaving() -> None:
            here = [each for each in self.requests if not each.task.done()]
            one = data.draw(st.sampled_from(here))
            one.left = True
            one.task.cancel()
            await settle(turns)

        self.run(leaving())

    @rule(most=st.integers(1, 8))
    def take_fewer(self, most: int) -> None:
        self.up.most = most
        self.least = min(self.least, most)

    @rule(milliseconds=st.integers(0, 25), turns=st.integers(1, 40))
    def pass_time(self, milliseconds: int, turns: int) -> None:
        self.loop.pass_time(milliseconds / 1000)
        self.run(settle(turns))

    @invariant()
    def what_is_answered_is_right(self) -> None:
        for each in self.requests:
            if not each.task.done() or each.task.cancelled():
                continue
            answers, error = each.task.result()
            if error is None:
                (answer,) = answers
                assert isinstance(answer, Embeddings)
                assert answer.vectors == tuple(map(vector_of, each.call.inputs))
                assert not any(map(is_bad, each.call.inputs))
            else:
                assert answers == []
                too_many = len(each.call.inputs) > self.least
                assert self.failures or too_many or any(map(is_bad, each.call.inputs))

    @invariant()
    def nobody_waits_longer_than_allowed(self) -> None:
        self.run(settle())
        asked = {text for call in self.up.calls if isinstance(call, EmbedCall) for text in call.inputs}
        late_s = self.loop.time() - MAX_WAIT_MS / 1000
        for each in self.requests:
            if not each.left and each.at_s < late_s:
                assert set(each.call.inputs) <= asked

    @invariant()
    def groups_are_not_too_large(self) -> None:
        assert max(self.heard.texts, default=0) <= 6

    def teardown(self) -> None:
        try:
            self.run(self.up.answer_all())
            assert all(each.task.done() for each in self.requests)
            self.what_is_answered_is_right()
            assert all(each.left for each in self.requests if each.task.cancelled())
            if not any(each.left for each in self.requests):
                answered = [answer for each in self.requests for answer in each.task.result()[0]]
                assert sum((answer.usage for answer in answered), Usage()) == sum(self.up.used, Usage())
            assert (self.grouped._lanes, self.grouped._tasks, self.up.open) == ({}, set(), 0)
            self.run(self.grouped.close())
        finally:
            self.loop.close()


TestGroups = Groups.TestCase
TestGroups.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
