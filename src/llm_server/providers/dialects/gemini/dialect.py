"""The dialect as one object."""

from collections.abc import Mapping

from llm_server.contract import (
    Call,
    Completion,
    Embeddings,
    Facts,
    HttpRequest,
    ModelInfo,
    ServerError,
    StreamDecoder,
    TokenCount,
)
from llm_server.providers.dialects.gemini import errors, request, response
from llm_server.providers.dialects.gemini.stream import GeminiStream


class Gemini:
    """The dialect: see :class:`llm_server.contract.Dialect` for what each method promises."""

    name = "gemini"

    def encode(self, call: Call, facts: Facts) -> HttpRequest:
        """Return ``call`` as a request to generate, stream, count or embed."""
        return request.encode(call, facts)

    def decode(self, call: Call, body: bytes) -> Completion | Embeddings | TokenCount:
        """Return the whole answer in ``body``."""
        return response.decode(call, body)

    def glance(self, call: Call, body: bytes) -> Completion | None:  # noqa: ARG002 - the port's signature
        """Return nothing: every answer is read."""
        return None

    def decoder(self, call: Call) -> StreamDecoder:  # noqa: ARG002 - the port's signature; nothing of the call matters
        """Return a decoder for one streamed answer."""
        return GeminiStream()

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> ServerError:
        """Return what an error answer means."""
        return errors.decode_error(status, headers, body)

    def models_request(self) -> HttpRequest:
        """Return the request that lists models."""
        return request.models_request()

    def decode_models(self, body: bytes) -> tuple[ModelInfo, ...]:
        """Return the models of a list answer."""
        return response.decode_models(body)
