"""What the schema registry and the native structured endpoint take and give."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.config import JsonDict

from llm_server.api.schemas.errors import ErrorProblem

SCHEMA_EXAMPLE: JsonDict = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}

JsonSchema = Annotated[
    dict[str, Any],
    Field(
        description="A JSON Schema, drafts 4 to 2020-12; only local references.", examples=[SCHEMA_EXAMPLE]
    ),
]
Mode = Annotated[
    Literal["none", "backward", "forward", "full"] | None,
    Field(
        description="What a new version owes the one before: `backward` keeps valid what was valid, "
        "`forward` the reverse, `full` both. Default: as it is; `none` at first."
    ),
]


class Asked(BaseModel):
    """Base of what is taken: strict types, unknown fields refused."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


class Given(BaseModel):
    """Base of what is given."""

    model_config = ConfigDict(frozen=True)


class Described(Asked):
    """A schema and what is said of it."""

    schema_: JsonSchema = Field(alias="schema")
    name: str | None = Field(default=None, min_length=1, max_length=200, pattern=r"^[^\x00]*$")
    description: str | None = Field(default=None, max_length=4000, pattern=r"^[^\x00]*$")
    examples: list[Any] | None = Field(
        default=None, max_length=16, description="Values that follow the schema; each is checked."
    )
    compatibility: Mode = None


class NewSchema(Described):
    """A schema to register."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"id": "person", "name": "Person", "schema": SCHEMA_EXAMPLE, "examples": [{"name": "Ada"}]}
            ]
        }
    )

    id: str | None = Field(
        default=None,
        description="1 to 64 letters, digits, dots, dashes and underscores. Default: made of the name.",
    )


class SchemaChange(Described):
    """The next version of a schema. With the schema of the latest version only the rest is replaced."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"schema": SCHEMA_EXAMPLE, "compatibility": "backward"}]}
    )


class SchemaSummary(Given):
    """A registered schema, without the schema itself."""

    object: Literal["schema"] = "schema"
    id: str
    name: str
    description: str
    compatibility: Literal["none", "backward", "forward", "full"]
    created_at: int = Field(description="Unix time in seconds.")
    latest_version: int
    versions: list[int] = Field(description="Versions that may be used.")


class SchemaDetails(SchemaSummary):
    """A version of a registered schema."""

    version: int
    schema_: JsonSchema = Field(serialization_alias="schema")
    examples: list[Any]
    digest: str = Field(description="SHA-256 of the canonical schema: two spellings of one schema share it.")
    version_created_at: int = Field(description="Unix time in seconds.")


class SchemaList(Given):
    """A page of schemas, in order of id; `after=last_id` asks for the next."""

    object: Literal["list"] = "list"
    data: list[SchemaSummary]
    has_more: bool
    last_id: str | None


class SchemaDeleted(Given):
    """What was deleted."""

    object: Literal["schema.deleted"] = "schema.deleted"
    id: str
    version: int | None = Field(description="The version, `null` for all.")
    deleted: Literal[True] = True


class BreakingChange(Given):
    """One change that breaks."""

    pointer: str = Field(description="JSON pointer into the schema.", examples=["/properties/age/minimum"])
    change: str = Field(description="The change's name.", examples=["minimum_raised"])
    before: str
    after: str


class CompatibilityReport(Given):
    """Whether one version is compatible with another, and what breaks."""

    id: str
    from_: int = Field(serialization_alias="from")
    to: int
    backward_compatible: bool = Field(
        description="Whether all that the earlier one takes the later one takes."
    )
    forward_compatible: bool = Field(
        description="Whether all that the later one takes the earlier one takes."
    )
    backward_breaking: list[BreakingChange]
    forward_breaking: list[BreakingChange]


