"""The lines of a batch's input file: found, checked, and read again where they stand."""

from array import array
from collections.abc import AsyncIterable, Iterator

import msgspec
from msgspec import Raw, Struct

from llm_server.contract import FileStore, LineProblem
from llm_server.contract.batches import PIECE_BYTES

MAX_CUSTOM_ID = 512
"""Characters of a ``custom_id``."""
MAX_PROBLEMS = 100
"""Problems that are told of one file."""
KEPT_PIECES = 4
"""Pieces of a file that are kept at hand: lines are read in order, a provider's answers come nearly so."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Asked(Struct, frozen=True, kw_only=True):
    """A line of an input file, as OpenAI documents it (``batch``, "Prepare your batch file")."""

    custom_id: str
    method: str
    url: str
    body: Raw


class _Named(Struct, frozen=True):
    model: str = ""


class LineError(ValueError):
    """A line that is no request.

    Attributes:
        code: the stable name of the cause.
        param: the field at fault, or ``None``.
    """

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param

    def at(self, number: int | None) -> LineProblem:
        """Return this as the problem of line ``number``."""
        return LineProblem(code=self.code, message=str(self), param=self.param, line=number)


_decode = msgspec.json.Decoder(Asked).decode
_model = msgspec.json.Decoder(_Named).decode


def parse(line: bytes, endpoint: str) -> Asked:
    """Return the request that ``line`` is; raises :class:`LineError`.

    What its body means is looked at when it is asked: a body that is wrong fails its own line only.
    """
    try:
        asked = _decode(line)
    except msgspec.ValidationError as error:
        raise LineError("invalid_request", f"This line is not a request: {error}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise LineError("invalid_json_line", "This line is not parseable as valid JSON.") from None
    if not 0 < len(asked.custom_id) <= MAX_CUSTOM_ID:
        raise LineError("invalid_custom_id", f"custom_id: 1 to {MAX_CUSTOM_ID} characters.", "custom_id")
    if asked.method != "POST":
        raise LineError("invalid_method", "method: the only method is POST.", "method")
    if asked.url != endpoint:
        message = f"url: must be the batch's endpoint, {endpoint}."
        raise LineError("mismatched_url", message, "url")
    if not bytes(asked.body).startswith(b"{"):
        raise LineError("invalid_body", "body: expected an object.", "body")
    return asked


def model_of(body: Raw) -> str:
    """Return the model that a body names, empty if it names none."""
    try:
        return _model(body).model
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


class Splitter:
    """Cuts a stream into lines, whatever pieces it comes in; no more than ``limit`` bytes of one are held.

    A line is given as its offset, its size and its bytes: ``None`` for a line beyond the limit.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held = bytearray()
        self._offset = 0
        self._dropped = 0

    def feed(self, data: bytes) -> Iterator[tuple[int, int, bytes | None]]:
        """Yield the lines that ``data`` completes."""
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            self._hold(data[start:end])
            yield self._taken(1)
            start = end + 1
        self._hold(data[start:])

    def end(self) -> Iterator[tuple[int, int, bytes | None]]:
        """Yield what came after the last line break, if anything."""
        if self._held or self._dropped:
            yield self._taken(0)

    def _hold(self, data: bytes) -> None:
        if self._dropped or len(self._held) + len(data) > self._limit:
            self._dropped += len(self._held) + len(data)
            self._held.clear()
        else:
            self._held += data

    def _taken(self, newline: int) -> tuple[int, int, bytes | None]:
        size = self._dropped or len(self._held)
        found = self._offset, size, None if self._dropped else bytes(self._held)
        self._offset += size + newline
        self._held.clear()
        self._dropped = 0
        return found


class Index:
    """Where the requests of a file stand: their line's number, from 1 on, its offset and its size."""

    def __init__(self) -> None:
        self._numbers, self._offsets, self._sizes = array("L"), array("Q"), array("L")

    def add(self, number: int, offset: int, size: int) -> None:
        """Add a request."""
        self._numbers.append(number)
        self._offsets.append(offset)
        self._sizes.append(size)

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        return iter(zip(self._numbers, self._offsets, self._sizes, strict=True))


