"""Thought signatures: how the model's sealed reasoning travels through clients that have no field for it.

A Gemini answer may carry a ``thoughtSignature`` on any part, and Gemini 3 refuses the next turn of a tool
conversation that does not return it: https://ai.google.dev/gemini-api/docs/thought-signatures. Other dialects
know no such field on a tool call or on text, so it travels inside fields that every client returns:

- of a tool call, in the id: ``<id>__sig_<base64url of the signature, unpadded>``, all letters that any
  dialect allows;
- of a thought or a text, in ``Thinking.signature`` as ``gemini.<signature>``. The mark tells our signatures
  from those of other providers, which are worth nothing here.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Malformed

_MARK = "gemini."
_SEPARATOR = "__sig_"

HINTS = (b'"gemini.', b"__sig_")
"""One of these stands in every body that has such a signature in it."""

SKIP = "skip_thought_signature_validator"
"""What Google documents for tool calls in a history that the model did not make itself."""


def seal(signature: str) -> str:
    """Return ``signature`` marked as Gemini's own; empty stays empty."""
    return _MARK + signature if signature else ""


def unseal(signature: str) -> str:
    """Return the signature that :func:`seal` marked; empty for any other provider's."""
    return signature.removeprefix(_MARK) if signature.startswith(_MARK) else ""


def signed_id(call_id: str, signature: str) -> str:
    """Return a tool call id that carries ``signature``; without one, the id itself."""
    if not signature:
        return call_id
    return f"{call_id}{_SEPARATOR}{urlsafe_b64encode(signature.encode()).decode().rstrip('=')}"


def split_id(call_id: str) -> tuple[str, str]:
    """Return the id and signature that :func:`signed_id` joined; any other id comes back whole, unsigned."""
    plain, separator, coded = call_id.partition(_SEPARATOR)
    try:
        signature = urlsafe_b64decode(coded + "=" * (-len(coded) % 4)).decode()
    except (Malformed, UnicodeDecodeError):
        return call_id, ""
    return (plain, signature) if separator and signature else (call_id, "")
