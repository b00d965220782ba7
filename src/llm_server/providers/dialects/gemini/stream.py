"""Gemini's streams (``?alt=sse``): each event is a ``GenerateContentResponse`` or an error."""

from collections.abc import Iterable

from llm_server.contract import Chunk
from llm_server.providers.dialects.failures import truncated
from llm_server.providers.dialects.gemini.narration import Narrator
from llm_server.providers.dialects.gemini.response import read
from llm_server.wire.sse import Parser, ServerSentEvent


class GeminiStream:
    """Decodes one streamed answer. It has no end marker: it is whole once every candidate has finished."""

    def __init__(self) -> None:
        self._parser = Parser()
        self._narrator = Narrator()

    def feed(self, data: bytes) -> Iterable[Chunk]:
        """Yield the chunks that ``data`` completes.

        Raises:
            ServerError: the kind of an in-band error, ``UPSTREAM_INVALID`` for garbage, and what
                :meth:`~llm_server.providers.dialects.gemini.narration.Narrator.tell` raises.
        """
        return self._chunks(self._parser.feed(data))

    def end(self) -> Iterable[Chunk]:
        """Yield what was held back; ``UPSTREAM_TRUNCATED`` when a candidate is unfinished or none came."""
        yield from self._chunks(self._parser.end())
        if not self._narrator.finished:
            raise truncated()

    def _chunks(self, events: list[ServerSentEvent]) -> Iterable[Chunk]:
        for event in events:
            if event.data:
                yield Chunk(self._narrator.tell(read(event.data)))
