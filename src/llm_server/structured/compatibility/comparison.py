"""Compare two schemas in one direction.

The answer errs on one side only: where nothing is found, every value that the old schema takes is taken by
the new one. What cannot be decided (a changed ``not``, a ``oneOf`` whose branches may overlap) is told as a
change. That a property added to an open object breaks, because its name may have held anything, is how schema
registries see it (Confluent, "Schema Evolution and Compatibility", open content models).
"""

from collections.abc import Iterable, Iterator
from itertools import combinations
from typing import Any

from llm_server.contract import Problem
from llm_server.structured.compatibility.containers import Pair, Steps, array_pairs, object_pairs
from llm_server.structured.compatibility.document import (
    CONDITION,
    CONTAINS,
    Document,
    Node,
    Sameness,
    atoms,
    forget,
    values,
)
from llm_server.structured.compatibility.scalars import ABSENT, said, scalar_changes, snake
from llm_server.structured.keywords import is_schema
from llm_server.structured.problems import pointer, shortened
from llm_server.structured.schema import Schema

MAX_STEPS = 20_000
"""Pairs of subschemas looked at before the answer is "too complex": alternatives multiply."""
MAX_DEPTH = 128
"""Steps from the root at which the answer is "too complex": merged recursive schemas have no bottom."""
MAX_CHANGES = 100
"""Changes told at most."""

_WHOLE = ("unevaluatedItems", "unevaluatedProperties", "$dynamicRef", "$recursiveRef")
"""Keywords whose meaning depends on what stands around them: only an unchanged whole keeps it."""
_OPAQUE = (
    frozenset({"not"}),
    frozenset({"dependencies"}),
    frozenset({"dependentRequired"}),
    frozenset({"dependentSchemas"}),
    CONDITION,
    CONTAINS,
)
"""Keywords that are compared as they are written."""


class _TooComplexError(Exception):
    """More than :data:`MAX_STEPS` pairs, or deeper than :data:`MAX_DEPTH`."""


def narrowings(old: Schema, new: Schema) -> tuple[Problem, ...]:
    """Return every change by which ``new`` refuses values that ``old`` takes, the first :data:`MAX_CHANGES`.

    Each is a :class:`Problem`: the pointer is that of the place in the new schema (in the old one for what
    was removed), the keyword is the change's name, ``expected`` what the old schema said and ``found`` what
    the new one says.
    """
    if old.draft != new.draft:
        return (Problem("/$schema", "draft_changed", old.draft, new.draft),)
    try:
        found = _Comparison(old, new).problems(old.value, new.value, ())
    except _TooComplexError:
        return (Problem("", "too_complex", "schemas that can be compared", "too many alternatives"),)
    return tuple({(each.pointer, each.keyword, each.expected): each for each in found}.values())[:MAX_CHANGES]


