"""Cohere's streams: typed events, each adding to a block of content, the tool plan, or a tool call.

Source: https://docs.cohere.com/v2/docs/streaming and ``cohere`` 7.3, ``v2/types/v2chat_stream_response.py``.
Types not named here (citations, debug, ends of blocks) add nothing to an answer.
"""

from collections.abc import Iterable

from llm_server.contract import (
    Chunk,
    ErrorKind,
    Event,
    Finish,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolDelta,
)
from llm_server.providers.dialects import unmodelled
from llm_server.providers.dialects.cohere.response import finish, read, usage
from llm_server.providers.dialects.cohere.shapes import Call, Content, Delta, End, StreamEvent
from llm_server.providers.dialects.failures import Said, explain, truncated
from llm_server.wire.sse import Parser, ServerSentEvent

CONTENT = frozenset(
    {"content-start", "content-delta", "tool-plan-delta", "tool-call-start", "tool-call-delta"}
)
"""Events whose ``delta.message`` adds to the answer."""


SILENT = frozenset({"content-end", "citation-start", "citation-end", "debug"})
"""Events that are known and add nothing."""


class CohereStream:
    """Decodes one streamed answer, whole once ``message-end`` came. Cohere names no model: we do."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._parser = Parser()
        self._parts: dict[tuple[str, int], int] = {}
        self._argued: set[int] = set()
        self._ended = False

    def feed(self, data: bytes) -> Iterable[Chunk]:
        """Yield the chunks that ``data`` completes.

        Raises:
            ServerError: ``UPSTREAM_ERROR`` or ``UPSTREAM_TIMEOUT`` for an in-band error,
                ``UPSTREAM_INVALID`` for garbage.
        """
        return self._chunks(self._parser.feed(data))

    def end(self) -> Iterable[Chunk]:
        """Yield what was held back; ``UPSTREAM_TRUNCATED`` when ``message-end`` did not come."""
        yield from self._chunks(self._parser.end())
        if not self._ended:
            raise truncated()

    def _chunks(self, events: list[ServerSentEvent]) -> Iterable[Chunk]:
        for event in events:
            if event.data in {b"", b"[DONE]"}:
                continue
            chunk = Chunk(self._read(read(event.data, StreamEvent)))
            if chunk.events:
                yield chunk

    def _read(self, event: StreamEvent) -> tuple[Event, ...]:
        if event.type == "message-start":
            return (Started(id=event.id or "", model=self._model),)
        if event.type in CONTENT:
            return self._more(event.index or 0, read(event.delta, Delta))
        if event.type == "tool-call-end":
            return self._closed_call(event.index or 0)
        if event.type == "message-end":
            return self._end(read(event.delta, End))
        if event.message is not None and event.type in {"", "error"}:
            raise explain(ErrorKind.UPSTREAM_ERROR, 200, Said(message=event.message))
        if event.type not in SILENT:
            unmodelled.note("cohere.event", [event.type])
        return ()

    def _more(self, index: int, delta: Delta) -> tuple[Event, ...]:
        message = delta.message
        if message.tool_calls:
            return (self._call(index, message.tool_calls),)
        if message.tool_plan:
            return (TextDelta(message.tool_plan, self._part("plan", 0)),)
        return self._content(index, message.content) if message.content else ()

    def _content(self, index: int, content: Content) -> tuple[Event, ...]:
        if content.thinking:
            return (ReasoningDelta(content.thinking, self._part("content", index)),)
        return (TextDelta(content.text, self._part("content", index)),) if content.text else ()

    def _call(self, index: int, call: Call) -> ToolDelta:
        arguments = call.function.arguments or ""
        if arguments:
            self._argued.add(index)
        return ToolDelta(self._part("call", index), call.id or "", call.function.name or "", arguments)

    def _closed_call(self, index: int) -> tuple[Event, ...]:
        """A call to which no arguments came has none: an empty object, not empty text."""
        if index in self._argued or ("call", index) not in self._parts:
            return ()
        return (ToolDelta(self._part("call", index), arguments="{}"),)

    def _end(self, end: End) -> tuple[Event, ...]:
        reason = finish(end.finish_reason, end.error or "")
        self._ended = True
        return (Finish(reason), usage(end.usage))

    def _part(self, kind: str, index: int) -> int:
        """Return our number of a block: Cohere counts content and calls apart, we count all together."""
        return self._parts.setdefault((kind, index), len(self._parts))
