"""What each keyword expects and what it found, in few words: a table."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from llm_server.structured.problems import Problem, pointer, shortened

if TYPE_CHECKING:
    from jsonschema_rs import ValidationError

Facts = dict[str, Any]
"""What jsonschema-rs tells of an error beside its place, by names of its own."""


def problem(error: "ValidationError") -> Problem:
    """Return ``error`` of jsonschema-rs as a problem."""
    keyword, facts = error.kind.name, error.kind.as_dict()
    if keyword == "falseSchema" and error.schema_path[-1:] == ["additionalProperties"]:
        # Where no properties are declared, jsonschema-rs tells the value but not its name.
        return Problem(
            pointer(error.instance_path), "additionalProperties", _CLOSED, shortened(text(error.instance))
        )
    expected = _EXPECTED[keyword](facts) if keyword in _EXPECTED else error.message
    found = _FOUND[keyword](facts) if keyword in _FOUND else text(error.instance)
    return Problem(pointer(error.instance_path), keyword, shortened(expected), shortened(found))


def text(value: Any) -> str:
    """Return ``value`` as JSON; what JSON cannot say, as Python writes it."""
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError):
        return repr(value)


def _alternatives(facts: Facts) -> str:
    """Name the first problem of the alternative that went the furthest into the value."""
    context: list[list[ValidationError]] = facts["context"]
    failures = [errors for errors in context if errors]
    if not failures:
        return f"any of {len(context)} alternatives"
    nearest = problem(max(failures, key=lambda errors: (len(errors[0].instance_path), -len(errors)))[0])
    place = f" at {nearest.pointer}" if nearest.pointer else ""
    return f"any of {len(context)} alternatives; the nearest wants {nearest.expected}{place}"


def _names(names: list[str]) -> str:
    return ", ".join(text(name) for name in names)


def _pattern(facts: Facts) -> str:
    return (
        f"text that matches {facts['pattern']}" if "pattern" in facts else "text that its pattern can judge"
    )


_CLOSED = "only declared properties"
_EXPECTED: dict[str, Callable[[Facts], str]] = {
    "additionalItems": lambda facts: f"at most {facts['limit']} items",
    "additionalProperties": lambda _: _CLOSED,
    "anyOf": _alternatives,
    "const": lambda facts: text(facts["expected_value"]),
    "contains": lambda _: "enough items of the form that it must contain",
    "enum": lambda facts: "one of " + ", ".join(text(each) for each in facts["options"]),
    "exclusiveMaximum": lambda facts: f"a number below {text(facts['limit'])}",
    "exclusiveMinimum": lambda facts: f"a number above {text(facts['limit'])}",
    "falseSchema": lambda _: "nothing here",
    "format": lambda facts: f"text in the format {facts['format']}",
    "maxItems": lambda facts: f"at most {facts['limit']} items",
    "maxLength": lambda facts: f"at most {facts['limit']} characters",
    "maxProperties": lambda facts: f"at most {facts['limit']} properties",
    "maximum": lambda facts: f"a number of at most {text(facts['limit'])}",
    "minItems": lambda facts: f"at least {facts['limit']} items",
    "minLength": lambda facts: f"at least {facts['limit']} characters",
    "minProperties": lambda facts: f"at least {facts['limit']} properties",
    "minimum": lambda facts: f"a number of at least {text(facts['limit'])}",
    "multipleOf": lambda facts: f"a multiple of {text(facts['multiple_of'])}",
    "not": lambda facts: f"anything but {text(facts['schema'])}",
    "oneOf": lambda facts: "exactly one: " + _alternatives(facts),
    "pattern": _pattern,
    "propertyNames": lambda facts: f"property names: {problem(facts['error']).expected}",
    "required": lambda facts: f"the property {text(facts['property'])}",
    "type": lambda facts: " or ".join(sorted(facts["types"])),
    "unevaluatedItems": lambda _: "only declared items",
    "unevaluatedProperties": lambda _: _CLOSED,
    "uniqueItems": lambda _: "no item twice",
}
_FOUND: dict[str, Callable[[Facts], str]] = {
    "additionalProperties": lambda facts: _names(facts["unexpected"]),
    "propertyNames": lambda facts: problem(facts["error"]).found,
    "required": lambda _: "no such property",
    "unevaluatedProperties": lambda facts: _names(facts["unexpected"]),
}
