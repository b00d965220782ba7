"""OpenAI's endpoints as codecs."""

from llm_server.contract import ChatCall, Completion, EmbedCall, Embeddings, TextCall
from llm_server.wire.codec import Endpoint
from llm_server.wire.openai import prompts, request, response
from llm_server.wire.openai.errors import encode_error
from llm_server.wire.openai.stream import ChatStream, TextStream

DIALECT = "openai"
KEEPALIVE = b": keepalive\n\n"
"""A comment: every client that reads this dialect skips it."""

CHAT = Endpoint[ChatCall, Completion](
    dialect=DIALECT,
    keepalive=KEEPALIVE,
    reader=request.READER,
    call=request.chat_call,
    answer=response.chat_answer,
    failure=encode_error,
    stream=ChatStream,
)
"""``POST /v1/chat/completions``."""

COMPLETIONS = Endpoint[TextCall, Completion](
    dialect=DIALECT,
    keepalive=KEEPALIVE,
    reader=prompts.TEXT_READER,
    call=prompts.text_call,
    answer=response.text_answer,
    failure=encode_error,
    stream=TextStream,
)
"""``POST /v1/completions``."""

EMBEDDINGS = Endpoint[EmbedCall, Embeddings](
    dialect=DIALECT,
    keepalive=KEEPALIVE,
    reader=prompts.EMBEDDINGS_READER,
    call=prompts.embed_call,
    answer=response.embeddings_answer,
    failure=encode_error,
)
"""``POST /v1/embeddings``."""
