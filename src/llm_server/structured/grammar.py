"""Grammars for constrained decoding: every constraint becomes one text that llguidance is known to take.

Nothing reaches an engine that was not compiled here first: engines run unconstrained, or break, when they are
handed a grammar that they refuse. The installed llguidance has the version that llama.cpp carries inside, so
that what passes here passes there.
"""

import asyncio
import re
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from types import ModuleType
from typing import Any, Literal

import msgspec
from msgspec import Struct

from llm_server.contract import ErrorKind, OutputFormat, ServerError
from llm_server.structured.affording import affordable
from llm_server.structured.ending import ended
from llm_server.structured.equivalences import Node
from llm_server.structured.problems import shortened
from llm_server.structured.relaxing import Keeping, relaxed
from llm_server.structured.remembering import Recent
from llm_server.structured.schema import Schema, load
from llm_server.structured.simplifying import simplified

HEADER = "%llguidance {}\n"
"""Tells llama.cpp that a grammar is llguidance's Lark, not its own GBNF; llguidance reads over it."""
OPTIONS = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": ", "lenient": True}
"""JSON is laid out in one way, since small models fill their limit with white space wherever it is free; the
separators are texts in llguidance 1.0 and patterns from 1.1, and these mean the same in both.

Lenient is exact as long as nothing is left out: then there is no warning, and the grammar is the one that the
strict way makes. ``oneOf`` is the first to be let go (``anyOf`` takes its place), then what is not known.
"""
_CONTENT = frozenset({"contentEncoding", "contentMediaType"})
MAX_CHOICES = 2_000
MAX_GRAMMAR = 64 * 1024
"""Most bytes of a grammar or of all choices."""
MAX_REGEX = 4_096
"""Most characters of a regular expression that is the whole constraint."""


class Compiled(Struct, frozen=True):
    """A constraint that an engine with llguidance can hold to.

    ``exact``: whatever the grammar lets through satisfies the constraint, as far as llguidance promises
    (names of undeclared properties may repeat). ``relaxed``: ``dropped`` names what the grammar does not
    enforce. Answers are validated in both cases. ``text`` is the grammar, in llguidance's Lark.
    """

    kind: Literal["json_object", "json_schema", "regex", "choice", "grammar"]
    guarantee: Literal["exact", "relaxed"]
    text: str
    dropped: tuple[str, ...] = ()


async def prepare(output: OutputFormat) -> Compiled:
    """Compile ``output`` in a thread, or recall it; raises as :func:`compile_output` does."""
    known = _RECENT.get(_key(output))
    return known if known is not None else await asyncio.to_thread(compile_output, output)


def compile_output(output: OutputFormat) -> Compiled:
    """Compile ``output``, or recall what it came to; takes milliseconds, so call :func:`prepare` in a loop.

    Raises:
        ServerError: ``INVALID_REQUEST`` for a constraint that is wrong in itself or that no answer can
            satisfy; ``UNSUPPORTED`` for a schema that cannot be made a grammar.
    """
    key = _key(output)
    known = _RECENT.get(key)
    if known is None:
        known = _COMPILERS[output.kind](output)
        _RECENT.put(key, known, len(known.text))
    return known


_RECENT: Recent[bytes, Compiled] = Recent(count=256, weight=4 * 1024 * 1024)
"""Grammars by the hash of their constraint as written: the order of properties is part of it."""


def _key(output: OutputFormat) -> bytes:
    parts = (output.kind, bytes(output.schema).decode(), output.pattern, output.choices, output.grammar)
    return sha256(msgspec.json.encode(parts)).digest()


def accepts(compiled: Compiled, text: str) -> bool:
    """Tell whether ``text`` is a whole answer that the grammar lets through."""
    matcher = engine().LLMatcher(_bytes_tokenizer(), compiled.text, log_level=0)
    return bool(matcher.consume_tokens(list(text.encode())) and matcher.is_accepting())


@cache
def engine() -> ModuleType:
    """Return the module ``llguidance``, loaded at first use: it takes a twentieth of a second."""
    import llguidance

    return llguidance


@cache
def _bytes_tokenizer() -> Any:
    """Return a tokenizer whose tokens are the 256 bytes, then the end."""
    return engine().LLTokenizer(engine().TokenizerWrapper(_Bytes()))


class _Bytes:
    eos_token_id = 256
    bos_token_id = None
    special_token_ids = (256,)
    tokens = (*(bytes((byte,)) for byte in range(256)), b"<end>")

    def __call__(self, text: bytes | str) -> list[int]:
        return list(text if isinstance(text, bytes) else text.encode())


def _json_schema(output: OutputFormat) -> Compiled:
    """Compile the whole schema, or else what is left of it when it asks for less."""
    schema = load(bytes(output.schema))
    unheard = _unheard(schema)
    failure, messages = "", [""]
    for value, lost in _attempts(simplified(schema)):
        schema_text = _schema_text(value)
        # Through Lark it would be the same compiler, behind a parser that costs more than most schemas.
        failed, messages = _validate(engine().LLMatcher.grammar_from_json_schema(schema_text), written=False)
        if not failed:
            warned = (word for message in messages for word in _words(message))
            dropped = tuple(sorted({*lost, *unheard, *warned}))
            return Compiled(output.kind, "relaxed" if dropped else "exact", _lark(schema_text), dropped)
        failure = failure or messages[0]
    if "Unsatisfiable" in messages[0]:
        raise _refused(ErrorKind.INVALID_REQUEST, "No value can satisfy the schema", messages[0])
    raise _refused(ErrorKind.UNSUPPORTED, "The schema cannot be enforced by a grammar", failure)


