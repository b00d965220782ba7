"""Read a caller's body strictly: what is wrong is said by path, with what was expected and what came."""

import json
import re
from collections.abc import Mapping
from typing import Any, Generic, Never, TypeVar

import msgspec
from msgspec import Raw

from llm_server.contract import ErrorKind, ServerError
from llm_server.wire.shapes import Shape

_EMPTY = Raw(b"")

MAX_DEPTH = 64
"""Bound on nested arrays and objects; deeper bodies are attacks on recursive readers behind us."""

T = TypeVar("T")

_NOT_STRUCTURE = bytes(code for code in range(256) if code not in b'[]{}"')
_AS_ARRAYS = bytes.maketrans(b"{}", b"[]")
_PAIRS = json.JSONDecoder(object_pairs_hook=list)
_ESCAPED_ASCII = re.compile(rb"\\u00[4-7]")
_AT = re.compile(r" - at `(?:key in )?\$\.?(?P<path>[^`]*)`$")
_MISSING = re.compile(r"^Object missing required field `(?P<field>[^`]+)`$")
_EXPECTED = re.compile(r"^Expected `(?P<types>[^`]+)`(?P<limit>.*?)(?:, got `[^`]+`)?$")
_BYTE = re.compile(r"^JSON is malformed: (?P<what>.*) \(byte (?P<at>\d+)\)$")
_WORDS = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "a boolean",
    "object": "an object",
    "array": "an array",
}


def invalid(path: str, message: str) -> ServerError:
    """Return the error for a caller's field: ``path`` where it is, ``message`` what is wrong with it."""
    return ServerError(ErrorKind.INVALID_REQUEST, f"{path}: {message}", param=path)


def object_or_empty(raw: Raw) -> Raw | None:
    """Return ``raw`` if it holds a JSON object, empty if it is null or empty, ``None`` for anything else."""
    first = bytes(memoryview(raw)[:1])
    if first == b"{":
        return raw
    return _EMPTY if first in {b"", b"n"} else None


class Reader(Generic[T]):
    """Decodes bodies of one wire type.

    Beyond the types it refuses what would be read differently by different readers (bytes that are not UTF-8,
    a repeated ``model``) and what is too deep. ``hints`` adds advice to an error, by the name of its field.
    """

    def __init__(self, kind: type[T], hints: Mapping[str, str] | None = None) -> None:
        self._decoder = msgspec.json.Decoder(kind)
        self._shape = Shape.of(kind)
        self._hints = hints or {}

    def read(self, body: bytes) -> T:
        """Return the request in ``body``.

        Raises:
            ServerError: ``INVALID_REQUEST``; ``param`` is the field's path when one field is at fault.
        """
        if body.count(b"{") + body.count(b"[") > MAX_DEPTH:
            _check_depth(body)
        try:
            request = self._decoder.decode(body)
        except msgspec.ValidationError as error:
            request = self._read_again(body, error)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _malformed(body, error) from None
        if not body.isascii():
            _check_utf8(body)
        if body.find(b'"model"') != body.rfind(b'"model"') or (b"\\" in body and _ESCAPED_ASCII.search(body)):
            _check_one_model(body)
        return request

    def unmodelled(self, body: bytes) -> tuple[str, ...]:
        """Return the paths of the fields in a readable ``body`` that the type does not model, each once."""
        return tuple(dict.fromkeys(self._shape.unknown(msgspec.json.decode(body))))

    def _read_again(self, body: bytes, error: msgspec.ValidationError) -> T:
        """Read a body with parts of a type that nobody here knows, if that was its only fault."""
        try:
            value = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as malformed:
            raise _malformed(body, malformed) from None
        neutral = self._shape.neutral(value)
        if neutral == value:
            self._refuse(value, error)
        try:
            return self._decoder.decode(msgspec.json.encode(neutral))
        except msgspec.ValidationError as other:
            self._refuse(value, other)

    def _refuse(self, value: Any, error: msgspec.ValidationError) -> Never:
        message = str(error)
        found = _AT.search(message)
        path = found["path"] if found else ""
        what = message[: found.start()] if found else message
        if missing := _MISSING.match(what):
            path, text = f"{path}.{missing['field']}".lstrip("."), "this field is required."
        else:
            came = "" if "[...]" in path else f", got {_described(_at(value, path))}"
            text = f"expected {self._expected(what, value, path)}{came}."
        hint = self._hints.get(path.rpartition(".")[2], "")
        where = path or "The body"
        full = f"{where}: {text} {hint}".rstrip()
        raise ServerError(ErrorKind.INVALID_REQUEST, full, param=path or None) from None

    def _expected(self, what: str, value: Any, path: str) -> str:
        if expected := _EXPECTED.match(what):
            types = [_WORDS.get(word, word) for word in expected["types"].split(" | ")]
            return " or ".join(types) + expected["limit"]
        if values := self._shape.allowed(value, path):
            return "one of " + ", ".join(_described(known) for known in values)
        return "a value in range" if what == "Number out of range" else "another value"


def _at(value: Any, path: str) -> object:
    """Return what stands at ``path``; the nearest thing above it where the path cannot be followed."""
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path):
        try:
            value = value[int(index)] if index else value[name]
        except (LookupError, TypeError):
            break
    return value


def _described(value: object) -> str:
    """Say what ``value`` is: scalars as JSON, long or composed things by kind and size."""
    match value:
        case str() if len(value) > 40:
            return f"a string of {len(value)} characters"
        case list():
            return f"an array of {len(value)}"
        case dict():
            return "an object"
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 50 else "a very large number"


def _malformed(body: bytes, error: Exception) -> ServerError:
    if isinstance(error, RecursionError):
        return _too_deep()
    try:
        body.decode()
    except UnicodeDecodeError as bad:
        what, at = "not UTF-8", bad.start
    else:
        found = _BYTE.match(str(error))
        what, at = (found["what"], int(found["at"])) if found else ("malformed or cut off", len(body))
    line, column = body.count(b"\n", 0, at) + 1, at - body.rfind(b"\n", 0, at)
    message = f"The body is not valid JSON: {what} at line {line}, column {column} (byte {at})."
    return ServerError(ErrorKind.INVALID_REQUEST, message)


def _too_deep() -> ServerError:
    return ServerError(ErrorKind.INVALID_REQUEST, f"The body is nested more than {MAX_DEPTH} levels deep.")


def _check_utf8(body: bytes) -> None:
    """Fields that nobody models are skipped unread, but go upstream: they must be UTF-8 too."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise _malformed(body, error) from None


def _check_depth(body: bytes) -> None:
    """Peel the brackets of ``body`` that are not in strings, each time the innermost pairs: one level a turn.

    A body that is not balanced stops peeling early and is left to the decoder, which refuses it.
    """
    bare = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(_AS_ARRAYS, _NOT_STRUCTURE)
    brackets = b"".join(bare.split(b'"')[::2])
    for _ in range(MAX_DEPTH):
        peeled = brackets.replace(b"[]", b"")
        if len(peeled) == len(brackets):
            return
        brackets = peeled
    if brackets:
        raise _too_deep()


def _check_one_model(body: bytes) -> None:
    """Refuse a second ``model``: readers differ in which one they take, and it decides who may call what."""
    pairs = _PAIRS.decode(body.decode())
    if sum(key == "model" for key, _ in pairs) > 1:
        raise invalid("model", "this field is given more than once.")
