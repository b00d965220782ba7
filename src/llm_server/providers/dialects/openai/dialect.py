"""The dialect as one object."""

from collections.abc import Mapping

from llm_server.contract import (
    Call,
    ChatCall,
    Completion,
    Embeddings,
    Facts,
    HttpRequest,
    ModelInfo,
    ServerError,
    StreamDecoder,
    TextCall,
)
from llm_server.providers.dialects.openai import errors, request, response
from llm_server.providers.dialects.openai.stream import OpenAIStream
from llm_server.providers.quirks import Quirks

_COMPLETED = frozenset({ChatCall, TextCall})


class OpenAI:
    """OpenAI's dialect as one server speaks it: see :class:`llm_server.contract.Dialect` for each method."""

    name = "openai"

    def __init__(self, quirks: Quirks) -> None:
        self._quirks = quirks
        self._passages = request.Passages(quirks)

    def encode(self, call: Call, facts: Facts) -> HttpRequest:
        """Return ``call`` as a request to chat, complete or embed."""
        return self._passages.request(call, facts) or request.encode(call, facts, self._quirks)

    def decode(self, call: Call, body: bytes) -> Completion | Embeddings:
        """Return the whole answer in ``body``."""
        return response.decode(call, body)

    def glance(self, call: Call, body: bytes) -> Completion | None:
        """Return what is to be known of the whole answer in ``body`` to hand it on."""
        return response.glance(body) if call.dialect == self.name and type(call) in _COMPLETED else None

    def decoder(self, call: Call) -> StreamDecoder:
        """Return a decoder for one streamed answer; frames go only to callers of this dialect."""
        return OpenAIStream(framed=call.dialect == self.name)

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> ServerError:
        """Return what an error answer means."""
        return errors.decode_error(status, headers, body)

    def models_request(self) -> HttpRequest:
        """Return the request that lists models."""
        return request.models_request(self._quirks)

    def decode_models(self, body: bytes) -> tuple[ModelInfo, ...]:
        """Return the models of a list answer."""
        return response.decode_models(body)
