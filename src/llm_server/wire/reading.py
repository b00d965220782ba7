"""Read a caller's body strictly: what is wrong is said by path, with what was expected and what came."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Never, TypeVar

import msgspec
from msgspec import Raw

from llm_server.contract import ErrorKind, ServerError, ToolChoice
from llm_server.wire.shapes import Shape
from llm_server.wire.structure import MAX_DEPTH, check_structure
from llm_server.wire.unread import at, opened, text

_EMPTY = Raw(b"")

MAX_NAMES = 50
"""Bound on the names of unmodelled fields that are told one by one."""

T = TypeVar("T")

_ENOUGH_NAMES = MAX_NAMES + 950
_MAX_OBJECTS = 40_000
"""Bound on what is looked into for parts of unknown types; above what messages, parts and tools may be."""
_AT = re.compile(r" - at `(?:key in )?\$\.?(?P<path>[^`]*)`$")
_MISSING = re.compile(r"^Object missing required field `(?P<field>[^`]+)`$")
_ABOUT_TYPE = re.compile(r"Invalid value|Object missing required field `type`")
_TOO_MANY = f"The body has more than {_MAX_OBJECTS} messages, content parts and tools."
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


def check_parts(messages: Sequence[Any], limit: int) -> None:
    """Refuse ``messages`` whose contents have more than ``limit`` parts in all."""
    count = sum([len(message.content) for message in messages if type(message.content) is list])
    if count > limit:
        raise invalid("messages", f"expected at most {limit} content parts in all messages, got {count}.")


def check_choice(choice: ToolChoice | None, tools: Sequence[Any] | None) -> None:
    """Refuse a choice that obliges to call a tool when there are no ``tools``, as the vendors do."""
    if choice is not None and choice.mode in {"required", "tool"} and not tools:
        raise invalid("tool_choice", "a tool can only be required when 'tools' are specified.")


def object_or_empty(raw: Raw) -> Raw | None:
    """Return ``raw`` if it holds a JSON object, empty if it is null or empty, ``None`` for anything else."""
    first = bytes(memoryview(raw)[:1])
    if first == b"{":
        return raw
    return _EMPTY if first in {b"", b"n"} else None


class Reader(Generic[T]):
    """Decodes bodies of one wire type.

    Beyond the types it refuses what would be read differently by different readers (bytes that are not UTF-8,
    a name that is given twice) and what is too deep or too much. ``hints`` adds advice to an error, by the
    name of its field.
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
        fault = check_structure(body)
        try:
            request = self._decoder.decode(body)
        except msgspec.ValidationError as error:
            request = self._read_again(body, error)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _malformed(body, error) from None
        if fault:  # in what the type does not model, which is skipped unread but goes upstream
            _check_utf8(body)
            raise ServerError(ErrorKind.INVALID_REQUEST, f"The body is not valid JSON: {fault}.")
        return request

    def unmodelled(self, body: bytes) -> tuple[str, ...]:
        """Return the paths of the fields in a readable ``body`` that the type does not model, each once.

        Never raises for a body that :meth:`read` accepts. After :data:`MAX_NAMES` paths a last entry,
        ``…+N more``, says how many are not told (950 also stands for more).
        """
        found: dict[str, None] = {}
        try:
            value = msgspec.json.decode(body)
        except msgspec.DecodeError:  # a number that nobody reads and no double holds
            value = _unread(body)
        for name in self._shape.unknown(value):
            found[name] = None
            if len(found) == _ENOUGH_NAMES:
                break
        names = tuple(found)
        more = len(names) - MAX_NAMES
        return (*names[:MAX_NAMES], f"…+{more} more") if more > 0 else names

    def _read_again(self, body: bytes, error: msgspec.ValidationError) -> T:
        """Read a body with parts of a type that nobody here knows, if that was its only fault."""
        _check_utf8(body)
        try:
            unread = _unread(body)
        except (msgspec.DecodeError, RecursionError) as malformed:
            raise _malformed(body, malformed) from None
        if not _ABOUT_TYPE.match(str(error)):
            self._refuse(unread, error)
        try:
            neutral = self._shape.neutral(unread, iter(range(_MAX_OBJECTS)))
        except OverflowError:
            raise ServerError(ErrorKind.INVALID_REQUEST, _TOO_MANY) from None
        if neutral is unread:
            self._refuse(unread, error)
        try:
            return self._decoder.decode(msgspec.json.encode(neutral))
        except msgspec.ValidationError as other:
            self._refuse(unread, other)

    def _refuse(self, body: Raw, error: msgspec.ValidationError) -> Never:
        message = str(error)
        found = _AT.search(message)
        path = found["path"] if found else ""
        what = message[: found.start()] if found else message
        if missing := _MISSING.match(what):
            path, said = f"{path}.{missing['field']}".lstrip("."), "this field is required."
        else:
            came = "" if "[...]" in path else _described(at(body, path))
            said = self._expected(what, body, path) + (f", got {came}." if came else ".")
        hint = self._hints.get(path.rpartition(".")[2], "")
        where = path or "The body"
        full = f"{where}: {said} {hint}".rstrip()
        raise ServerError(ErrorKind.INVALID_REQUEST, full, param=path or None) from None

    def _expected(self, what: str, body: Raw, path: str) -> str:
        if expected := _EXPECTED.match(what):
            types = [_WORDS.get(word, word) for word in expected["types"].split(" | ")]
            return f"expected {' or '.join(types)}{expected['limit']}"
        if values := self._shape.allowed(body, path):
            return "expected one of " + ", ".join(msgspec.json.encode(known).decode() for known in values)
        return "the number is out of range" if what == "Number out of range" else "expected another value"


def _unread(body: bytes) -> Raw:
    """Return the value in ``body``, unread; raises ``msgspec.DecodeError`` if it is not JSON."""
    return msgspec.json.decode(body, type=Raw)


def _described(raw: Raw) -> str:
    """Say what ``raw`` is: scalars as the caller wrote them, long or composed things by kind and size."""
    match opened(raw):
        case list(items):
            return f"an array of {len(items)}"
        case dict():
            return "an object"
    string = text(raw)
    if string is not None:
        return (
            msgspec.json.encode(string).decode()
            if len(string) <= 40
            else f"a string of {len(string)} characters"
        )
    return bytes(raw).decode() if len(memoryview(raw)) <= 50 else "a very large number"


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
    """Fields that nobody models are skipped unread, but must be UTF-8 too."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise _malformed(body, error) from None
