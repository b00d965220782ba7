"""What a schema may cost: limits that keep every reader of a schema fast, each checked in linear time.

Sources of the dangers: vLLM CVE-2025-48944 (patterns and types in tools) and GHSA-mgrm-fgjv-mhv8 (schemas
without end), recursion in llama.cpp's schema converter.
"""

from collections.abc import Iterator
from typing import Any, NoReturn

from llm_server.contract import ErrorKind, ServerError
from llm_server.structured.keywords import IN_PLACE, Path, is_schema, subschemas
from llm_server.structured.problems import pointer, shortened
from llm_server.structured.references import Place, References, references
from llm_server.structured.repetition import expanded

MAX_BYTES = 64 * 1024
"""Most bytes of a schema in canonical form (compact, in UTF-8), without annotations such as descriptions."""
MAX_SOURCE_BYTES = 4 * MAX_BYTES
"""Most bytes of a schema as it is written: with its indentation and its descriptions."""
MAX_DEPTH = 32
"""Most schemas inside each other."""
MAX_NESTING = 3 * MAX_DEPTH
"""Most JSON values inside each other: a nested schema stands up to three levels deeper."""
MAX_PATTERN = 512
"""Most characters of a regular expression."""
MAX_EXPANDED, MAX_ALL_EXPANDED = 5_000, 20_000
"""Most atoms of a regular expression with its repetitions written out, and of all of a schema: a match takes
up to 0.1 microseconds for each of them and each character. In 300 published schemas the most are 255."""
MAX_PATTERNS = 500
"""Most regular expressions of the whole schema: compiling one takes up to half a millisecond."""
MAX_ENUM = 2_000
"""Most values of one ``enum``."""
MAX_PROPERTIES = 5_000
"""Most properties of the whole schema; OpenAI's limit too (Structured Outputs guide)."""
MAX_CHAIN = 64
"""Most schemas applied to one value through each other, by reference or in place."""
MAX_EXPANSION = 10_000
"""Most schemas applied to one value, each counted as often as it is reached."""


def refuse(path: Path, text: str) -> NoReturn:
    """Raise ``INVALID_REQUEST`` about the place ``path`` of a schema, which is named as a URI fragment."""
    place = "#" + shortened(pointer(path))
    raise ServerError(ErrorKind.INVALID_REQUEST, f"The schema is refused at {place}: {text}", param=place)


def check_nesting(value: Any) -> None:
    """Refuse JSON nested deeper than :data:`MAX_NESTING`; comes first, so that others may recurse."""
    if deeper(value, MAX_NESTING):
        refuse((), f"it is nested deeper than {MAX_NESTING} levels of JSON.")


def deeper(value: Any, levels: int) -> bool:
    """Tell whether ``value`` has more than ``levels`` objects and arrays inside each other."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(levels):
        if not level:
            return False
        level = [
            child
            for each in level
            for child in (each.values() if isinstance(each, dict) else each)
            if isinstance(child, dict | list)
        ]
    return bool(level)


def check_bounds(document: References) -> None:
    """Check every schema of the document, then what they come to together.

    Raises:
        ServerError: ``INVALID_REQUEST`` with the pointer of the first place that passes a limit.
    """
    for place in document.places:
        _check_place(place)
        for reference in references(place.node):
            _check_reference(place.path, reference, document.target(reference, place.node))
    if (count := sum(len(_named(place.node, "properties")) for place in document.places)) > MAX_PROPERTIES:
        refuse((), f"it has {count} properties; at most {MAX_PROPERTIES} are taken.")
    _check_patterns(document)
    expansion = _Expansion(document)
    for place in document.places:
        expansion.size(place.path, place.node, 1)


def count_patterns(document: References) -> int:
    """Return how many regular expressions stand in the document."""
    return sum(1 for place in document.places for _ in _patterns(place.node))


def _patterns(node: dict[str, Any]) -> Iterator[str]:
    patterns = node.get("pattern"), *_named(node, "patternProperties")
    return (each for each in patterns if isinstance(each, str))


def _check_patterns(document: References) -> None:
    total = 0
    for place in document.places:
        for pattern in _patterns(place.node):
            total += (size := expanded(pattern))
            if size > MAX_EXPANDED:
                refuse(place.path, f"a pattern repeats to more than {MAX_EXPANDED} characters and classes.")
    if total > MAX_ALL_EXPANDED:
        refuse((), f"its patterns repeat to more than {MAX_ALL_EXPANDED} characters and classes together.")


def _check_place(place: Place) -> None:
    path, node = place.path, place.node
    if place.depth > MAX_DEPTH:
        refuse(path, f"schemas are nested deeper than {MAX_DEPTH}.")
    for pattern in _patterns(node):
        if len(pattern) > MAX_PATTERN:
            refuse(path, f"a pattern has {len(pattern)} characters; at most {MAX_PATTERN} are taken.")
    values = node.get("enum")
    if isinstance(values, list) and len(values) > MAX_ENUM:
        refuse((*path, "enum"), f"it has {len(values)} values; at most {MAX_ENUM} are taken.")


def _check_reference(path: Path, reference: str, target: Any) -> None:
    if not reference.startswith("#"):
        refuse(path, f"the reference {shortened(reference)!r} leaves the document; only local ones may.")
    if not isinstance(target, dict | bool):
        refuse(path, f"the reference {shortened(reference)!r} leads to no schema.")


def _named(node: dict[str, Any], keyword: str) -> dict[str, Any]:
    value = node.get(keyword)
    return value if isinstance(value, dict) else {}


class _Expansion:
    """How many schemas apply to one value: exponential when each refers twice to the next."""

    def __init__(self, document: References) -> None:
        self._document = document
        self._sizes: dict[int, int] = {}

    def size(self, path: Path, node: dict[str, Any], chain: int) -> int:
        """Return the count for ``node``, reached through ``chain`` schemas; each node is counted once."""
        known = self._sizes.get(id(node))
        if known is not None:
            return known
        if chain > MAX_CHAIN:
            refuse(path, f"it applies itself to the same value, or through more than {MAX_CHAIN} others.")
        total = 1 + sum(self.size(path, each, chain + 1) for each in applied(self._document, node))
        if total > MAX_EXPANSION:
            refuse(path, f"its references expand to more than {MAX_EXPANSION} schemas for one value.")
        self._sizes[id(node)] = total
        return total


def applied(document: References, node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the schemas that ``node`` applies to the same value, in place or by reference."""
    yield from (each for steps, each in subschemas(node) if steps[0] in IN_PLACE and is_schema(each))
    targets = (document.target(reference, node) for reference in references(node))
    yield from (target for target in targets if is_schema(target))
