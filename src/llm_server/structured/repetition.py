"""How large a regular expression is with its repetitions written out: what it may cost for a character."""

import re

MAX_COUNT = 10**6
"""Counts are cut to this, and so is what they come to: whatever is larger is far too large."""
_COUNT = re.compile(r"\{(\d+)(?:,(\d*))?\}")
_ATOM = re.compile(
    r"\((?:\?(?:[:=!]|<[=!]|<\w+>))?|\\[pP]\{[^}]*\}|\\u\{[^}]*\}|\\.|\[(?:\\.|[^\]\\])*\]|[^\\\[]",
    re.DOTALL,
)
"""The beginning of a group, an escape, a class, or any other character."""


def expanded(pattern: str) -> int:
    """Return how many atoms ``pattern`` has with ``x{2,5}`` as five x, ``x{2,}`` as two, groups included.

    Read as ECMA-262 writes patterns; what other dialects read otherwise is counted as more, never as less. Of
    what is no pattern some number is returned.
    """
    sizes, last, at = [0], 0, 0
    while at < len(pattern):
        count = _COUNT.match(pattern, at)
        if count is not None:
            times = min(int(count[2] or count[1]), MAX_COUNT)
            sizes[-1] = min(sizes[-1] + last * max(times - 1, 0), MAX_COUNT)
            last, at = min(last * times, MAX_COUNT), count.end()
            continue
        atom = _ATOM.match(pattern, at)
        text = atom[0] if atom else pattern[at]
        at += len(text)
        if text.startswith("("):
            sizes.append(0)
        elif text == ")" and len(sizes) > 1:
            last = sizes.pop()
            sizes[-1] += last
        elif text not in "*+?|^$":
            last = 1
            sizes[-1] += 1
    return sum(sizes)
