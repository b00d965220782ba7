"""What is wrong with a configuration, in words that name the place, the setting and the remedy."""

import difflib
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from llm_server.contract import Secret
from llm_server.settings.tree import Node, Origin, Path, dotted, nearest, written

_KINDS: dict[type, str] = {
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    dict: "a mapping",
    list: "a list",
}
_SHOWN = 60
"""Characters of a wrong value that are shown."""


class Problem(NamedTuple):
    """One thing to correct."""

    origin: Origin
    path: Path
    words: str

    def __str__(self) -> str:
        return f"{self.origin.location}: {f'{dotted(self.path)} {self.words}'.strip()}"


class SettingsError(ValueError):
    """A configuration that cannot be used, with everything that is wrong in it: what is in the file first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        order = sorted(problems, key=lambda each: (each.origin.kind != "file", each.origin.line))
        self.problems = tuple(order)
        super().__init__("\n".join(map(str, order)))


def explain(error: ValidationError, root: Node, model: type[BaseModel]) -> Iterator[Problem]:
    """Yield what ``error``, raised for the values of ``root`` by ``model``, says about each setting.

    Where a value may have one of several forms, the first that it fails to have is told.
    """
    told: set[Path] = set()
    for each in sorted(error.errors(include_url=False), key=lambda each: each["type"] == "is_instance_of"):
        path = _real(model, each["loc"], each["type"])
        if path not in told:
            told.add(path)
            node = nearest(root, written(root, path))
            hidden = bool(node.origin.variables) or not all(map(_is_open, _along(model, path)))
            words = _words(each, _along(model, path[:-1]), hidden=hidden)
            yield Problem(node.origin, written(root, path), words)


def _words(error: ErrorDetails, around: Iterable[Any], *, hidden: bool) -> str:
    """Return what is wrong, as a predicate of the setting. ``around`` are the types of what it stands in."""
    match error["type"]:
        case "extra_forbidden":
            return _unknown(str(error["loc"][-1]), tuple(_names(around)))
        case "missing":
            return "is required"
        case "value_error" | "assertion_error":
            return f"is not valid: {error['msg'].partition(', ')[2]}"
    should = error["msg"].removeprefix("Input ").removeprefix("Value ").partition(", unable to")[0]
    return f"{should}, got {_shown(error['input'], hidden=hidden)}"


def _real(model: Any, loc: Path, kind: str) -> Path:
    """Return ``loc`` without the steps that Pydantic adds for the arms of a union or the key of a mapping."""
    if kind in ("extra_forbidden", "missing"):
        return loc
    known = next((size for size in range(len(loc), 0, -1) if any(_along(model, loc[:size]))), 0)
    return loc[:known]


def _unknown(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"is unknown; did you mean '{near[0]}'?"
    return f"is unknown; known here: {', '.join(known)}" if known else "is unknown"


def _shown(value: Any, *, hidden: bool) -> str:
    """Return a wrong value in a few words, or only its type if it may be a secret."""
    if value is None:
        return "nothing"
    if hidden or not isinstance(value, str | bool | int | float):
        return _KINDS.get(type(value), "something else")
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _is_open(annotation: Any) -> bool:
    """Whether a text where ``annotation`` is expected may be shown: it is no secret, and stands for none."""
    sections = isinstance(annotation, type) and issubclass(annotation, BaseModel | Secret)
    return not sections and typing.get_origin(annotation) not in (dict, tuple, list, set, frozenset)


def _along(annotation: Any, path: Path) -> Iterator[Any]:
    """Yield the types that a value at ``path`` may have, starting from ``annotation``."""
    if not path:
        yield from _flat(annotation)
        return
    for each in _flat(annotation):
        for below in _below(each, path[0]):
            yield from _along(below, path[1:])


def _flat(annotation: Any) -> Iterator[Any]:
    """Yield the alternatives of a type: the arms of a union, without their annotations."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from _flat(typing.get_args(annotation)[0])
    elif origin in (typing.Union, types.UnionType):
        for arm in typing.get_args(annotation):
            yield from _flat(arm)
    else:
        yield annotation


def _below(annotation: Any, step: str | int) -> Iterable[Any]:
    """Return the types of what stands under ``step`` in a value of type ``annotation``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(step))
        return (field.annotation,) if field else ()
    arguments = typing.get_args(annotation)
    return arguments[1:] if typing.get_origin(annotation) is dict else arguments


def _names(annotations: Iterable[Any]) -> Iterator[str]:
    for each in annotations:
        if isinstance(each, type) and issubclass(each, BaseModel):
            yield from each.model_fields
