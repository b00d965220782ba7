"""OpenAI's chat, completions and embeddings, outbound, and the many APIs modelled on them.

Decisions, each explained where it is made: how servers differ is data (``providers/quirks.py``); a caller's
own fields go on with only the refused ones changed (``request.py``, ``messages.py``); a tool's image moves
to the user's next turn; a stream is whole when every choice has finished, with or without ``[DONE]``
(``stream.py``).
"""

from llm_server.providers.dialects.openai.dialect import OpenAI

__all__ = ["OpenAI"]
