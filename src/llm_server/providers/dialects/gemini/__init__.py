"""Gemini's own API (``generateContent``), outbound.

Decisions, each explained where it is made: a blocked prompt is ``CONTENT_REJECTED`` (nothing was generated),
a blocked answer finishes with ``content_filter`` (``narration.py``); thought signatures ride in tool call ids
(``../signatures.py``); a later system turn becomes user text, and images by URL are fetched by the provider,
never by us (``messages.py``).
"""

from llm_server.providers.dialects.gemini.dialect import Gemini

__all__ = ["Gemini"]
