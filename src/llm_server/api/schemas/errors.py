"""Error answers of both dialects."""

from typing import Literal

from pydantic import ConfigDict, Field

from llm_server.api.schemas.shared import AnswerModel


class OpenAIErrorDetail(AnswerModel):
    """What went wrong, in OpenAI's form."""

    message: str = Field(description="What is wrong, and what to do about it.")
    type: str = Field(description="Class of the error.", examples=["invalid_request_error"])
    param: str | None = Field(description="Path of the field at fault.", examples=["messages[0].content"])
    code: str | None = Field(description="Stable name of the cause.", examples=["model_not_found"])


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
