"""Anthropic's messages, outbound.

Decisions, each explained where it is made: system turns in a conversation move to its head (``messages.py``);
how much to think is said in the way of the model's generation (``request.py``).
"""

from llm_server.providers.dialects.anthropic.dialect import Anthropic

__all__ = ["Anthropic"]
