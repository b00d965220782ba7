"""Changes of the keywords that hold numbers, names and values."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import msgspec

from llm_server.structured.compatibility.document import ANY, TYPES, Node, atoms, key_of, values

ABSENT = "nothing said"


class Change(NamedTuple):
    """A breaking change: the keyword, the change's name, and what the keyword said before and says now."""

    keyword: str
    name: str
    before: str
    after: str


def scalar_changes(old: Node, new: Node) -> Iterator[Change]:
    """Yield every change by which ``new`` refuses some value that ``old`` takes, subschemas left aside."""
    kinds = atoms(old)
    yield from _types(old, new)
    yield from _values(old, new)
    for kind, check in _CHECKS:
        if not kinds.isdisjoint(kind):
            yield from check(old, new)


def said(value: Any) -> str:
    """Return a keyword's value as text."""
    return ABSENT if value is None else msgspec.json.encode(value).decode()


def _types(old: Node, new: Node) -> Iterator[Change]:
    lost = atoms(old) - atoms({key: each for key, each in new.items() if key == "type"})
    if lost:
        yield Change("type", "type_narrowed", said(old.get("type")), said(new.get("type")))


def _values(old: Node, new: Node) -> Iterator[Change]:
    allowed = values(new)
    if allowed is None:
        return
    keyword = "const" if "const" in new else "enum"
    had = values(old)
    if had is None and atoms(old) <= {"null", "boolean"}:
        every: dict[str, list[Any]] = {"null": [None], "boolean": [False, True]}
        had = {key_of(value): value for kind in atoms(old) for value in every[kind]}
    if had is None:
        yield Change(keyword, "enum_added", ABSENT, said(new[keyword]))
        return
    for key, value in had.items():
        if key not in allowed:
            yield Change(keyword, "enum_value_removed", said(value), said(new[keyword]))


def _limits(old: Node, new: Node) -> Iterator[Change]:
    for keyword, raised in (("minimum", True), ("maximum", False)):
        before, after = _limit(old, keyword), _limit(new, keyword)
        sign = 1 if raised else -1
        if after is not None and (before is None or _tighter(after, before, sign)):
            written = keyword if keyword in new else f"exclusive{keyword.title()}"
            yield Change(written, _tightened(keyword), _worded(before), _worded(after))


def _limit(node: Node, keyword: str) -> tuple[Any, bool] | None:
    """Return the bound that holds and whether it is itself excluded; draft 4 says the latter by a boolean."""
    plain, strict = node.get(keyword), node.get(f"exclusive{keyword.title()}")
    if isinstance(strict, bool):
        return None if plain is None else (plain, strict)
    if plain is None or strict is None:
        return (strict, True) if strict is not None else (plain, False) if plain is not None else None
    sign = 1 if keyword == "minimum" else -1
    return (strict, True) if strict * sign >= plain * sign else (plain, False)


def _tighter(after: tuple[Any, bool], before: tuple[Any, bool], sign: int) -> bool:
    return bool((after[0] * sign, after[1]) > (before[0] * sign, before[1]))


def _worded(limit: tuple[Any, bool] | None) -> str:
    return ABSENT if limit is None else f"{limit[0]}{' excluded' if limit[1] else ''}"


def _tightened(keyword: str) -> str:
    return f"{snake(keyword)}_raised" if keyword.startswith("min") else f"{snake(keyword)}_lowered"


def snake(keyword: str) -> str:
    """Return a keyword as names of changes have it: ``maxLength`` is ``max_length``."""
    return "".join(f"_{each.lower()}" if each.isupper() else each for each in keyword.lstrip("$"))


def _counts(*keywords: str) -> Callable[[Node, Node], Iterator[Change]]:
    def check(old: Node, new: Node) -> Iterator[Change]:
        for keyword in keywords:
            before, after = old.get(keyword), new.get(keyword)
            if after is None:
                continue
            if keyword.startswith("min"):
                narrower = after > (before or 0)
            else:
                narrower = before is None or after < before
            if narrower:
                yield Change(keyword, _tightened(keyword), said(before), said(after))

    return check


def _multiple(old: Node, new: Node) -> Iterator[Change]:
    before, after = old.get("multipleOf"), new.get("multipleOf")
    if after is None:
        return
    step = Fraction(1) if before is None and atoms(old) <= TYPES["integer"] | ANY - TYPES["number"] else None
    step = step if before is None else Fraction(str(before))
    if step is None or step % Fraction(str(after)) != 0:
        yield Change("multipleOf", "multiple_of_changed", said(before), said(after))


def _text(old: Node, new: Node) -> Iterator[Change]:
    for keyword in ("pattern", "format"):
        if keyword in new and new[keyword] != old.get(keyword):
            name = f"{keyword}_changed" if keyword in old else f"{keyword}_added"
            yield Change(keyword, name, said(old.get(keyword)), said(new[keyword]))


def _unique(old: Node, new: Node) -> Iterator[Change]:
    if new.get("uniqueItems") and not old.get("uniqueItems"):
        yield Change("uniqueItems", "unique_items_added", said(old.get("uniqueItems")), "true")


def _required(old: Node, new: Node) -> Iterator[Change]:
    for name in new.get("required", ()):
        if name not in old.get("required", ()):
            yield Change("required", "required_added", "optional", said(name))


_NUMBER, _STRING, _ARRAY, _OBJECT = (TYPES[name] for name in ("number", "string", "array", "object"))
_CHECKS = (
    (_NUMBER, _limits),
    (_NUMBER, _multiple),
    (_STRING, _counts("minLength", "maxLength")),
    (_STRING, _text),
    (_ARRAY, _counts("minItems", "maxItems")),
    (_ARRAY, _unique),
    (_OBJECT, _counts("minProperties", "maxProperties")),
    (_OBJECT, _required),
)
"""What is looked at for which kinds of values: a longer ``minLength`` refuses no number."""
