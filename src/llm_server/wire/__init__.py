"""The public dialects served, as bytes: OpenAI chat, completions and embeddings; Anthropic messages; SSE. Pure codecs."""
