"""The dialect as one object."""

from collections.abc import Mapping

from llm_server.contract import (
    Call,
    Completion,
    Facts,
    HttpRequest,
    ModelInfo,
    ServerError,
    StreamDecoder,
    TokenCount,
)
from llm_server.providers.dialects.anthropic import errors, request, response
from llm_server.providers.dialects.anthropic.stream import AnthropicStream


class Anthropic:
    """The dialect: see :class:`llm_server.contract.Dialect` for what each method promises."""

    name = "anthropic"

    def encode(self, call: Call, facts: Facts) -> HttpRequest:
        """Return ``call`` as a request to answer or to count."""
        return request.encode(call, facts)

    def decode(self, call: Call, body: bytes) -> Completion | TokenCount:
        """Return the whole answer in ``body``."""
        return response.decode(call, body)

    def glance(self, call: Call, body: bytes) -> Completion | None:  # noqa: ARG002 - the port's signature
        """Return nothing: every answer is read."""
        return None

    def decoder(self, call: Call) -> StreamDecoder:
        """Return a decoder for one streamed answer; frames go only to callers of this dialect."""
        return AnthropicStream(framed=call.dialect == self.name)

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> ServerError:
        """Return what an error answer means."""
        return errors.decode_error(status, headers, body)

    def models_request(self) -> HttpRequest:
        """Return the request that lists models."""
        return request.models_request()

    def decode_models(self, body: bytes) -> tuple[ModelInfo, ...]:
        """Return the models of a list answer."""
        return response.decode_models(body)
