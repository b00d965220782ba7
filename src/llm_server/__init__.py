"""LLM Server: one server between applications and language models."""
