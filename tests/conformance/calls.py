"""The fixed calls whose outbound requests are golden: what clients of both dialects send, as bytes on disk.

``asked/<dialect>/<endpoint>/<name>.json`` is one request body. The spelling is deliberate: odd spacing,
escapes and the order of keys must survive where caller and upstream speak the same dialect. ``MODEL`` and
``EMBEDDER`` stand for the row's own model names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llm_server.contract import Call
from llm_server.wire.anthropic import codec as anthropic
from llm_server.wire.codec import Codec
from llm_server.wire.openai import codec as openai

BODIES = Path(__file__).parent / "asked"

ENDPOINTS: Mapping[str, Codec] = {
    "openai/chat": openai.CHAT,
    "openai/completions": openai.COMPLETIONS,
    "openai/embeddings": openai.EMBEDDINGS,
    "anthropic/messages": anthropic.MESSAGES,
    "anthropic/count_tokens": anthropic.COUNT,
}

HEADERS = {"anthropic-version": "2026-10-21", "anthropic-beta": "context-management-2025-06-27,x-2026"}
"""What a caller of Anthropic's dialect sends besides its body; another dialect's codec reads none of it."""


@dataclass(frozen=True)
class Asked:
    """One fixed call: ``caller`` is the dialect of whoever asks."""

    name: str
    template: bytes
    codec: Codec

    @property
    def caller(self) -> str:
        """The dialect of whoever asks."""
        return self.codec.dialect

    def body(self, model: str) -> bytes:
        """Return the caller's bytes for a model."""
        return self.template.replace(b"MODEL", model.encode()).replace(b"EMBEDDER", model.encode())

    def call(self, model: str) -> Call:
        """Return the call as the API hands it on: read by the wire, the caller's bytes kept."""
        return self.codec.decode(self.body(model), HEADERS)

    @property
    def embeds(self) -> bool:
        """Whether it is for an embedding model."""
        return b"EMBEDDER" in self.template


ASKED = tuple(
    Asked(path.stem, path.read_bytes(), codec)
    for folder, codec in ENDPOINTS.items()
    for path in sorted((BODIES / folder).glob("*.json"))
)
"""Every fixed call, of every endpoint that clients speak."""
