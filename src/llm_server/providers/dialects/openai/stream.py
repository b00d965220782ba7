"""Streamed answers of OpenAI's dialect: chunks, then ``[DONE]``."""

from collections.abc import Iterable

from msgspec import DecodeError, Raw, json

from llm_server.contract import (
    Chunk,
    Event,
    Finish,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolDelta,
)
from llm_server.providers.dialects import unmodelled
from llm_server.providers.dialects.failures import truncated
from llm_server.providers.dialects.openai import shapes
from llm_server.providers.dialects.openai.response import (
    ANSWER,
    arguments,
    finish,
    logprobs,
    pieces,
    read,
    reasoning,
    refuse_error,
    usage,
)
from llm_server.wire.sse import Parser, ServerSentEvent

DONE = b"[DONE]"
_TEXT = json.Decoder(shapes.TextChunk).decode


class OpenAIStream:
    """Decodes one streamed answer. It is whole once every choice that began has finished.

    ``framed``: whether chunks carry their frames, for a caller of the same dialect.
    """

    def __init__(self, *, framed: bool) -> None:
        self._framed = framed
        self._parser = Parser()
        self._started = False
        self._numbered = True
        self._saying = False
        self._choices: dict[int, _Choice] = {}

    def feed(self, data: bytes) -> Iterable[Chunk]:
        """Yield the chunks that ``data`` completes.

        Raises:
            ServerError: an in-band error as its kind; ``UPSTREAM_INVALID`` for garbage.
        """
        parsed = self._parser.feed(data)
        if len(parsed) == 1 and (chunk := self._plain(parsed[0])):
            return (chunk,)
        return self._chunks(parsed)

    def end(self) -> Iterable[Chunk]:
        """Yield what was held back; ``UPSTREAM_TRUNCATED`` when no choice began or one never finished."""
        yield from self._chunks(self._parser.end())
        if not self._choices or not all(choice.finished for choice in self._choices.values()):
            raise truncated()

    def _chunks(self, parsed: Iterable[ServerSentEvent]) -> Iterable[Chunk]:
        for event in parsed:
            if event.data.strip() == DONE:
                continue  # the caller's own dialect writes its end
            frame = event.raw if self._framed else b""
            if event.data:
                yield self._plain(event) or self._chunk(event, frame)
            elif frame:
                yield Chunk((), frame)

    def _plain(self, event: ServerSentEvent) -> Chunk | None:
        """Return what almost every event of a stream is, more text of a choice that has begun, or nothing.

        It says nothing else than the rest of this class would, at a third of the time.
        """
        if not self._saying or event.event:
            return None
        self._saying = False
        try:
            (choice,) = _TEXT(event.data).choices
        except (DecodeError, UnicodeDecodeError, RecursionError, ValueError):
            return None  # says more, or is garbage
        known = self._choices.get(choice.index)
        if known is None or known.text is None or not choice.delta.content:
            return None
        self._saying = True
        frame = event.raw if self._framed and self._numbered else b""
        return Chunk((TextDelta(choice.delta.content, known.text, choice.index),), frame)

    def _chunk(self, event: ServerSentEvent, frame: bytes) -> Chunk:
        events = tuple(self._events(event))
        self._saying = len(events) == 1 and type(events[0]) is TextDelta
        # OpenAI's own SDK fails on a call without a number: from there on all is written anew.
        self._numbered = all(choice.numbered for choice in self._choices.values())
        return Chunk(events, frame if self._numbered else b"")

    def _events(self, event: ServerSentEvent) -> Iterable[Event]:
        answer = read(event.data, ANSWER)
        refuse_error(answer, event.data)
        if event.event not in {"", "message"}:
            unmodelled.note("openai.event", [event.event])
        if not self._started and answer.choices:
            self._started = True
            yield Started(id=answer.id or "", model=answer.model or "", created=int(answer.created or 0))
        for choice in answer.choices or ():
            index = choice.index or 0
            yield from self._choices.setdefault(index, _Choice(index)).events(choice)
        if told := answer.usage or (answer.x_groq and answer.x_groq.usage):
            yield usage(told)


class _Choice:
    """One choice while it arrives: which part each piece belongs to, numbered as they first appear."""

    def __init__(self, index: int) -> None:
        self._index = index
        self._parts: dict[object, int] = {}
        self._calls = 0
        self.numbered = True
        self.finished = False
        self.text: int | None = None
        """The part that its text is."""

    def events(self, choice: shapes.Choice) -> Iterable[Event]:
        delta = choice.delta or choice.message or shapes.Message(content=choice.text)
        if thought := reasoning(delta):
            yield ReasoningDelta(thought, self._part("reasoning"), self._index)
        yield from self._said(delta, choice)
        if delta.refusal:
            yield RefusalDelta(delta.refusal, self._part("refusal"), self._index)
        for call in delta.tool_calls or ():
            yield self._call(call)
        if choice.finish_reason and not self.finished:
            self.finished = True
            yield Finish(finish(choice.finish_reason, called=self._calls > 0), self._index)

    def _said(self, delta: shapes.Message, choice: shapes.Choice) -> Iterable[Event]:
        probable = logprobs(choice)
        if isinstance(delta.content, str) and delta.content:
            yield TextDelta(delta.content, self._part("text"), self._index, probable)
            return
        for is_thought, text in pieces(delta.content):
            if is_thought:
                yield ReasoningDelta(text, self._part("reasoning"), self._index)
            else:
                yield TextDelta(text, self._part("text"), self._index, probable)
                probable = Raw(b"")
        if bytes(probable):
            # A token that is part of a character has no text yet, but a probability.
            yield TextDelta("", self._part("text"), self._index, probable)

    def _call(self, call: shapes.ToolCall) -> ToolDelta:
        """Return a piece of a call; servers that do not number calls send each of them whole, with an id."""
        self.numbered = self.numbered and call.index is not None
        number = call.index if call.index is not None else call.id or self._calls
        key = ("call", number)
        function = call.function or shapes.Function()
        if key in self._parts:
            return ToolDelta(self._parts[key], arguments=arguments(function), index=self._index)
        self._calls += 1
        return ToolDelta(
            self._part(key), call.id or "", function.name or "", arguments(function), self._index
        )

    def _part(self, key: object) -> int:
        part = self._parts.setdefault(key, len(self._parts))
        if key == "text":
            self.text = part
        return part
