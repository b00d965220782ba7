"""Every error in every dialect: the vendor's own SDK raises its own exception for it."""

import json

import anthropic
import openai
import pytest

from llm_server.api.schemas.errors import AnthropicError, OpenAIError
from llm_server.contract import ErrorKind, Problem, ServerError
from llm_server.wire import ANTHROPIC_MESSAGES, OPENAI_CHAT
from llm_server.wire.anthropic import errors as anthropic_errors
from llm_server.wire.openai import errors as openai_errors
from tests.wire.vendors import ANTHROPIC, ASK, OPENAI, REPLY

OPENAI_RAISES: dict[int, type[openai.APIStatusError]] = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    402: openai.APIStatusError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    405: openai.APIStatusError,
    409: openai.ConflictError,
    422: openai.UnprocessableEntityError,
    413: openai.APIStatusError,
    429: openai.RateLimitError,
    499: openai.APIStatusError,
    500: openai.InternalServerError,
    502: openai.InternalServerError,
    503: openai.InternalServerError,
    504: openai.InternalServerError,
}
ANTHROPIC_RAISES: dict[int, str] = {
    400: "BadRequestError",
    401: "AuthenticationError",
    402: "PaymentRequiredError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    405: "APIStatusError",
    409: "ConflictError",
    422: "UnprocessableEntityError",
    413: "ContentTooLargeError",
    429: "RateLimitError",
    499: "ClientClosedRequestError",
    500: "InternalServerError",
    502: "InternalServerError",
    503: "ServiceUnavailableError",
    504: "GatewayTimeoutError",
}


@pytest.mark.parametrize("kind", ErrorKind)
def test_openai_s_sdk_raises_its_own_exception(kind: ErrorKind) -> None:
    REPLY.whole(OPENAI_CHAT.error(ServerError(kind, "What is wrong.", param="a.b"), "req_1"), kind.status)
    with pytest.raises(openai.APIStatusError) as raised:
        OPENAI.chat.completions.create(**ASK)
    error = raised.value
    assert type(error) is OPENAI_RAISES[kind.status]
    assert (error.type, error.code) == openai_errors.WORDS[kind]
    assert error.param == "a.b"
    assert error.body["message"] == "What is wrong."  # type: ignore[index]  # the SDK types it as object


@pytest.mark.parametrize("kind", ErrorKind)
def test_anthropic_s_sdk_raises_its_own_exception(kind: ErrorKind) -> None:
    REPLY.whole(ANTHROPIC_MESSAGES.error(ServerError(kind, "What is wrong."), "req_1"), kind.status)
    with pytest.raises(anthropic.APIStatusError) as raised:
        ANTHROPIC.messages.create(**ASK, max_tokens=9)
    error = raised.value
    assert type(error).__name__ == ANTHROPIC_RAISES[kind.status]
    assert error.type == anthropic_errors.WORDS[kind]
    assert error.api_message == "What is wrong."
    assert error.request_id == "req_1"


@pytest.mark.parametrize("kind", ErrorKind)
def test_errors_are_as_documented(kind: ErrorKind) -> None:
    error = ServerError(kind, "What is wrong.", detail="for the operator")
    for codec, model in ((OPENAI_CHAT, OpenAIError), (ANTHROPIC_MESSAGES, AnthropicError)):
        body = codec.error(error, "req_1")
        assert model.model_validate_json(body).model_dump(mode="json") == json.loads(body)
        assert b"operator" not in body


def test_reasons_and_words_are_in_the_body_where_there_are_any() -> None:
    problem = Problem("/age", "minimum", "at least 0", "-1")
    error = ServerError(ErrorKind.OUTPUT_INVALID, "Invalid.").because([problem], "{}")
    for codec, model in ((OPENAI_CHAT, OpenAIError), (ANTHROPIC_MESSAGES, AnthropicError)):
        body = codec.error(error, "req_1")
        assert model.model_validate_json(body).model_dump(mode="json") == json.loads(body)
        told = json.loads(body)["error"]
        assert told["problems"] == [
            {"pointer": "/age", "keyword": "minimum", "expected": "at least 0", "found": "-1"}
        ]
        assert told["raw_text"] == "{}"
        assert b"raw_text" not in codec.error(ServerError(ErrorKind.INTERNAL, "x"), "req_1")


def test_anthropic_s_body_names_the_request() -> None:
    body = json.loads(ANTHROPIC_MESSAGES.error(ServerError(ErrorKind.INTERNAL, "x"), "req_1"))
    assert body["request_id"] == "req_1"
