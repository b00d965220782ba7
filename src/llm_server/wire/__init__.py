"""The public dialects served, as bytes: OpenAI and Anthropic, and server-sent events. Pure codecs.

Each codec is one endpoint of a dialect; see :class:`llm_server.wire.codec.Codec` for what it promises.
"""

from llm_server.wire.anthropic.codec import COUNT as ANTHROPIC_COUNT
from llm_server.wire.anthropic.codec import MESSAGES as ANTHROPIC_MESSAGES
from llm_server.wire.codec import Codec, StreamEncoder
from llm_server.wire.openai.codec import CHAT as OPENAI_CHAT
from llm_server.wire.openai.codec import COMPLETIONS as OPENAI_COMPLETIONS
from llm_server.wire.openai.codec import EMBEDDINGS as OPENAI_EMBEDDINGS

__all__ = [
    "ANTHROPIC_COUNT",
    "ANTHROPIC_MESSAGES",
    "OPENAI_CHAT",
    "OPENAI_COMPLETIONS",
    "OPENAI_EMBEDDINGS",
    "Codec",
    "StreamEncoder",
]
