"""Ask the next target as well when the first is slow: the first with content wins, the other is given up.

Source: J. Dean and L. A. Barroso, "The Tail at Scale" (2013), hedged requests: sent after the 95th percentile
of the expected latency, they add some 5 % of load and cut the tail.
"""

import asyncio
from collections.abc import Callable
from contextlib import aclosing

import msgspec

from llm_server.contract import (
    Answer,
    Attempt,
    Chunk,
    Completion,
    Context,
    Events,
    ServerError,
    Target,
    Usage,
)
from llm_server.pipeline.attempts import Request, Timing, is_held
from llm_server.pipeline.ledger import Ledger
from llm_server.pipeline.trip import Trip

QUEUED = 16
"""Answers of an attempt that may wait to be passed on, until its upstream has to wait as well."""

Ask = Callable[[Request, Target, Context], Events]


async def hedged(request: Request, trip: Trip, ask: Ask, ledger: Ledger, timing: Timing) -> Events:
    """Yield the answers of ``trip.target``, or of the next target if that one has content sooner.

    The next is asked when the first has been silent for longer than most of its latest answers were, and the
    budget and the deadline allow. ``trip.target`` is the winner afterwards, its attempt the context's
    last.

    Raises:
        ServerError: the last failure, when both failed.
    """
    race = _Race(trip, request, ask, timing)
    try:
        first = race.enter(trip.target)
        after_s = _after_s(request, ledger, trip.target)
        if after_s is not None and not await _silent_no_longer(first, after_s, timing):
            beside = trip.beside(timing.clock())
            if beside is not None:
                race.enter(beside)
        winner = await race.won()
        for runner in race.runners:
            # Of whoever was given up it is known that it takes at least so long.
            ledger.waits(runner.target).add(timing.clock() - runner.attempt.started_s)
        await race.left_to(winner)
        async with aclosing(winner.answers()) as answers:
            async for answer in answers:
                yield answer
    finally:
        await race.over()


def _after_s(request: Request, ledger: Ledger, target: Target) -> float | None:
    """Return the seconds after which ``target`` is slow; ``None`` where that is not known."""
    policy = request.route.hedge
    usual_s = ledger.waits(target).percentile(policy.after_percentile) if policy else None
    return None if policy is None or usual_s is None else max(policy.min_s, usual_s)


async def _silent_no_longer(runner: "_Runner", within_s: float, timing: Timing) -> bool:
    """Wait until ``runner`` has content or has ended, but no longer; returns whether it has."""
    timer = asyncio.ensure_future(timing.sleep(within_s))
    try:
        await asyncio.wait((timer, runner.ready), return_when=asyncio.FIRST_COMPLETED)
    finally:
        timer.cancel()
        await asyncio.gather(timer, return_exceptions=True)
    return runner.ready.done()


class _Race:
    """The attempts of one hedged call: ``runners`` are those that are not closed yet."""

    def __init__(self, trip: Trip, request: Request, ask: Ask, timing: Timing) -> None:
        self._trip = trip
        self._request = request
        self._ask = ask
        self._timing = timing
        self.runners: list[_Runner] = []

    def enter(self, target: Target) -> "_Runner":
        """Begin an attempt at ``target``, with a context of its own: what two note at once would mix."""
        ctx = self._request.ctx
        own = msgspec.structs.replace(
            ctx, attempts=list(ctx.attempts), dropped=[], estimated=[], wasted=Usage()
        )
        runner = _Runner(self._ask(self._request, target, own), own, target)
        ctx.attempts.append(runner.attempt)
        self.runners.append(runner)
        return runner

    async def won(self) -> "_Runner":
        """Return the first attempt with content, or that ended well without; raises the last failure."""
        running = list(self.runners)
        while True:
            await asyncio.wait([each.ready for each in running], return_when=asyncio.FIRST_COMPLETED)
            for runner in [each for each in running if each.ready.done()]:
                self._trip.target = runner.target
                failure = runner.failure
                if failure is None:
                    self._decided(runner)
                    return runner
                running.remove(runner)
                if not running or not isinstance(failure, ServerError):
                    self._decided(runner)
                    raise failure
                runner.attempt.error = failure.kind
                now_s, chance = self._timing.clock(), self._timing.random()
                self._trip.noted(runner.attempt, runner.target, failure, now_s, chance)

    async def left_to(self, winner: "_Runner") -> None:
        """Close every attempt but the winner's; what the given up have cost is noted."""
        for runner in [each for each in self.runners if each is not winner]:
            runner.attempt.outrun = runner.failure is None
            await self._close(runner)
            if runner.attempt.outrun:
                runner.attempt.wasted += runner.used
                self._request.ctx.wasted += runner.used

    async def over(self) -> None:
        """Close every attempt."""
        for runner in tuple(self.runners):
            await self._close(runner)

    async def _close(self, runner: "_Runner") -> None:
        self.runners.remove(runner)
        await runner.close()
        if runner.attempt.ended_s is None:
            runner.attempt.ended_s = self._timing.clock()
        self._request.ctx.wasted += runner.ctx.wasted
        if runner.attempt is self._request.ctx.attempts[-1]:
            self._request.ctx.shared = runner.ctx.shared  # known at its end only

    def _decided(self, runner: "_Runner") -> None:
        """Let the request's context tell what ``runner`` noted, its attempt last."""
        ctx = self._request.ctx
        ctx.attempts.remove(runner.attempt)
        ctx.attempts.append(runner.attempt)
        ctx.dropped.extend(runner.ctx.dropped)
        ctx.estimated.extend(runner.ctx.estimated)
        ctx.structured = runner.ctx.structured


class _Runner:
    """One attempt in a task of its own, which is the only one to iterate its answers.

    Attributes:
        ready: done when it has content or has ended.
        failure: what ended it, if it failed.
        used: tokens that it told of so far.
    """

    def __init__(self, answers: Events, ctx: Context, target: Target) -> None:
        self.ctx = ctx
        self.target = target
        self.attempt: Attempt = ctx.attempts[-1]
        self.ready = asyncio.get_running_loop().create_future()
        self.failure: Exception | None = None
        self.used = Usage()
        self._early: list[Answer] = []
        self._queue: asyncio.Queue[Answer | None] = asyncio.Queue(QUEUED)
        self._task = asyncio.create_task(self._run(answers))

    async def answers(self) -> Events:
        """Yield the answers; raises what ended them."""
        for answer in self._early:
            yield answer
        while (answer_or_end := await self._queue.get()) is not None:
            yield answer_or_end
        if self.failure is not None:
            raise self.failure

    async def close(self) -> None:
        """End the attempt, down to its connection."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self, answers: Events) -> None:
        try:
            async with aclosing(answers):
                async for answer in answers:
                    self.used = _usage(answer) or self.used
                    await self._pass_on(answer)
        except Exception as failure:  # noqa: BLE001 - raised again by whoever takes the answers
            self.failure = failure
        self._are_ready()
        await self._queue.put(None)

    async def _pass_on(self, answer: Answer) -> None:
        if not self.ready.done() and is_held(answer, self._early):
            return
        self._are_ready()
        await self._queue.put(answer)

    def _are_ready(self) -> None:
        if not self.ready.done():
            self.ready.set_result(None)


def _usage(answer: Answer) -> Usage | None:
    if isinstance(answer, Chunk):
        return next((event for event in answer.events if isinstance(event, Usage)), None)
    return answer.usage if isinstance(answer, Completion) else None
