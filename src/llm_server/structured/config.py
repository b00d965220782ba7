"""Settings of the structured room."""

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from llm_server.structured.expressions import Expression


class RuleConfig(BaseModel):
    """What an answer must hold to beyond its schema. One rule may say several things about one place."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schemas: str = Field(
        default="*",
        min_length=1,
        description="The formats meant, a pattern over names: `json_schema.name`, a registered schema's id, "
        "or the name of a forced tool.",
        examples=["invoice*"],
    )
    at: str = Field(
        default="",
        pattern=r"^(/.*)?$",
        description="JSON pointer to the values meant, with `*` for any item or property; empty is the whole "
        "answer. A place that is not there is not checked.",
        examples=["/lines/*/text"],
    )
    check: str | None = Field(
        default=None,
        description="An expression that must be true: `value` is what stands at the place, `answer` all.",
        examples=["value.end >= value.start and size(value.lines) <= 20"],
    )
    python: str | None = Field(
        default=None,
        pattern=r"^[\w.]+:\w+$",
        description="A Python function, `module:name`, that is given the value and returns what was expected "
        "instead, in words, or nothing.",
    )
    one_of: tuple[str | int | float | bool | None, ...] | None = Field(
        default=None, description="Allowed values."
    )
    min_length: int | None = Field(default=None, ge=0, description="Characters of a text, items of a list.")
    max_length: int | None = Field(default=None, ge=0, description="Characters of a text, items of a list.")
    forbidden: tuple[str, ...] = Field(
        default=(), description="Regular expressions, in any case of letters, that no text there may contain."
    )
    language: str | None = Field(
        default=None,
        pattern=r"^[a-z]{2}$",
        description="ISO 639-1 code of the language that texts there must be in; short texts are not judged. "
        "Needs `pip install 'llm-server[language]'`.",
    )
    message: str | None = Field(
        default=None, description="What the model and the caller are told was expected."
    )

    @field_validator("check")
    @classmethod
    def _is_expression(cls, text: str | None) -> str | None:
        if text is not None:
            Expression(text)
        return text

    @field_validator("forbidden")
    @classmethod
    def _are_patterns(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"'{pattern}' is no regular expression: {error}") from None
        return patterns


class StructuredConfig(BaseModel):
    """How answers are brought into the form that a caller demands."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_attempts: int = Field(
        default=3,
        ge=1,
        le=10,
        description="Answers asked of a model until one is valid, before the next model.",
    )
    max_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Tokens, in and out, after which no further answer is asked of a model.",
    )
    formats: bool = Field(default=True, description="Whether `format` in a schema is checked.")
    stream: Literal["partial", "validated"] = Field(
        default="validated",
        description="How to stream where the model is not held to the form: as the answer grows, which cannot"
        " be taken back, or once it is valid. The header `x-llm-server-stream-structured` decides for one "
        "request.",
    )
    rules: tuple[RuleConfig, ...] = Field(
        default=(), description="What answers must hold to beyond their schemas."
    )
    transformers: dict[str, str] = Field(
        default={},
        description="Transformers of your own: name to `module:function`. It is given the answer and the "
        "parameters by name, and returns the new answer.",
        examples=[{"redact": "my_package.cleaning:redact"}],
    )
