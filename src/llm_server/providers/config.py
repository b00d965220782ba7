"""Settings of the providers room."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from llm_server.contract import Secret
from llm_server.pool.config import PoolConfig
from llm_server.providers.rows import ROWS

HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
Tokens = Annotated[int, Field(ge=1)]


def _base_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be an http:// or https:// URL")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("must have no credentials, query or fragment; keys go to api_key or headers")
    return url.rstrip("/")


def _row(name: str) -> str:
    if name not in ROWS:
        raise ValueError(f"not a known provider; known are {', '.join(ROWS)}")
    return name


BaseUrl = Annotated[str, AfterValidator(_base_url)]


class FactsConfig(BaseModel):
    """What is known better than the catalog about a model; fields left out keep the catalog's value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    chat: bool | None = None
    completions: bool | None = Field(default=None, description="Takes legacy text completions natively.")
    embeddings: bool | None = None
    tools: bool | None = None
    images: bool | None = None
    json_object: bool | None = None
    json_schema: bool | None = None
    guided: bool | None = Field(
        default=None,
        description="Takes regular expressions, choices and grammars for the answer's form as "
        "`structured_outputs` (vLLM since 0.12).",
    )
    logprobs: bool | None = None
    choices: bool | None = Field(default=None, description="Can be asked for more than one choice (`n`).")
    reasoning: bool | None = None
    token_ids: bool | None = Field(default=None, description="Takes arrays of token ids as input.")
    dimensions: bool | None = None
    count_tokens: bool | None = None
    refuses: frozenset[str] | None = Field(
        default=None,
        description="Sampling parameters that the model answers with an error; they are left out.",
    )
    context_tokens: Tokens | None = None
    max_output_tokens: Tokens | None = None


class ProviderConfig(BaseModel):
    """One provider under its name in the configuration; everything has a default for a known row."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    row: Annotated[str, AfterValidator(_row)] | None = Field(
        default=None,
        description="Which known provider this is, when its name here differs. A provider that is not known "
        "is taken as any OpenAI-compatible URL.",
    )
    enabled: bool = True
    base_url: BaseUrl | None = Field(
        default=None, description="Where its API is; required where no row knows it."
    )
    api_key: Secret | None = Field(default=None, description="Its key; sent to this URL only.")
    dialect: Literal["openai", "anthropic", "gemini", "cohere"] | None = Field(
        default=None, description="The API that it speaks, when not the row's."
    )
    headers: dict[HeaderName, Secret] = Field(
        default={}, description="Headers sent with every request; their values are treated as secrets."
    )
    models: tuple[str, ...] = Field(
        default=(), description="The models listed for it; without them its own list is asked."
    )
    deployments: dict[str, str] = Field(
        default={},
        description="A model's name here, and its name (deployment) at the provider.",
    )
    api_version: str | None = Field(
        default=None,
        pattern=r"^[0-9A-Za-z.-]+$",
        description="Azure only: use the dated API of this version instead of the v1 API.",
    )
    facts: dict[str, FactsConfig] = Field(
        default={},
        description="Facts by model name or pattern (`llama-*`), each over the catalog; later ones win.",
    )
    pool: PoolConfig | None = Field(
        default=None, description="Its own limits and timeouts; without them those under `pool`."
    )
