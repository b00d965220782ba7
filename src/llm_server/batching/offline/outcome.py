"""What a finished line says in the output file, in OpenAI's form.

Source: https://platform.openai.com/docs/api-reference/batch/request-output.
"""

import secrets

import msgspec
from msgspec import Raw, Struct

from llm_server.contract import ErrorKind, LineOutcome, LineResult, ServerError, Usage

EXPIRED = ("batch_expired", "This request could not be executed before the completion window expired.")


class _Response(Struct, frozen=True):
    status_code: int
    request_id: str
    body: Raw


class _Error(Struct, frozen=True):
    code: str
    message: str


class _Line(Struct, frozen=True):
    id: str
    custom_id: str
    response: _Response | None
    error: _Error | None


class Named(Struct, frozen=True):
    """Which line it is: its number in the file and the caller's name for it; the request's own id."""

    number: int
    custom_id: str
    request_id: str = ""


def answered(named: Named, status: int, body: bytes, usage: Usage | None = None) -> LineResult:
    """Return the line of an answer, or of an error answer: anything but status 200 is a failure.

    Raises:
        ServerError: ``UPSTREAM_INVALID`` for a body that is no JSON: it would break the file.
    """
    try:
        flat = Raw(msgspec.json.format(body, indent=-1))
    except msgspec.DecodeError as error:
        message = "The provider's answer is not JSON."
        raise ServerError(ErrorKind.UPSTREAM_INVALID, message, detail=str(error)) from None
    response = _Response(status, named.request_id, flat)
    outcome: LineOutcome = "completed" if status == 200 else "failed"
    return _result(named, outcome, _Line(_id(), named.custom_id, response, None), usage)


def not_asked(named: Named, code: str, message: str) -> LineResult:
    """Return the line of a request that got no answer at all."""
    outcome: LineOutcome = "expired" if code == EXPIRED[0] else "failed"
    return _result(named, outcome, _Line(_id(), named.custom_id, None, _Error(code, message)), None)


def _result(named: Named, outcome: LineOutcome, line: _Line, usage: Usage | None) -> LineResult:
    data = msgspec.json.encode(line)
    return LineResult(number=named.number, outcome=outcome, data=data, usage=usage or Usage())


def _id() -> str:
    return f"batch_req_{secrets.token_hex(12)}"