class _Comparison:
    def __init__(self, old: Schema, new: Schema) -> None:
        self._old = Document(old)
        self._new = Document(new)
        self._same = Sameness(self._old, self._new)
        self._assumed: dict[tuple[int, int], None] = {}
        self._kept: list[Any] = []
        """Schemas made on the way: kept, so that no two ever have the same identity."""
        self._steps = 0

    def problems(self, old: Any, new: Any, path: Steps) -> list[Problem]:
        """Return what ``new`` refuses of what ``old`` takes; a pair seen before is not told again."""
        self._steps += 1
        if self._steps > MAX_STEPS or len(path) > MAX_DEPTH:
            raise _TooComplexError
        old, new = self._old.resolved(old), self._new.resolved(new)
        if old is False or new is True or (old, new) == (True, {}):
            return []
        if new is False:
            return [_told(path, "everything_refused", said(old), "false")]
        pair = (id(old), id(new))
        if pair in self._assumed or self._same(old, new):
            return []
        self._assumed[pair] = None
        self._kept += [old, new]
        loose = {} if old is True else self._old.loosened(old)
        return list(self._compared(*self._without_common(loose, new), path))

    def _without_common(self, old: Node, new: Node) -> tuple[Node, Node]:
        """Leave out the alternatives that both sides demand alike: they decide nothing."""
        for keyword in ("anyOf", "oneOf"):
            if keyword in old and keyword in new and self._same(_only(old, keyword), _only(new, keyword)):
                old = {key: each for key, each in old.items() if key != keyword}
                new = {key: each for key, each in new.items() if key != keyword}
        return old, new

    def _compared(self, old: Node, new: Node, path: Steps) -> Iterator[Problem]:
        alternatives = self._old.alternatives(old)
        if alternatives is not None:
            for each in alternatives:
                self._kept.append(each)
                yield from self.problems(each, new, path)
            return
        for change in scalar_changes(old, new):
            yield _told((*path, change.keyword), *change[1:])
        yield from self._opaque(old, new, path)
        for at, branch in enumerate(new.get("allOf", ())):
            yield from self.problems(old, branch, (*path, "allOf", at))
        for keyword in ("anyOf", "oneOf"):
            if keyword in new:
                yield from self._choices(keyword, old, new, path)
        kinds = atoms(old)
        if "object" in kinds:
            yield from self._parts(object_pairs(old, new), path)
        if "array" in kinds:
            yield from self._parts(array_pairs(old, new), path)

    def _parts(self, pairs: Iterable[Pair], path: Steps) -> Iterator[Problem]:
        for pair in pairs:
            here = (*path, *pair.steps)
            found = self.problems(pair.old, pair.new, here)
            if found and pair.name:
                yield _told(here, pair.name, said(pair.old), said(pair.new))
            else:
                yield from found

    def _opaque(self, old: Node, new: Node, path: Steps) -> Iterator[Problem]:
        for group in _OPAQUE:
            told = sorted(group & new.keys())
            if told and not self._same(_only(old, *group), _only(new, *group)):
                before = said(_only(old, *group)) if group & old.keys() else ABSENT
                yield _told((*path, told[0]), f"{snake(told[0])}_changed", before, said(_only(new, *group)))
        for keyword in _WHOLE:
            if keyword in new:  # the whole is not the same, or nobody would have asked
                yield _told(
                    (*path, keyword), f"{snake(keyword)}_changed", said(old.get(keyword)), said(new[keyword])
                )

    def _choices(self, keyword: str, old: Node, new: Node, path: Steps) -> Iterator[Problem]:
        branches = [self._new.resolved(branch) for branch in new[keyword]]
        if keyword == "oneOf" and not _disjoint(branches):
            yield _told((*path, keyword), "one_of_changed", said(old.get("oneOf")), said(new["oneOf"]))
            return
        near: list[list[Problem]] = []
        for at, branch in enumerate(branches):
            known = len(self._assumed)
            found = self.problems(old, branch, (*path, keyword, at))
            if not found:
                return
            forget(self._assumed, known)
            if is_schema(branch) and not atoms(old).isdisjoint(atoms(branch)):
                near.append(found)
        if len(near) == 1:
            yield from near[0]
        else:
            yield _told((*path, keyword), "no_alternative_left", said(old), said(new[keyword]))


def _only(node: Node, *keywords: str) -> Node:
    return {key: node[key] for key in keywords if key in node}


def _told(path: Steps, name: str, before: str, after: str) -> Problem:
    return Problem(pointer(path), name, shortened(before), shortened(after))


def _disjoint(branches: list[Any]) -> bool:
    """Whether no value fits two of ``branches``, as far as types and a required listed property tell."""
    return all(_apart(one, other) for one, other in combinations(branches, 2))


def _apart(one: Any, other: Any) -> bool:
    if not is_schema(one) or not is_schema(other):
        return one is False or other is False
    common = atoms(one) & atoms(other)
    if not common:
        return True
    listed = values(one), values(other)
    if listed[0] is not None and listed[1] is not None:
        return listed[0].keys().isdisjoint(listed[1])
    return common == {"object"} and _told_apart(one, other)


def _told_apart(one: Node, other: Node) -> bool:
    required = set(one.get("required", ())) & set(other.get("required", ()))
    for name in required:
        mine, theirs = (node.get("properties", {}).get(name) for node in (one, other))
        if is_schema(mine) and is_schema(theirs):
            listed = values(mine), values(theirs)
            if listed[0] is not None and listed[1] is not None and listed[0].keys().isdisjoint(listed[1]):
                return True
    return False
