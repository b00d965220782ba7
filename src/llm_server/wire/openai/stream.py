"""Streamed answers in OpenAI's form: chunks, then usage if asked for, then ``[DONE]``."""

import time
from collections.abc import Sequence

import msgspec
from msgspec import UNSET, Struct

from llm_server.contract import (
    ChatCall,
    Chunk,
    Event,
    Finish,
    ReasoningDelta,
    RefusalDelta,
    ServerError,
    Started,
    TextCall,
    TextDelta,
    ToolDelta,
    Usage,
)
from llm_server.wire.openai import answers as wire
from llm_server.wire.openai.errors import encode_error
from llm_server.wire.openai.response import FINISH, answer_id, usage_body
from llm_server.wire.sse import frame

DONE = b"data: [DONE]\n\n"

_INTRODUCTION = wire.Saying(role="assistant", content="")
_encode = msgspec.json.Encoder().encode


class _Head(Struct):
    """The fields that every chunk of a stream begins with."""

    id: str
    object: str
    created: int
    model: str


def _index(event: Event) -> int:
    """Return the choice that ``event`` is about; the start of an answer is told in the first."""
    return getattr(event, "index", 0)


class Stream:
    """Writes one stream. Subclasses say what a choice looks like.

    Follows the events of passed-on frames too, so that what is encoded after them continues the same answer.
    """

    object = ""
    prefix = ""

    def __init__(self, call: ChatCall | TextCall) -> None:
        self._model = call.model
        self._include_usage = call.include_usage
        self._tail = b',"usage":null}\n\n' if call.include_usage else b"}\n\n"
        self._head = b""
        self._usage: Usage | None = None

    def encode(self, chunk: Chunk) -> bytes:
        """Return what to write for ``chunk``: its frame, or one server-sent event for each of its events."""
        if chunk.frame:
            return self._passed_on(chunk)
        if len(chunk.events) == 1:
            return self._written(chunk.events[0])
        return b"".join(map(self._written, chunk.events))

    def end(self) -> bytes:
        """Return the usage that was asked for and not yet written, and the terminal event."""
        if self._usage is None or not self._include_usage:
            return DONE
        usage = _encode(usage_body(self._usage))
        return b'%b[],"usage":%b}\n\n%b' % (self._start(), usage, DONE)

    def error(self, error: ServerError) -> bytes:
        """Return ``error`` as OpenAI's clients expect it in a stream."""
        return frame(encode_error(error))

    def _passed_on(self, chunk: Chunk) -> bytes:
        only_usage = bool(chunk.events)
        for event in chunk.events:
            if type(event) is Usage:
                self._usage = None  # the frame itself tells it, or nobody wants to know
                continue
            only_usage = False
            if type(event) is Started:
                self._start(event, told=True)
            self._follow(event)
        return b"" if only_usage and not self._include_usage else chunk.frame

    def _written(self, event: Event) -> bytes:
        if type(event) is Usage:
            self._usage = event  # OpenAI tells usage last, whenever the upstream did
            return b""
        if type(event) is Started:
            self._start(event)
        return b"".join(
            [b"%b%b%b" % (self._start(), _encode([choice]), self._tail) for choice in self._choices(event)]
        )

    def _start(self, started: Started | None = None, *, told: bool = False) -> bytes:
        """Return how every event begins, up to the choices; made once, from ``started`` if known by then.

        The identifier that a frame has already ``told`` is kept, whatever its form.
        """
        if not self._head:
            started = started or Started()
            head = _Head(
                (told and started.id) or answer_id(self.prefix, started.id),
                self.object,
                started.created or int(time.time()),
                started.model or self._model,
            )
            self._head = b'data: %b,"choices":' % _encode(head)[:-1]
        return self._head

    def _choices(self, event: Event) -> Sequence[wire.ChatChoice | wire.TextChoice]:
        """Return ``event`` as the choices of one chunk each; none where this form cannot say it."""
        raise NotImplementedError

    def _follow(self, event: Event) -> None:
        """Note an event that a frame has already told."""
        raise NotImplementedError


class ChatStream(Stream):
    """Writes a streamed chat answer."""

    object = "chat.completion.chunk"
    prefix = "chatcmpl"

    def __init__(self, call: ChatCall) -> None:
        super().__init__(call)
        self._introduced: set[int] = set()
        self._tools: dict[tuple[int, int], int] = {}

    def _choices(self, event: Event) -> Sequence[wire.ChatChoice]:
        """A choice is introduced by a chunk of its own, as OpenAI does; its SDK counts on it."""
        index = _index(event)
        said = self._said(event)
        nothing = not said and type(event) is not Started
        if nothing or index in self._introduced:
            return said
        self._introduced.add(index)
        return [wire.ChatChoice(index=index, delta=_INTRODUCTION), *said]

    def _said(self, event: Event) -> list[wire.ChatChoice]:
        match event:
            case TextDelta():
                logprobs = event.logprobs if bytes(event.logprobs) else wire.NULL
                delta = wire.Saying(content=event.text)
                return [wire.ChatChoice(index=event.index, delta=delta, logprobs=logprobs)]
            case ToolDelta():
                delta = wire.Saying(tool_calls=[self._tool(event)])
            case ReasoningDelta(text=text) if text:
                delta = wire.Saying(reasoning_content=text)
            case RefusalDelta():
                delta = wire.Saying(refusal=event.text)
            case Finish():
                reason = FINISH[event.reason]
                return [wire.ChatChoice(index=event.index, delta=wire.Saying(), finish_reason=reason)]
            case _:
                return []  # an introduction alone; or a signature, which is proof for the upstream alone
        return [wire.ChatChoice(index=event.index, delta=delta)]

    def _tool(self, event: ToolDelta) -> wire.CalledTool:
        function = wire.CalledFunction(name=event.name or UNSET, arguments=event.arguments)
        known = (event.index, event.part) in self._tools
        number = self._number(event)
        if known:
            return wire.CalledTool(index=number, function=function)
        return wire.CalledTool(index=number, id=event.id, type="function", function=function)

    def _number(self, event: ToolDelta) -> int:
        """Return the place of a tool call among those of its choice."""
        before = sum(index == event.index for index, _ in self._tools)
        return self._tools.setdefault((event.index, event.part), before)

    def _follow(self, event: Event) -> None:
        if isinstance(event, ToolDelta):
            self._number(event)
        self._introduced.add(_index(event))


class TextStream(Stream):
    """Writes a streamed completions answer, which has room for text alone."""

    object = "text_completion"
    prefix = "cmpl"

    def _choices(self, event: Event) -> Sequence[wire.TextChoice]:
        match event:
            case TextDelta():
                logprobs = event.logprobs if bytes(event.logprobs) else wire.NULL
                return [wire.TextChoice(text=event.text, index=event.index, logprobs=logprobs)]
            case Finish():
                return [wire.TextChoice(index=event.index, finish_reason=FINISH[event.reason])]
        return []

    def _follow(self, event: Event) -> None:
        """Nothing to note: text has no parts to count."""
