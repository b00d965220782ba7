"""The port that every served dialect implements: bytes of the caller in, bytes of the caller out."""

from collections.abc import Mapping
from typing import Protocol

from llm_server.contract import Call, Chunk, Completion, Embeddings, ServerError, TokenCount


class StreamEncoder(Protocol):
    """Writes one streamed answer. Stateful: one per request."""

    def encode(self, chunk: Chunk) -> bytes:
        """Return what to write for ``chunk``: its frame where it has one, else its events; may be empty."""
        ...

    def end(self) -> bytes:
        """Return the terminal event of a complete stream."""
        ...

    def error(self, error: ServerError) -> bytes:
        """Return the dialect's in-band error, after which the stream is closed."""
        ...


class Codec(Protocol):
    """One endpoint's dialect, as pure functions over bytes.

    ``dialect`` is the family (``Call.dialect``); ``keepalive`` is what may be sent into a silent stream, empty where
    the dialect's clients tolerate nothing.
    """

    dialect: str
    keepalive: bytes

    def decode(self, body: bytes, headers: Mapping[str, str]) -> Call:
        """Return the call that ``body`` asks for.

        Raises:
            ServerError: ``INVALID_REQUEST`` with ``param`` set to the field's path and a message that says what was
                expected and what came.
        """
        ...

    def whole(self, call: Call, answer: Completion | Embeddings | TokenCount) -> bytes:
        """Return a whole answer's body: the upstream's own where ``answer.raw`` has it, else an encoding."""
        ...

    def encoder(self, call: Call) -> StreamEncoder:
        """Return the writer of a streamed answer to ``call``."""
        ...

    def error(self, error: ServerError, request_id: str) -> bytes:
        """Return the body of an error answer in this dialect."""
        ...

    def unmodelled(self, body: bytes) -> tuple[str, ...]:
        """Return the paths in a caller's ``body`` that a translation cannot carry because nothing models them."""
        ...
