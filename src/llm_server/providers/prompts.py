"""Text calls to models that only chat: each prompt becomes a conversation of one turn.

Such a model answers a prompt instead of continuing it, so whoever asks this way is told: see ``NOTED``.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing

import msgspec

from llm_server.contract import (
    ChatCall,
    Chunk,
    Completion,
    ErrorKind,
    Event,
    Events,
    Facts,
    Message,
    Role,
    ServerError,
    Started,
    Text,
    TextCall,
    Usage,
)
from llm_server.contract.facts import needs_lacking, unsupported

Ask = Callable[[ChatCall], Events]

NOTED = "completions:chat"
"""What stands among the dropped names (``x-llm-server-dropped``) of a text call that was asked as a chat."""
MAX_PROMPTS = 64
"""Prompts of one call: each becomes a request of its own."""
AT_ONCE = 16
"""Prompts of one call that are asked at the same time: the others wait, and leave room for other calls."""
WAITING_CHUNKS = 16
"""Chunks that one prompt's stream may be ahead of the caller."""


def as_chats(call: TextCall, facts: Facts) -> tuple[ChatCall, ...]:
    """Return one chat call for each prompt of ``call``.

    Raises:
        ServerError: ``UNSUPPORTED`` for token ids, a suffix, echo or log probabilities, which have no place
            in a chat; ``INVALID_REQUEST`` for too many prompts.
    """
    # A provider that embeds token ids still cannot be told them in a chat.
    if lacking := needs_lacking(call, msgspec.structs.replace(facts, token_ids=False)):
        raise unsupported(call, {f"The model '{call.model}'": lacking})
    if len(call.prompts) > MAX_PROMPTS:
        raise ServerError(
            ErrorKind.INVALID_REQUEST,
            f"This model takes at most {MAX_PROMPTS} prompts at once.",
            param="prompt",
        )
    return tuple(
        ChatCall(
            model=call.model,
            stream=call.stream,
            messages=(Message(Role.USER, (Text(str(prompt)),)),),
            sampling=call.sampling,
            user=call.user,
        )
        for prompt in call.prompts
    )


async def answer(calls: tuple[ChatCall, ...], ask: Ask) -> Events:
    """Ask all ``calls``, ``AT_ONCE`` at a time, and answer as one: choices numbered through, usage added up.

    Raises:
        ServerError: the first failure of any; the others are given up.
    """
    if len(calls) > AT_ONCE:
        ask = _in_turn(ask)
    if not calls[0].stream:
        yield await _whole(calls, ask)
        return
    merged = _Merged(calls[0].sampling.n)
    async with aclosing(_interleaved(calls, ask)) as arrivals:
        async for at, chunk in arrivals:
            yield merged.chunk(at, chunk)


def _in_turn(ask: Ask) -> Ask:
    """Return ``ask`` for no more than ``AT_ONCE`` calls at a time."""
    places = asyncio.Semaphore(AT_ONCE)

    async def asked(call: ChatCall) -> Events:
        async with places, aclosing(ask(call)) as answers:
            async for one in answers:
                yield one

    return asked


async def _whole(calls: tuple[ChatCall, ...], ask: Ask) -> Completion:
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_completion(ask(call))) for call in calls]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    wholes = [task.result() for task in tasks]
    choices = [choice for whole in wholes for choice in whole.choices]
    return Completion(
        id=wholes[0].id,
        model=wholes[0].model,
        created=wholes[0].created,
        choices=tuple(msgspec.structs.replace(choice, index=at) for at, choice in enumerate(choices)),
        usage=_sum(whole.usage for whole in wholes),
    )


async def _completion(answers: Events) -> Completion:
    async with aclosing(answers):
        async for one in answers:
            if isinstance(one, Completion):
                return one
    raise ServerError(ErrorKind.UPSTREAM_INVALID, "The provider gave no answer.")


async def _interleaved(calls: tuple[ChatCall, ...], ask: Ask) -> AsyncGenerator[tuple[int, Chunk], None]:
    """Yield the chunks of all calls as they come, each with the number of its call."""
    arrivals: asyncio.Queue[tuple[int, Chunk | Exception | None]] = asyncio.Queue(WAITING_CHUNKS)
    tasks = [asyncio.create_task(_feed(arrivals, at, ask(call))) for at, call in enumerate(calls)]
    try:
        open_streams = len(tasks)
        while open_streams:
            at, arrived = await arrivals.get()
            if isinstance(arrived, Exception):
                raise arrived
            if arrived is None:
                open_streams -= 1
            else:
                yield at, arrived
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _feed(
    arrivals: "asyncio.Queue[tuple[int, Chunk | Exception | None]]", at: int, answers: Events
) -> None:
    end: Exception | None = None
    try:
        async with aclosing(answers):
            async for one in answers:
                if isinstance(one, Chunk):
                    await arrivals.put((at, one))
    except Exception as error:  # noqa: BLE001 - raised again by whoever reads the arrivals
        end = error
    await arrivals.put((at, end))


class _Merged:
    """Many streams as one."""

    def __init__(self, choices: int) -> None:
        self._choices = choices
        self._started = False
        self._used: dict[int, Usage] = {}

    def chunk(self, at: int, chunk: Chunk) -> Chunk:
        """Return a chunk of stream ``at`` as one of the merged stream."""
        return Chunk(tuple(told for event in chunk.events if (told := self._event(at, event)) is not None))

    def _event(self, at: int, event: Event) -> Event | None:
        match event:
            case Started():
                first, self._started = not self._started, True
                return event if first else None
            case Usage():
                self._used[at] = event
                return _sum(self._used.values())
            case _:
                return msgspec.structs.replace(event, index=at * self._choices + event.index)


def _sum(usages: Iterable[Usage]) -> Usage:
    told = tuple(usages)
    names = Usage.__struct_fields__
    return Usage(**{name: sum(getattr(usage, name) for usage in told) for name in names})
