"""Anthropic's endpoints as codecs."""

from llm_server.contract import ChatCall, Completion, CountCall, TokenCount
from llm_server.wire.anthropic import request, response
from llm_server.wire.anthropic.errors import encode_error
from llm_server.wire.anthropic.stream import MessageStream
from llm_server.wire.codec import Endpoint

DIALECT = "anthropic"
KEEPALIVE = b'event: ping\ndata: {"type":"ping"}\n\n'

MESSAGES = Endpoint[ChatCall, Completion](
    dialect=DIALECT,
    keepalive=KEEPALIVE,
    reader=request.READER,
    call=request.chat_call,
    answer=response.messages_answer,
    failure=encode_error,
    stream=MessageStream,
)
"""``POST /v1/messages``."""

COUNT = Endpoint[CountCall, TokenCount](
    dialect=DIALECT,
    keepalive=KEEPALIVE,
    reader=request.COUNT_READER,
    call=request.count_call,
    answer=response.count_answer,
    failure=encode_error,
)
"""``POST /v1/messages/count_tokens``."""
