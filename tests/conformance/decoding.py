"""What a dialect's stream decoder makes of bytes: pure, without a connection."""

from collections.abc import Iterable

from msgspec import Struct

from llm_server.contract import Call, Chunk, ErrorKind, ServerError
from tests.conformance.enrolled import Enrolled


class Decoded(Struct, frozen=True):
    """The chunks that came out, and the failure that they ended with, if they did."""

    chunks: tuple[Chunk, ...]
    failed: ErrorKind | None
    message: str = ""

    @property
    def frames(self) -> bytes:
        """All frames, joined."""
        return b"".join(chunk.frame for chunk in self.chunks)


def decode(who: Enrolled, call: Call, pieces: Iterable[bytes]) -> Decoded:
    """Feed ``pieces`` to a new decoder and close it, as the provider does."""
    decoder = who.dialect.decoder(call)
    chunks: list[Chunk] = []
    try:
        # One by one, so that the chunks before a failure count: a caller was sent them.
        for piece in pieces:
            for chunk in decoder.feed(piece):
                chunks.append(chunk)  # noqa: PERF402 - as above
        for chunk in decoder.end():
            chunks.append(chunk)  # noqa: PERF402 - as above
    except ServerError as error:
        return Decoded(tuple(chunks), error.kind, error.message)
    return Decoded(tuple(chunks), None)
