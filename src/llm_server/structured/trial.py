"""One method tried on one call: ask, judge, ask again."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Literal

import msgspec
from msgspec import Struct

from llm_server.contract import (
    Answer,
    ChatCall,
    Choice,
    Chunk,
    Completion,
    Context,
    ErrorKind,
    Events,
    Provider,
    ServerError,
    StructuredNote,
    Text,
    ToolCall,
    Usage,
    fold,
    unfold,
)
from llm_server.contract.errors import Block
from llm_server.structured.config import StructuredConfig
from llm_server.structured.judging import Judging, Verdict
from llm_server.structured.methods import Method
from llm_server.structured.repair import Allowance, repairing
from llm_server.structured.streaming import Passing

LONG = 64 * 1024
"""Characters of an answer that take some milliseconds to judge: from here on it is done in a thread."""


class Terms(Struct, frozen=True, eq=False):
    """How an answer is asked for, and who judges it; shared by requests."""

    method: Method
    judge: Judging
    config: StructuredConfig


class Trial:
    """Asks one model in one way until its answer is valid, or no more attempts are allowed.

    Where a stream :attr:`passes_on`, what :meth:`opened` yields is given to :meth:`told`. In any case
    :meth:`rest` comes last.

    Attributes:
        answered: whether the model gave an answer, good or bad: its provider took the request.
    """

    def __init__(self, ask: Provider, terms: Terms, call: ChatCall, ctx: Context) -> None:
        method = terms.method
        self._ask = ask
        self._terms = terms
        self._call = call
        self._prepared = method.prepare(call)
        self._ctx = ctx
        self._allowance = Allowance(terms.config, ctx)
        self._note = ctx.structured = StructuredNote(
            method=method.name, guarantee=method.guarantee, dropped=method.dropped
        )
        self._as_told: list[Chunk] = []
        """The chunks of a streamed answer, as long as they tell the answer that the caller gets."""
        self._passing: Passing | None = None
        self._began_s = 0.0
        self.answered = False

    @property
    def passes_on(self) -> bool:
        """Whether a stream goes on while it comes: as the caller says, else if the model cannot go wrong.

        Calls that the model is free to make may still be held.
        """
        if not self._call.stream:
            return False
        surely = self._terms.method.constrained and self._call.stream_structured is None
        return surely or self._terms.judge.free or self._wanted == "partial"

    @property
    def _wanted(self) -> Literal["partial", "validated"]:
        return self._call.stream_structured or self._terms.config.stream

    def opened(self) -> Events:
        """Return the model's own answer: what it yields is to be given to :meth:`told`."""
        judge = self._terms.judge
        self._passing = Passing(judge, hold_calls=judge.checks_calls and self._wanted == "validated")
        self._began_s = self._allowance.begun()
        return self._ask(self._prepared, self._ctx)

    def told(self, answer: Answer) -> Sequence[Chunk]:
        """Return what the caller is told at ``answer``.

        That is nothing before the first content, and nothing at all where the whole answer turns out to be
        wrong with it: then another can still be given in its place.
        """
        self.answered = True
        assert self._passing is not None
        return self._passing.feed(answer)

    async def rest(self) -> Sequence[Answer]:
        """Return what the caller is told at the end: the whole answer, if none of it was passed on.

        Raises:
            ServerError: ``OUTPUT_INVALID``, if no attempt was valid; what the provider raises.
        """
        try:
            completion = await (self._settled() if self._passing is None else self._instead(self._passing))
        except BaseException:
            self._ctx.waste(self._allowance.spent)
            raise
        if completion is None:
            return ()
        return (self._as_told or unfold(completion)) if self._call.stream else (completion,)

    async def _instead(self, passing: Passing) -> Completion | None:
        """Return an answer that is asked for anew, in the place of one of which nothing was said."""
        self._allowance.ended(self._began_s, passing.usage)
        if passing.broken is None:
            self._ended(passing.verdicts)
            return None
        if passing.said:
            self._allowance.spent = passing.untold
            raise self._failed(passing.broken)
        verdict = await self._until_valid(passing.broken, 1)
        self._ended([verdict])
        self._as_told = []
        return Completion(model=self._call.model, choices=(verdict.choice,), usage=self._allowance.spent)

    async def _settled(self) -> Completion:
        completion, attempts = await self._first()
        verdicts: list[Verdict] = []
        choices: tuple[Choice, ...] = ()
        untouched = True
        for choice in completion.choices:
            verdict = await self._judged(choice)
            if verdict.outcome == "invalid":
                verdict = await self._until_valid(verdict, attempts)
            verdicts.append(verdict)
            choices += (_numbered(verdict.choice, choice.index),)
            untouched = untouched and verdict.choice is choice
        self._ended(verdicts)
        if untouched and self._allowance.attempts == 1:
            return completion
        self._as_told = []
        usage = self._allowance.spent
        return msgspec.structs.replace(completion, choices=choices, usage=usage, raw=b"")

    async def _first(self) -> tuple[Completion, int]:
        """Ask until there is an answer: some providers judge their models' answers themselves, and fail."""
        attempts = 1
        while True:
            try:
                return await self._asked(self._prepared), attempts
            except ServerError as error:
                if error.kind is not ErrorKind.UPSTREAM_INVALID or not self._allowance.allows(attempts):
                    raise
            attempts += 1

    async def _until_valid(self, verdict: Verdict, attempts: int) -> Verdict:
        while verdict.outcome == "invalid":
            self._note.problems, self._note.raw_text = verdict.problems, verdict.raw_text
            if not self._allowance.allows(attempts):
                raise self._failed(verdict)
            attempts += 1
            verdict = await self._repaired(verdict)
        return verdict

    async def _repaired(self, verdict: Verdict) -> Verdict:
        """Return the verdict on a new answer, or ``verdict`` again where there was none."""
        try:
            completion = await self._asked(repairing(self._prepared, self._terms.method, verdict))
        except ServerError as error:
            if error.kind is ErrorKind.UPSTREAM_INVALID:
                return verdict
            if error.kind.block is Block.CALLER:  # of the turns that we added, not of the caller's
                raise self._failed(verdict) from None
            raise
        return await self._judged(completion.choices[0])

    async def _judged(self, choice: Choice) -> Verdict:
        """Return the verdict on ``choice``; a long one is judged in a thread, while others are served."""
        verdict = self._terms.judge.verdict
        return verdict(choice) if _length(choice) < LONG else await asyncio.to_thread(verdict, choice)

    async def _asked(self, call: ChatCall) -> Completion:
        began_s, usage = self._allowance.begun(), Usage()
        self._note.attempts = self._allowance.attempts
        try:
            async with aclosing(self._ask(call, self._ctx)) as answers:
                got = [answer async for answer in answers]
            if got and isinstance(got[0], Completion):
                completion = got[0]
            else:
                self._as_told = [answer for answer in got if isinstance(answer, Chunk)]
                completion = fold(self._as_told)
            usage = completion.usage
            self.answered = True
        finally:
            self._allowance.ended(began_s, usage)
        return completion

    def _ended(self, verdicts: list[Verdict]) -> None:
        """Note how it ended: the worst of all choices tells."""
        telling = max(verdicts, key=_badness, default=None) if len(verdicts) != 1 else verdicts[0]
        if telling is None:
            return
        self._note.outcome, self._note.raw_text = telling.outcome, telling.raw_text
        if not telling.valid:
            self._note.problems = telling.problems

    def _failed(self, verdict: Verdict) -> ServerError:
        self._note.outcome = "invalid"
        self._note.problems, self._note.raw_text = verdict.problems, verdict.raw_text
        times = self._note.attempts
        after = f"after {times} attempts" if times > 1 else "at the only attempt"
        message = f"The model's answer is not what was demanded, {after}: {verdict.problems[0]}."
        error = ServerError(ErrorKind.OUTPUT_INVALID, message)
        return error.because(verdict.problems, verdict.raw_text).at(self._ask.name)


def _length(choice: Choice) -> int:
    """Return how many characters there are to judge."""
    calls = [len(part.arguments) for part in choice.parts if type(part) is ToolCall]
    return sum([len(part.text) for part in choice.parts if type(part) is Text], sum(calls))


def _badness(verdict: Verdict) -> int:
    return ("valid", "repaired").index(verdict.outcome) if verdict.valid else 2


def _numbered(choice: Choice, index: int) -> Choice:
    return choice if choice.index == index else msgspec.structs.replace(choice, index=index)
