"""OpenAI's chat, completions and embeddings, as served to callers."""
