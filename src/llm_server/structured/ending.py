"""Texts with an end: formats that the grammar compiler lets go on for ever are given their longest length.

A model that is held to ``email`` may write one letter after the other until its tokens are spent; so does a
small one. No longer address or host is valid, so that nothing is lost.
"""

from typing import Any

from llm_server.structured.keywords import is_schema, mapped

Node = dict[str, Any]

MAX_LENGTHS = {"email": 254, "hostname": 253}
"""Most characters of a format: RFC 5321 section 4.5.3.1.3 (a path has 256 octets, two are its brackets), RFC
1035 section 2.3.4 (a name has 255 octets, one is the first label's length, one the root)."""


def ended(node: Any) -> Any:
    """Return a copy of ``node`` in which every text of such a format has a longest length.

    One that a schema says itself stays, also where ``minLength`` asks for more than the format allows.
    """
    if not is_schema(node):
        return node
    copy = mapped(node, ended)
    longest = MAX_LENGTHS.get(node.get("format", ""))
    if longest is not None and node.get("minLength", 0) <= longest:
        copy.setdefault("maxLength", longest)
    return copy
