"""The billing attribution line that Claude Code puts in front of its system prompt.

It changes with every request, means something to Anthropic alone, and spoils every cache on the way to
anybody else (https://docs.claude.com/en/docs/claude-code/llm-gateway).
"""

_HEADER = "x-anthropic-billing-header:"


def without_attribution(text: str) -> str:
    """Return a system prompt without the attribution line; any other text as it is."""
    if not text.startswith(_HEADER):
        return text
    return text.partition("\n")[2].lstrip("\n")
