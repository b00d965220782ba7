"""The port that every served dialect implements: bytes of the caller in, bytes of the caller out."""

from collections.abc import Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from msgspec import Struct

from llm_server.contract import (
    Call,
    Chunk,
    Completion,
    Embeddings,
    ErrorKind,
    ServerError,
    TokenCount,
)
from llm_server.wire.reading import Reader


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
    """One endpoint's dialect, as pure functions over bytes."""

    @property
    def dialect(self) -> str:
        """The family (``Call.dialect``)."""
        ...

    @property
    def keepalive(self) -> bytes:
        """What may be sent into a silent stream; empty where the dialect's clients tolerate nothing."""
        ...

    def decode(self, body: bytes, headers: Mapping[str, str]) -> Call:
        """Return the call that ``body`` asks for. ``headers`` have lower-case names.

        Raises:
            ServerError: ``INVALID_REQUEST`` with ``param`` set to the field's path and a message that says
            what
                was expected and what came.
        """
        ...

    def whole(self, call: Call, answer: Completion | Embeddings | TokenCount) -> bytes:
        """Return a whole answer's body: the upstream's own where ``answer.raw`` has it, else an encoding.

        ``call`` and ``answer`` must be what this endpoint reads and gives.
        """
        ...

    def encoder(self, call: Call) -> StreamEncoder:
        """Return the writer of a streamed answer to ``call``; ``UNSUPPORTED`` if there is none."""
        ...

    def error(self, error: ServerError, request_id: str) -> bytes:
        """Return the body of an error answer in this dialect."""
        ...

    def unmodelled(self, body: bytes) -> tuple[str, ...]:
        """Return the paths in a decodable ``body`` that no translation can carry, as nothing models them."""
        ...


C = TypeVar("C", bound=Call)
A = TypeVar("A", Completion, Embeddings, TokenCount)


class Endpoint(Struct, Generic[C, A], frozen=True, kw_only=True):
    """A codec made of functions, for calls of type ``C`` and answers of type ``A``."""

    dialect: str
    keepalive: bytes
    reader: Reader[Any]
    call: Callable[[bytes, Mapping[str, str]], C]
    answer: Callable[[C, A], bytes]
    failure: Callable[[ServerError, str], bytes]
    stream: Callable[[C], StreamEncoder] | None = None

    def decode(self, body: bytes, headers: Mapping[str, str]) -> Call:
        """See :meth:`Codec.decode`."""
        return self.call(body, headers)

    def whole(self, call: Any, answer: Any) -> bytes:
        """See :meth:`Codec.whole`."""
        return self.answer(call, answer)

    def encoder(self, call: Any) -> StreamEncoder:
        """See :meth:`Codec.encoder`."""
        if self.stream is None:
            raise ServerError(ErrorKind.UNSUPPORTED, "This endpoint does not stream.")
        return self.stream(call)

    def error(self, error: ServerError, request_id: str) -> bytes:
        """See :meth:`Codec.error`."""
        return self.failure(error, request_id)

    def unmodelled(self, body: bytes) -> tuple[str, ...]:
        """See :meth:`Codec.unmodelled`."""
        return self.reader.unmodelled(body)
