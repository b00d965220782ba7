"""Streamed answers in Anthropic's form: a message opens, its blocks open, grow and close, it closes.

The order of events: https://platform.claude.com/docs/en/build-with-claude/streaming#event-types.
"""

import msgspec
from msgspec import Raw

from llm_server.contract import (
    ChatCall,
    Chunk,
    Event,
    Finish,
    ReasoningDelta,
    RefusalDelta,
    ServerError,
    Started,
    TextDelta,
    ToolDelta,
    Usage,
)
from llm_server.wire.anthropic import answers as wire
from llm_server.wire.anthropic.errors import encode_error
from llm_server.wire.anthropic.response import answer_id, stop_reason, usage_body
from llm_server.wire.sse import frame

STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'

_Delta = TextDelta | ReasoningDelta | ToolDelta | RefusalDelta
_DELTAS = (TextDelta, ReasoningDelta, ToolDelta, RefusalDelta)
_OPENED = b"event: content_block_start"
_CLOSED = b"event: content_block_stop"
_NO_INPUT = Raw(b"{}")
_encode = msgspec.json.Encoder().encode


def _written(event: wire.StreamEvent) -> bytes:
    return frame(_encode(event), event.type)


class _Blocks:
    """Which blocks a stream has opened, as their numbers on the wire, by the number of the part."""

    def __init__(self) -> None:
        self.numbers: dict[int, int] = {}
        self.open: int | None = None
        self._count = 0
        self._unclaimed: list[int] = []

    def number(self, part: int) -> int:
        """Return the block of ``part``, which is opened if it is new."""
        if part not in self.numbers:
            self.open = self.numbers[part] = self._unclaimed.pop(0) if self._unclaimed else self._opened()
        return self.numbers[part]

    def claimed(self, part: int) -> bool:
        """Whether ``part`` has a block: its own, or the open one whose frame did not say whose it is."""
        if part not in self.numbers and self._unclaimed and self.open == self._unclaimed[-1]:
            self.numbers[part] = self._unclaimed.pop()
        return part in self.numbers

    def _opened(self) -> int:
        self._count += 1
        return self._count - 1

    def follow(self, told: bytes, parts: list[int]) -> None:
        """Note what a passed-on frame did: blocks that it opens, parts that it tells, the last one closed.

        A block may be opened in one frame and named by its first delta in a later one, or never (an opaque
        block).
        """
        for _ in range(told.count(_OPENED)):
            self.open = self._opened()
            self._unclaimed.append(self.open)
        for part in parts:
            self.number(part)
        if told.rfind(_CLOSED) > told.rfind(_OPENED):
            self.open = None
            self._unclaimed.clear()


class MessageStream:
    """Writes a streamed answer. It has room for the first choice only.

    Follows the events of passed-on frames too, so that what is encoded after them continues the same answer.
    The end of the message is held back until :meth:`end`, because other upstreams tell usage after the finish
    reason.
    """

    def __init__(self, call: ChatCall) -> None:
        self._model = call.model
        self._started = False
        self._blocks = _Blocks()
        self._refused = False
        self._usage = Usage()
        self._finish: Finish | None = None

    def encode(self, chunk: Chunk) -> bytes:
        """Return what to write for ``chunk``: its frame, or the server-sent events that say its events."""
        for event in chunk.events:
            if type(event) is Usage:
                self._usage = event
        if chunk.frame:
            self._follow(chunk)
            return chunk.frame
        return b"".join([self._said(event) for event in chunk.events])

    def end(self) -> bytes:
        """Return the end of the message, unless a frame told it, and the terminal event."""
        closed = self._close()
        if self._finish is None:
            return closed + STOP
        finish = self._finish
        delta = wire.DeltaBody(
            stop_reason=stop_reason(finish.reason, finish.stop_sequence, refused=self._refused),
            stop_sequence=finish.stop_sequence or None,
        )
        event = wire.StreamEvent(type="message_delta", delta=delta, usage=usage_body(self._usage))
        return closed + _written(event) + STOP

    def error(self, error: ServerError) -> bytes:
        """Return ``error`` as Anthropic's clients expect it in a stream."""
        return frame(encode_error(error), "error")

    def _follow(self, chunk: Chunk) -> None:
        parts = []
        for event in chunk.events:
            if isinstance(event, _DELTAS):
                parts.append(event.part)
            elif isinstance(event, Started):
                self._started = True
            elif isinstance(event, Finish):
                self._finish = None
        self._blocks.follow(chunk.frame, parts)

    def _said(self, event: Event) -> bytes:
        if isinstance(event, Started):
            return self._start(event)
        if isinstance(event, Usage) or event.index:
            return b""
        started = self._start(Started())
        if isinstance(event, _DELTAS):
            return started + self._grown(event)
        self._finish = event
        return started + self._close()

    def _start(self, started: Started) -> bytes:
        if self._started:
            return b""
        self._started = True
        message = wire.MessageBody(
            id=answer_id(started.id),
            type="message",
            role="assistant",
            model=started.model or self._model,
            content=[],
            stop_reason=None,
            stop_sequence=None,
            usage=usage_body(self._usage),
        )
        return _written(wire.StreamEvent(type="message_start", message=message))

    def _close(self) -> bytes:
        number, self._blocks.open = self._blocks.open, None
        return b"" if number is None else _written(wire.StreamEvent(type="content_block_stop", index=number))

    def _grown(self, event: _Delta) -> bytes:
        """Return ``event`` as a delta of its block; a new one opens first, after the one before is closed."""
        deltas = _deltas(event)
        opened = b""
        if not self._blocks.claimed(event.part):
            if not deltas and not isinstance(event, ToolDelta) and not _redacted(event):
                return b""  # nothing said yet: other dialects begin with an empty text, whatever follows
            self._refused = self._refused or isinstance(event, RefusalDelta)
            closed = self._close()
            number = self._blocks.number(event.part)
            block = wire.StreamEvent(type="content_block_start", index=number, content_block=_block(event))
            opened = closed + _written(block)
        number = self._blocks.number(event.part)
        events = [wire.StreamEvent(type="content_block_delta", index=number, delta=delta) for delta in deltas]
        return opened + b"".join(map(_written, events))


def _redacted(event: _Delta) -> bool:
    return isinstance(event, ReasoningDelta) and event.redacted


def _block(event: _Delta) -> wire.Block:
    """Return the block that ``event`` opens, still empty but for what comes at once."""
    match event:
        case ToolDelta():
            return wire.Block(type="tool_use", id=event.id, name=event.name, input=_NO_INPUT)
        case ReasoningDelta(redacted=True):
            return wire.Block(type="redacted_thinking", data=event.signature)
        case ReasoningDelta():
            return wire.Block(type="thinking", thinking="", signature="")
    return wire.Block(type="text", text="")


def _deltas(event: _Delta) -> list[wire.DeltaBody]:
    """Return what ``event`` adds to its block."""
    deltas = []
    match event:
        case TextDelta() | RefusalDelta():
            if event.text:
                deltas.append(wire.DeltaBody(type="text_delta", text=event.text))
        case ToolDelta():
            if event.arguments:
                deltas.append(wire.DeltaBody(type="input_json_delta", partial_json=event.arguments))
        case ReasoningDelta(redacted=False):
            if event.text:
                deltas.append(wire.DeltaBody(type="thinking_delta", thinking=event.text))
            if event.signature:
                deltas.append(wire.DeltaBody(type="signature_delta", signature=event.signature))
    return deltas