class Checked(Struct, frozen=True):
    """What a file holds: its requests, why they cannot be run, and the one model that all of them name."""

    index: Index
    problems: tuple[LineProblem, ...]
    model: str | None


class Checking:
    """Checks the lines of one file, one after the other; ``one_model``: whether all must name the same."""

    def __init__(
        self, endpoint: str, max_lines: int, max_line_bytes: int, *, one_model: bool = False
    ) -> None:
        self._endpoint = endpoint
        self._one_model = one_model
        self._max_lines = max_lines
        self._max_line_bytes = max_line_bytes
        self._index = Index()
        self._problems: list[LineProblem] = []
        self._seen: set[str] = set()
        self._models: set[str] = set()
        self._number = 0

    async def __call__(self, content: AsyncIterable[bytes]) -> Checked:
        """Return what ``content`` holds."""
        splitter = Splitter(self._max_line_bytes)
        async for piece in content:
            for found in splitter.feed(piece):
                self._line(*found)
            if len(self._problems) >= MAX_PROBLEMS:
                break
        else:
            for found in splitter.end():
                self._line(*found)
            self._whole()
        model = self._models.pop() if len(self._models) == 1 else None
        return Checked(self._index, tuple(self._problems[:MAX_PROBLEMS]), model or None)

    def _line(self, offset: int, size: int, line: bytes | None) -> None:
        self._number += 1
        if line is not None and self._number == 1:
            line = line.removeprefix(BYTE_ORDER_MARK)
        if line is not None and not line.strip():
            return
        skipped = size - len(line or b"")
        try:
            self._request(line)
        except LineError as error:
            self._problems.append(error.at(self._number))
        else:
            self._index.add(self._number, offset + skipped, size - skipped)

    def _request(self, line: bytes | None) -> None:
        if line is None:
            message = f"This line is larger than {self._max_line_bytes} bytes."
            raise LineError("line_too_large", message)
        asked = parse(line, self._endpoint)
        if asked.custom_id in self._seen:
            message = "custom_id: an earlier line has it already; each must be unique."
            raise LineError("duplicate_custom_id", message, "custom_id")
        self._seen.add(asked.custom_id)
        self._model_of(asked)

    def _model_of(self, asked: Asked) -> None:
        if len(self._models) >= 2 and not self._one_model:
            return
        model = model_of(asked.body)
        if self._one_model and self._models and model not in self._models:
            (first,) = self._models
            message = (
                f"With provider_batch every line must name the same model: '{asked.custom_id}' names "
                f"'{model[:128]}', the lines before it '{first[:128]}'."
            )
            raise LineError("mismatched_model", message, "body.model")
        self._models.add(model)

    def _whole(self) -> None:
        if len(self._index) > self._max_lines:
            message = f"The file has {len(self._index)} requests; a batch takes up to {self._max_lines}."
            self._problems.insert(0, LineError("too_many_requests", message).at(None))
        elif not self._index and not self._problems:
            self._problems.append(LineError("empty_file", "The file has no requests.").at(None))


class Lines:
    """Reads requests again, by their place in the file; the pieces read last are kept at hand."""

    def __init__(self, files: FileStore, file_id: str, endpoint: str) -> None:
        self._files = files
        self._file_id = file_id
        self._endpoint = endpoint
        self._pieces: dict[int, bytes] = {}

    async def read(self, offset: int, size: int) -> Asked:
        """Return the request that stands at ``offset``, as it was checked."""
        first, last = offset // PIECE_BYTES, (offset + size - 1) // PIECE_BYTES
        found = [await self._piece(number) for number in range(first, last + 1)]
        start = offset - first * PIECE_BYTES
        whole = found[0] if len(found) == 1 else b"".join(found)
        return parse(whole[start : start + size], self._endpoint)

    async def _piece(self, number: int) -> bytes:
        if (found := self._pieces.get(number)) is None:
            found = await self._files.piece(self._file_id, number)
            while len(self._pieces) >= KEPT_PIECES:
                del self._pieces[next(iter(self._pieces))]
            self._pieces[number] = found
        return found
