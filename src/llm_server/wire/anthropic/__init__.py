"""Anthropic's messages and token counts, as served to callers."""
