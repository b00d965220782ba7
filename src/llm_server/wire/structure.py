"""Checks of a body's structure that no decoder makes: how deep it is, and a name given twice.

They look at brackets alone and run in C throughout, so that a large body does not hold up other requests.
"""

import re
from array import array
from itertools import accumulate, compress

MAX_DEPTH = 64
"""Bound on nested arrays and objects; deeper bodies are attacks on recursive readers behind us."""

_MARK = b"\x01"  # cannot stand outside strings in JSON
_MODEL = re.compile(
    rb'"(?:m|\\u006[dD])(?:o|\\u006[fF])(?:d|\\u0064)(?:e|\\u0065)(?:l|\\u006[cC])"(?=[ \t\r\n]*:)'
)
_KEPT = b'[]{}"' + _MARK
_DROPPED = bytes(code for code in range(256) if code not in _KEPT)
_STEPS = bytes.maketrans(b"[{]}" + _MARK, b"\x01\x01\xff\xff\x00")
_MARKED = bytes(code == _MARK[0] for code in range(256))
_AS_ARRAYS = bytes.maketrans(b"{}", b"[]")
_AT_ONCE = 1 << 16


def too_deep(body: bytes) -> bool:
    """Whether ``body``, JSON or not, nests more than :data:`MAX_DEPTH` arrays and objects."""
    if body.count(b"{") + body.count(b"[") <= MAX_DEPTH:
        return False
    brackets, limit = _peeled(_skeleton(body).translate(_AS_ARRAYS))
    steps = brackets.translate(_STEPS)
    depth = 0
    for start in range(0, len(steps), _AT_ONCE):
        some = steps[start : start + _AT_ONCE]
        if max(accumulate(array("b", some), initial=depth)) > limit:
            return True
        depth += 2 * some.count(1) - len(some)
    return False


def _peeled(brackets: bytes) -> tuple[bytes, int]:
    """Return ``brackets`` without innermost pairs, as long as many go at once, and the depth left.

    Each turn takes one level off balanced brackets; others are left to the decoder, which refuses them.
    """
    for limit in range(MAX_DEPTH, 0, -1):
        peeled = brackets.replace(b"[]", b"")
        if len(peeled) * 8 > len(brackets) * 7:
            return brackets, limit
        brackets = peeled
    return brackets, 0


def models_named(body: bytes) -> int:
    """Return how often the object in ``body``, which must be JSON, has the key ``model``, escaped or not."""
    if body.find(b'"model"') == body.rfind(b'"model"') and b"\\u00" not in body:
        return 1
    skeleton = _skeleton(_MODEL.sub(_MARK, body))
    levels = accumulate(array("b", skeleton.translate(_STEPS)))
    return list(compress(levels, skeleton.translate(_MARKED))).count(1)


def _skeleton(body: bytes) -> bytes:
    """Return the brackets and marks of ``body`` that are not in strings."""
    bare = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _DROPPED)
    return b"".join(bare.split(b'"')[::2])
