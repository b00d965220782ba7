"""Gemini's streams (``?alt=sse``): each event is a ``GenerateContentResponse`` or an error."""

from collections.abc import Iterable

from msgspec import DecodeError, ValidationError, convert, json

from llm_server.contract import Chunk, ErrorKind, ServerError
from llm_server.providers.dialects.gemini.errors import in_band
from llm_server.providers.dialects.gemini.response import Narrator, garbage
from llm_server.providers.dialects.gemini.shapes import Answer
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
                :meth:`~llm_server.providers.dialects.gemini.response.Narrator.tell` raises.
        """
        return self._chunks(self._parser.feed(data))

    def end(self) -> Iterable[Chunk]:
        """Yield what was held back; ``UPSTREAM_TRUNCATED`` when a candidate is unfinished or none came."""
        yield from self._chunks(self._parser.end())
        if not self._narrator.finished:
            raise ServerError(ErrorKind.UPSTREAM_TRUNCATED, "The provider's stream ended too early.")

    def _chunks(self, events: list[ServerSentEvent]) -> Iterable[Chunk]:
        for event in events:
            if event.data:
                yield Chunk(self._narrator.tell(_answer(event.data)))


def _answer(data: bytes) -> Answer:
    try:
        payload = json.decode(data)
        error = in_band(payload)
        if error is None:
            return convert(payload, Answer)
    except (DecodeError, ValidationError, UnicodeDecodeError) as broken:
        raise garbage(broken) from broken
    raise error
