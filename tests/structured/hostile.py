"""Schemas made to cost much, and what each comes to.

``python -m tests.structured.hostile`` tries each in a process that may not cost much and prints a JSON
object: for each name what loading, validating and compiling came to, or the signal that ended it.
"""

import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import Raw

from llm_server.contract import OutputFormat, ServerError
from llm_server.structured.grammar import compile_output
from llm_server.structured.schema import load
from llm_server.structured.validation import Validator

Node = dict[str, Any]
CPU_S = 2
"""Processor seconds for one schema, whatever else the machine does; the system counts in whole ones."""
MEMORY = 256 * 1024 * 1024
"""Bytes that one schema may ask for."""


def _product(parts: int, options: int) -> Node:
    """Return a short schema with options**parts combinations."""
    return {
        "allOf": [
            {
                "anyOf": [
                    {"properties": {f"p{part}": {"const": at}}, "required": [f"p{part}"]}
                    for at in range(options)
                ]
            }
            for part in range(parts)
        ],
    }


def _doubling(keyword: str, levels: int) -> Node:
    """Return a schema of a few lines that stands for 2**levels schemas."""
    steps = {f"a{at}": {keyword: [{"$ref": f"#/$defs/a{at + 1}"}] * 2} for at in range(levels)}
    return {"$ref": "#/$defs/a0", "$defs": {**steps, f"a{levels}": {"type": "integer"}}}


def _named(count: int, pattern: str) -> Node:
    """Return a schema with so many patterns for names; ``@`` is the number of each."""
    return {"patternProperties": {pattern.replace("@", str(at)): {"type": "string"} for at in range(count)}}


def _nested(depth: int) -> Node:
    schema: Node = {}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


REFUSED: dict[str, Node] = {
    "applies itself": {"$ref": "#"},
    "applies itself around a corner": {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#"}]}}},
    "2^30 allOf": _doubling("allOf", 30),
    "2^30 anyOf": _doubling("anyOf", 30),
    "2^60 oneOf": _doubling("oneOf", 60),
    "an enum of 5,000": {"enum": list(range(5_000))},
    "an enum of 1 MB": {"enum": ["x" * 1_000_000]},
    "10 MB": {"description": "x" * 10_000_000},
    "10 MB of properties": {"properties": {f"p{at}": {"title": "x" * 1_000} for at in range(10_000)}},
    "900 values deep": {"const": json.loads("[" * 900 + "]" * 900)},
    "500 schemas deep": _nested(500),
    "a remote reference": {"$ref": "http://169.254.169.254/latest"},
    "a file": {"items": {"$ref": "file:///etc/passwd"}},
    "27,000 repetitions": {"pattern": "^((a{1,30}){1,30}){1,30}$"},
    "10^12 repetitions": {"items": {"pattern": "((((a{1000}){1000}){1000}){1000})"}},
    "a pattern of 10,000 characters": {"pattern": "a" * 10_000},
    "580 large patterns for names": _named(580, r"^(\w{1,9}){@}$"),
    "1,000 patterns of 600 repetitions": _named(1_000, r"^([a-c]{1,60}){10}@$"),
    "no pattern": {"pattern": "(" * 400},
}
"""Schemas that are refused where they arrive."""

BORNE: dict[str, Node] = {
    "recursive": {"properties": {"l": {"$ref": "#"}, "r": {"$ref": "#"}}, "required": ["l"]},
    "recursive beside keywords": {
        "$defs": {"n": {"properties": {key: {"$ref": "#/$defs/n", "required": [key]} for key in "abcd"}}},
        "$ref": "#/$defs/n",
    },
    "2^20 combinations": _product(20, 2),
    "5^100 combinations": _product(100, 5),
    "2^8 anyOf": _doubling("anyOf", 8),
    "an enum of 2,000": {"enum": [f"value {at}" for at in range(2_000)]},
    "oneOf of 30 enums": {
        "oneOf": [{"enum": [at * 1_000 + each for each in range(300)]} for at in range(30)]
    },
    "oneOf of 400 objects": {"oneOf": [{"properties": {f"k{at}": {"const": at}}} for at in range(400)]},
    "300 conditions": {
        "allOf": [{"if": {"required": [f"a{at}"]}, "then": {"required": [f"b{at}"]}} for at in range(300)]
    },
    "(a+)+": {"pattern": "^(a+)+$"},
    "lookaround": {"pattern": "^(?=(a+)+b)(?!(c+)+d).*$"},
    "back references": {"pattern": r"^(a*)*\1(a*)*\1$"},
    "100 patterns for one text": {"allOf": [{"pattern": f"^([a-z]{{0,{at}}}.*b){{3}}"} for at in range(100)]},
    "300 patterns for names": _named(300, "^[a-z]{0,9}@x.*y{9}$"),
    "20 patterns for names": _named(20, r"^(\w{1,9}-){@}$"),
    "20 patterns for names, each by itself": {
        "allOf": [_named(1, rf"^(\w{{1,9}}-){{{at}}}$") for at in range(1, 21)]
    },
    "100 patterns for names, each by itself": {"allOf": [_named(1, f"^{at}x.*y{{9}}$") for at in range(100)]},
    "patterns for names inside each other": {
        "allOf": [
            {**_named(9, f".*{at}.*@"), "additionalProperties": _named(9, f"{at}@.*")} for at in range(9)
        ]
    },
    "a length of 10^12": {"type": "string", "minLength": 10**9, "maxLength": 10**12},
    "10^6 items": {"type": "array", "minItems": 10**6, "items": {"type": "array", "minItems": 10**6}},
    "5,000 properties": {"type": "object", "properties": {f"{at}": {} for at in range(4_900)}},
    "numbers of many digits": {"type": "number", "multipleOf": 1e-9, "minimum": -1e300, "maximum": 1e300},
}
"""Schemas that are schemas: answers can be judged by them, and they become a grammar or are none."""

TEXTS = ("a" * 3_000 + "!", "ab" * 2_000)
ANSWERS: tuple[Any, ...] = (*TEXTS, dict.fromkeys(TEXTS, "x"), [[]] * 1_000, {"l": {"l": {"r": {}}}}, 1)


def _outcome(step: Callable[[], object]) -> str:
    try:
        step()
    except ServerError as error:
        return error.kind.value
    return "done"


def tried(schema: Node) -> list[str]:
    """Return what loading ``schema``, judging :data:`ANSWERS` by it and compiling it came to."""
    text = json.dumps(schema).encode()
    output = OutputFormat(kind="json_schema", schema=Raw(text))
    return [
        _outcome(lambda: load(text)),
        _outcome(lambda: [Validator.of(load(text)).problems(answer) for answer in ANSWERS]),
        _outcome(lambda: compile_output(output)),
    ]


def limited(schema: Node) -> object:
    """Return what :func:`tried` returns in a process of its own, or the signal that ended it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()  # proc(5)
        resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, held + MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
        try:
            os.write(writing, json.dumps(tried(schema)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        outcome = told.read()
    _, status = os.waitpid(child, 0)
    return json.loads(outcome) if outcome else os.waitstatus_to_exitcode(status)


def main() -> int:
    """Try every schema."""
    tried({"type": "object", "properties": {"a": {"pattern": "a"}}})  # loads the engines, which all share
    json.dump({name: limited(schema) for name, schema in {**REFUSED, **BORNE}.items()}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
