"""Settings of the structured room."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from llm_server.structured.expressions import MAX_TEXT, Expression
from llm_server.structured.languages import classifier
from llm_server.structured.patterns import Pattern
from llm_server.structured.registered import registered
from llm_server.structured.transformers import BUILT_IN


def _expression(text: str) -> str:
    Expression(text)
    return text


def _pattern(text: str) -> str:
    Pattern(text)
    return text


def _language(code: str) -> str:
    classifier(code)
    return code


def _rule(name: str) -> str:
    registered(name, alone=True)
    return name


def _transformer(name: str) -> str:
    registered(name, alone=False)
    return name


def _new_name(name: str) -> str:
    if name in BUILT_IN:
        raise ValueError("there is a transformer of this name already")
    return name


_NAMED = r"^[\w.]+:\w+$"


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
    check: Annotated[str, Field(max_length=MAX_TEXT), AfterValidator(_expression)] | None = Field(
        default=None,
        description="An expression that must be true: `value` is what stands at the place, `answer` all.",
        examples=["value.end >= value.start and size(value.lines) <= 20"],
    )
    python: Annotated[str, Field(pattern=_NAMED), AfterValidator(_rule)] | None = Field(
        default=None,
        description="A Python function, `module:name`, that is given the value and returns what was expected "
        "instead, in words, or nothing. Its module must be installed, or its folder in PYTHONPATH.",
    )
    one_of: tuple[str | int | float | bool | None, ...] | None = Field(
        default=None, min_length=1, description="Allowed values."
    )
    min_length: int | None = Field(default=None, ge=0, description="Characters of a text, items of a list.")
    max_length: int | None = Field(default=None, ge=0, description="Characters of a text, items of a list.")
    forbidden: tuple[Annotated[str, AfterValidator(_pattern)], ...] = Field(
        default=(),
        description="Regular expressions, as in a schema's `pattern` but in any case of letters, that no "
        "text there may contain. They run in linear time, so they have no lookaround and no back references.",
    )
    language: Annotated[str, Field(pattern=r"^[a-z]{2,3}$"), AfterValidator(_language)] | None = Field(
        default=None,
        description="ISO 639 code of the language that texts there must be in; short texts are not judged. "
        "Needs `pip install 'llm-server[language]'`.",
    )
    message: str | None = Field(
        default=None, description="What the model and the caller are told was expected."
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        given = (self.check, self.python, self.one_of, self.min_length, self.max_length, self.language)
        if not self.forbidden and all(each is None for each in given):
            raise ValueError("it checks nothing")
        if self.max_length is not None and self.max_length < (self.min_length or 0):
            raise ValueError("its max_length is below its min_length")
        return self


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
    transformers: dict[
        Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_new_name)],
        Annotated[str, Field(pattern=_NAMED), AfterValidator(_transformer)],
    ] = Field(
        default={},
        description="Transformers of your own: name to `module:function`. It is given the answer and the "
        "parameters by name, and returns the new answer. Its module must be installed, or its folder in "
        "PYTHONPATH.",
        examples=[{"redact": "my_package.cleaning:redact"}],
    )
