"""Cohere's API v2, outbound: chat, embed, and v1's model list.

Decisions, each explained where it is made: a tool plan is text before the calls (``response.py``); usage
counts the tokens that the model read and wrote, not billed units (``response.py``); an embedding is made for
a document (``request.py``); a later system turn becomes user text (``messages.py``).
"""

from llm_server.providers.dialects.cohere.dialect import Cohere

__all__ = ["Cohere"]
