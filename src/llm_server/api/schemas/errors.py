"""Error answers of both dialects."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from llm_server.api.schemas.shared import AnswerModel


class ErrorProblem(AnswerModel):
    """One reason why a value is not what was demanded of it."""

    pointer: str = Field(description="JSON pointer to the place; empty for the whole.", examples=["/age"])
    keyword: str = Field(description="Keyword of JSON Schema, or name of the rule.", examples=["minimum"])
    expected: str = Field(examples=["at least 0"])
    found: str = Field(examples=["-1"])


def _is_none(value: object) -> bool:
    return value is None


Problems = Annotated[
    list[ErrorProblem] | None,
    Field(default=None, exclude_if=_is_none, description="Every reason, where a value was checked."),
]
RawText = Annotated[
    str | None,
    Field(default=None, exclude_if=_is_none, description="The model's words, where they could not be used."),
]


class OpenAIErrorDetail(AnswerModel):
    """What went wrong, in OpenAI's form."""

    message: str = Field(description="What is wrong, and what to do about it.")
    type: str = Field(description="Class of the error.", examples=["invalid_request_error"])
    param: str | None = Field(description="Path of the field at fault.", examples=["messages[0].content"])
    code: str | None = Field(description="Stable name of the cause.", examples=["model_not_found"])
    problems: Problems
    raw_text: RawText


class OpenAIError(AnswerModel):
    """An error answer to a client of the OpenAI dialect."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": {
                        "message": "temperature: expected a number <= 2.0, got 3.",
                        "type": "invalid_request_error",
                        "param": "temperature",
                        "code": None,
                    }
                }
            ]
        }
    )

    error: OpenAIErrorDetail


class AnthropicErrorDetail(AnswerModel):
    """What went wrong, in Anthropic's form."""

    type: str = Field(description="Class of the error.", examples=["invalid_request_error"])
    message: str = Field(description="What is wrong, and what to do about it; begins with the field's path.")
    problems: Problems
    raw_text: RawText


class AnthropicError(AnswerModel):
    """An error answer to a client of the Anthropic dialect."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "error",
                    "error": {"type": "rate_limit_error", "message": "Too many requests in this minute."},
                    "request_id": "req_011CSHoEeqs5C35K2UUqR7Fy",
                }
            ]
        }
    )

    type: Literal["error"]
    error: AnthropicErrorDetail
    request_id: str | None = Field(default=None, description="Also in the `request-id` header.")