def _attempts(value: Node) -> Iterator[tuple[Node, tuple[str, ...]]]:
    """Yield what to compile, and what is lost already; that a text has an end is what is given up first.

    A length beside a pattern that is open in front is more than the compiler can see through.
    """
    keeping = affordable(value)
    attempts = [(value, ())] if keeping == Keeping() else []
    for each, lost in [*attempts, relaxed(value, keeping)]:
        short = ended(each)
        yield from ((short, lost), (each, lost)) if short != each else ((each, lost),)


def _unheard(schema: Schema) -> frozenset[str]:
    """Return the keywords that validation heeds and llguidance passes over without a word."""
    if schema.draft not in {"6", "7"}:  # before they asserted nothing, and after
        return frozenset()
    return frozenset(key for place in schema.document.places for key in _CONTENT & place.node.keys())


def _validate(text: str, *, written: bool) -> tuple[bool, list[str]]:
    """Return whether llguidance refuses ``text``, and its messages; less work for what a caller wrote."""
    fuel, size = (200_000, 20_000) if written else (1_000_000, 200_000)
    limits = engine().LLParserLimits(initial_lexer_fuel=fuel, max_grammar_size=size)
    failed, messages = engine().LLMatcher.validate_grammar_with_warnings(
        text, _bytes_tokenizer(), limits=limits
    )
    return bool(failed), list(messages)


def _schema_text(value: Node) -> str:
    return msgspec.json.encode(value | {"x-guidance": OPTIONS}).decode()


def _lark(schema_text: str) -> str:
    return f"{HEADER}start: %json {schema_text}"


_WARNINGS = (
    (re.compile(r"Unimplemented keys: (\[.*\])"), lambda found: msgspec.json.decode(found[1])),
    (re.compile(r"Unknown format: (\S+)"), lambda found: [f"format {found[1]}"]),
    (re.compile(r"^oneOf"), lambda _: ["oneOf"]),
    (re.compile(r"^min/maxProperties"), lambda _: ["maxProperties", "minProperties"]),
)


def _words(warning: str) -> list[str]:
    """Return the keywords that a warning of llguidance is about; the warning itself where it is unknown."""
    for pattern, words in _WARNINGS:
        if found := pattern.search(warning):
            return [str(word) for word in words(found)]
    return [shortened(warning)]


def _json_object(output: OutputFormat) -> Compiled:
    return Compiled(output.kind, "exact", _lark(_schema_text({"type": "object"})))


def _regex(output: OutputFormat) -> Compiled:
    """The pattern matches the whole answer: ``^`` and ``$`` at its ends say what holds anyway."""
    pattern = output.pattern.removeprefix("^")
    if pattern.endswith("$") and not pattern.endswith("\\$"):
        pattern = pattern[:-1]
    _bound("The pattern", len(pattern), MAX_REGEX, "characters")
    return _checked(output, f"start: /{engine().regex_to_lark(f'({pattern})', 'd')}/")


def _choice(output: OutputFormat) -> Compiled:
    _bound("The list of choices", len(output.choices), MAX_CHOICES, "choices")
    _bound("The list of choices", sum(map(len, output.choices)), MAX_GRAMMAR, "characters")
    spelled = (msgspec.json.encode(each).decode() for each in dict.fromkeys(output.choices))
    return _checked(output, "start: " + " | ".join(spelled))


def _grammar(output: OutputFormat) -> Compiled:
    """Lark as it is; GBNF and the EBNF of vLLM are converted."""
    from llguidance.gbnf_to_lark import any_to_lark

    _bound("The grammar", len(output.grammar.encode()), MAX_GRAMMAR, "bytes")
    try:
        text = any_to_lark(output.grammar)
    except Exception as error:  # the converter raises bare Exception for some mistakes
        raise _refused(ErrorKind.INVALID_REQUEST, "The grammar cannot be read", str(error)) from error
    return _checked(output, text)


def _checked(output: OutputFormat, lark: str) -> Compiled:
    if _REPEATS.search(lark):
        raise _refused(
            ErrorKind.INVALID_REQUEST, f"The {output.kind} is refused", "10,000 repetitions or more"
        )
    text = lark if lark.startswith("%llguidance") else HEADER + lark
    failed, messages = _validate(text, written=True)
    if failed:
        raise _refused(ErrorKind.INVALID_REQUEST, f"The {output.kind} is refused", messages[0])
    return Compiled(output.kind, "exact", text)


_REPEATS = re.compile(r"\{\s*(\d{5,}|\d*\s*,\s*\d{5,}|\d{5,}\s*,)\s*\}")
"""Repetitions are built one by one before their number is looked at."""


def _bound(what: str, size: int, limit: int, unit: str) -> None:
    if not 0 < size <= limit:
        raise _refused(ErrorKind.INVALID_REQUEST, what, f"it has {size} {unit}; 1 to {limit} are taken")


def _refused(kind: ErrorKind, what: str, why: str) -> ServerError:
    """Return the error with the line of ``why`` that says it: the rest quotes the grammar back."""
    first, *rest = why.splitlines() or [""]
    line = next((line.removeprefix("error: ") for line in rest if line.startswith("error: ")), first)
    return ServerError(kind, f"{what}: {shortened(line)}.", detail=why[:2_000])


_COMPILERS = {
    "json_object": _json_object,
    "json_schema": _json_schema,
    "regex": _regex,
    "choice": _choice,
    "grammar": _grammar,
}
