"""OpenAI's chat, completions and embeddings, outbound, and the many APIs modelled on them."""