class InferenceRequest(Asked):
    """Examples of answers, or a description in plain words; exactly one of them."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"examples": [{"city": "Oslo", "population": 709037}]}]}
    )

    examples: list[Any] | None = Field(default=None, min_length=1, max_length=1000)
    description: str | None = Field(default=None, min_length=1, max_length=20_000)
    model: str | None = Field(default=None, description="Who turns a description into a schema.")
    closed: bool = Field(default=True, description="Whether objects refuse properties that no example has.")


class InferredSchema(Given):
    """A proposed schema; nothing is registered yet."""

    schema_: JsonSchema = Field(serialization_alias="schema")


class TransformerStep(Asked):
    """One transformer. Its name alone stands for one without parameters."""

    name: str = Field(examples=["format_dates"])
    parameters: dict[str, Any] = Field(default={}, examples=[{"inputs": ["%d.%m.%Y"], "at": ["/born"]}])


def _named(step: Any) -> Any:
    return {"name": step} if isinstance(step, str) else step


class Turn(Asked):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class Sampled(Asked):
    """How tokens are chosen; what is left out is the model's own default."""

    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=1)
    seed: int | None = None
    stop: list[str] | None = Field(default=None, max_length=16)


class StructuredRequest(Sampled):
    """What to ask, and the schema that the answer must follow."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "local/smollm2-135m",
                    "prompt": "Ada Lovelace was 36.",
                    "schema": SCHEMA_EXAMPLE,
                    "transformers": [{"name": "trim"}],
                }
            ]
        }
    )

    model: str = Field(min_length=1)
    prompt: str | None = Field(default=None, min_length=1, description="One user turn; or give `messages`.")
    messages: list[Turn] | None = Field(default=None, min_length=1)
    schema_: dict[str, Any] | None = Field(
        default=None,
        alias="schema",
        description="A JSON Schema; or give `schema_id`.",
        examples=[SCHEMA_EXAMPLE],
    )
    schema_id: str | None = Field(default=None, description="A registered schema.")
    schema_version: int | None = Field(default=None, ge=1, description="Its version. Default: the latest.")
    transformers: list[
        Annotated[TransformerStep, BeforeValidator(_named, json_schema_input_type=TransformerStep | str)]
    ] = Field(
        default=[],
        max_length=32,
        description="Applied in order to the valid answer.",
        examples=[["trim", {"name": "drop_nulls"}]],
    )
    target_schema: dict[str, Any] | None = Field(
        default=None, description="What the converted answer must follow."
    )
    max_attempts: int | None = Field(
        default=None, ge=1, le=10, description="Answers asked of one model until one is valid."
    )


class UsedSchema(Given):
    """The registered schema that was used."""

    id: str
    version: int


class UsedTokens(Given):
    """Tokens of all attempts at the model that answered."""

    input_tokens: int
    output_tokens: int
    total_tokens: int


class StructuredCompletion(Given):
    """An answer that follows the schema, and how it came about."""

    id: str
    object: Literal["structured.completion"] = "structured.completion"
    created: int = Field(description="Unix time in seconds.")
    model: str
    schema_: UsedSchema | None = Field(
        serialization_alias="schema", description="`null` for an inline schema."
    )
    raw_text: str = Field(description="The model's own words.")
    structured_output: Any = Field(
        description="The valid answer, converted. `null` if `outcome` says that there is none."
    )
    method: Literal["native", "tool", "prompt", "grammar"] = Field(
        description="How the model was held to the schema."
    )
    guarantee: Literal["exact", "relaxed", "validated"] = Field(
        description="`exact`: nothing else can be said; `relaxed`: hardly, and checked; `validated`: checked."
    )
    outcome: Literal["pending", "valid", "repaired", "refused", "filtered", "truncated", "invalid"] = Field(
        description="`repaired`: valid after slips of writing were forgiven. Any other: no answer."
    )
    attempts: int = Field(description="Answers asked of the model.")
    problems: list[ErrorProblem] = Field(
        description="What was wrong with the last answer that was not valid."
    )
    usage: UsedTokens


class Way(Given):
    """One way in which a model is held to a form."""

    method: Literal["native", "tool", "prompt", "grammar"]
    guarantee: Literal["exact", "relaxed", "validated"]


class StructuredModel(Given):
    """What a model can be held to, each with the ways in the order in which they are tried."""

    id: str
    object: Literal["model"] = "model"
    owned_by: str
    json_schema: list[Way]
    json_object: list[Way]
    regex: list[Way]
    choice: list[Way]
    grammar: list[Way]


class StructuredModels(Given):
    """All models that can answer in a form."""

    object: Literal["list"] = "list"
    data: list[StructuredModel]
