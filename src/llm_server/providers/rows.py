"""The providers known here, one row each. Adding one is adding a row; nothing else names it."""

from llm_server.contract import Facts, SchemaRules
from llm_server.providers import quotas
from llm_server.providers.quirks import Quirks
from llm_server.providers.row import Row

_OLDER_EMBEDDINGS = Facts(embeddings=True, completions=True, dimensions=False)

_NEWER = {"max_tokens": "max_completion_tokens"}
_NO_TOP_K = frozenset({"top_k"})

_AZURE = Quirks(
    prefix="openai/v1/",
    chat_renames=_NEWER,
    refuses=_NO_TOP_K,
    developer=True,
)

_MISTRAL_FIELDS = frozenset(
    {"model", "messages", "stream", "temperature", "top_p", "top_k", "max_tokens", "min_tokens", "stop", "n"}
    | {"random_seed", "presence_penalty", "frequency_penalty", "repetition_penalty", "response_format"}
    | {"tools", "tool_choice", "parallel_tool_calls", "prediction", "prompt_mode", "reasoning_effort"}
    | {"logprobs", "top_logprobs", "prompt_logprobs", "top_prompt_logprobs", "metadata", "guardrails"}
    | {"safe_prompt", "input", "encoding_format", "output_dimension", "output_dtype"}
)
"""The fields of its chat and embedding requests (mistralai 3.7, ``chatcompletionrequest.py``)."""

_LISTED = frozenset(
    {"type", "properties", "required", "items", "enum", "anyOf", "$ref", "$defs", "description"}
)
"""Keywords that every native schema mode takes, as far as it takes alternatives and references."""

_OPENAI_SCHEMAS = SchemaRules(
    enforced=True,
    root_object=True,
    all_required=True,
    closed=True,
    typed=True,
    keywords=_LISTED
    | {"additionalProperties", "const", "title", "pattern", "format", "minItems", "maxItems", "multipleOf"}
    | {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"},
    formats=frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}),
    max_depth=10,
    max_properties=5000,
)
"""Strict mode: https://platform.openai.com/docs/guides/structured-outputs#supported-schemas."""

_ANTHROPIC_SCHEMAS = SchemaRules(
    enforced=True,
    root_object=True,
    closed=True,
    typed=True,
    recursion=False,
    keywords=_LISTED | {"additionalProperties", "const", "title", "format"},
    formats=frozenset(
        {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
    ),
    max_optional=24,
    max_unions=16,
)
"""https://platform.claude.com/docs/en/build-with-claude/structured-outputs#json-schema-limitations; formats
as anthropic-python 2.12 (``lib/_parse/_transform.py``) leaves them. ``minItems`` is taken for 0 and 1."""

_GEMINI_SCHEMAS = SchemaRules(
    root_object=True,
    recursion=False,
    keywords=_LISTED | {"additionalProperties", "prefixItems", "minItems", "maxItems", "minimum", "maximum"},
)
"""``responseJsonSchema``: https://ai.google.dev/api/generate-content#FIELDS.response_json_schema. Other
keywords are ignored without a word, so nothing is promised."""

_COHERE_SCHEMAS = SchemaRules(
    root_object=True,
    some_required=True,
    keywords=_LISTED - {"anyOf"} | {"const", "format"},
    formats=frozenset({"date-time", "uuid", "date", "time"}),
)
"""https://docs.cohere.com/docs/structured-outputs#parameter-types-support."""

_TEN_MINUTES = {"first_byte_timeout_s": 600.0}
"""A whole answer may take so long: the default timeout of OpenAI's and Anthropic's SDKs, after which DeepSeek
closes too."""
_OLLAMA = {"adaptive": {"initial": 8, "floor": 1}, "first_byte_timeout_s": 600.0}
"""Few requests are computed at once (``OLLAMA_NUM_PARALLEL``, 1 by default), those beyond wait there, up to
512; the first one waits until the model is loaded."""

ROWS: dict[str, Row] = {
    row.name: row
    for row in (
        Row(
            name="openai",
            title="OpenAI",
            base_url="https://api.openai.com/v1",
            key_env=("OPENAI_API_KEY",),
            url_env=("OPENAI_BASE_URL",),
            header_env={"OPENAI_ORG_ID": "openai-organization", "OPENAI_PROJECT_ID": "openai-project"},
            quirks=Quirks(chat_renames=_NEWER, refuses=_NO_TOP_K, developer=True),
            facts=Facts(embeddings=True, token_ids=True, schema_rules=_OPENAI_SCHEMAS),
            batches="openai",
            quotas=quotas.USUAL,
            pool=_TEN_MINUTES,
            docs=(
                "https://platform.openai.com/docs/api-reference/chat/create",
                "https://platform.openai.com/docs/guides/structured-outputs#supported-schemas",
                "https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers",
                "https://platform.openai.com/docs/api-reference/batch",
            ),
        ),
        Row(
            name="azure",
            title="Azure OpenAI",
            key_env=("AZURE_OPENAI_API_KEY",),
            url_env=("AZURE_OPENAI_ENDPOINT",),
            version_env=("AZURE_OPENAI_API_VERSION", "OPENAI_API_VERSION"),
            needs=("key", "url"),
            key_header="api-key",
            key_prefix="",
            suffix="/openai/v1",
            quirks=_AZURE,
            dated=Quirks(
                prefix="openai/deployments/{model}/",
                query="?api-version={version}",
                models_path="openai/models?api-version={version}",
                chat_renames=_NEWER,
                refuses=_NO_TOP_K,
                developer=True,
            ),
            facts=Facts(embeddings=True, token_ids=True, schema_rules=_OPENAI_SCHEMAS),
            quotas=quotas.USUAL,
            pool=_TEN_MINUTES,
            docs=(
                "https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle",
                "https://learn.microsoft.com/azure/ai-foundry/openai/reference",
                "https://learn.microsoft.com/azure/ai-foundry/openai/how-to/quota",
            ),
        ),
        Row(
            name="groq",
            title="Groq",
            base_url="https://api.groq.com/openai/v1",
            key_env=("GROQ_API_KEY",),
            quirks=Quirks(
                chat_renames=_NEWER,
                refuses=_NO_TOP_K | {"logprobs", "top_logprobs", "logit_bias"},
                names=False,
            ),
            facts=Facts(logprobs=False, choices=False),
            batches="openai",
            quotas=quotas.USUAL,
            docs=(
                "https://console.groq.com/docs/openai",
                "https://console.groq.com/docs/api-reference",
                "https://console.groq.com/docs/rate-limits",
                "https://console.groq.com/docs/batch",
            ),
        ),
        Row(
            name="mistral",
            title="Mistral",
            base_url="https://api.mistral.ai/v1",
            key_env=("MISTRAL_API_KEY",),
            quirks=Quirks(
                chat_renames={"max_completion_tokens": "max_tokens", "seed": "random_seed"},
                embed_renames={"dimensions": "output_dimension"},
                # Every other field is answered with 422 "extra inputs are not permitted".
                accepts=_MISTRAL_FIELDS,
                stream_options=False,
                names=False,
                bare_tools=False,
                tool_id=r"[A-Za-z0-9]{9}",
                tool_id_length=9,
            ),
            facts=Facts(embeddings=True, schema_rules=SchemaRules(root_object=True)),
            batches="mistral",
            docs=(
                "https://docs.mistral.ai/api/endpoint/chat",
                "https://github.com/avante-corp/avante.nvim/issues/2347",
                "https://github.com/nearai/ironclaw/issues/1241",
                "https://docs.mistral.ai/capabilities/batch",
            ),
        ),
        Row(
            name="meta",
            title="Meta Llama API",
            base_url="https://api.llama.com/compat/v1",
            key_env=("LLAMA_API_KEY",),
            quirks=Quirks(chat_renames=_NEWER),
            facts=Facts(logprobs=False, choices=False, reasoning=False),
            docs=("https://llama.developer.meta.com/docs/features/compatibility",),
        ),
        Row(
            name="deepseek",
            title="DeepSeek",
            base_url="https://api.deepseek.com/v1",
            key_env=("DEEPSEEK_API_KEY",),
            quirks=Quirks(reasoning="reasoning_content", max_stop=16),
            facts=Facts(images=False, json_schema=False, choices=False),
            pool=_TEN_MINUTES,
            docs=(
                "https://api-docs.deepseek.com/api/create-chat-completion",
                "https://api-docs.deepseek.com/quick_start/error_codes",
                "https://api-docs.deepseek.com/quick_start/rate_limit",
            ),
        ),
        Row(
            name="xai",
            title="xAI",
            base_url="https://api.x.ai/v1",
            key_env=("XAI_API_KEY",),
            quirks=Quirks(chat_renames=_NEWER, refuses=_NO_TOP_K),
            quotas=quotas.USUAL,
            docs=("https://docs.x.ai/docs/api-reference#chat-completions",),
        ),
        Row(
            name="openrouter",
            title="OpenRouter",
            base_url="https://openrouter.ai/api/v1",
            key_env=("OPENROUTER_API_KEY",),
            quirks=Quirks(reasoning="reasoning", developer=True),
            facts=Facts(embeddings=True, completions=True),
            quotas=quotas.ONE_WINDOW,
            docs=(
                "https://openrouter.ai/docs/api-reference/chat-completion",
                "https://openrouter.ai/docs/api-reference/errors",
                "https://openrouter.ai/docs/api-reference/limits",
            ),
        ),
        Row(
            name="together",
            title="Together AI",
            base_url="https://api.together.ai/v1",
            key_env=("TOGETHER_API_KEY",),
            quirks=Quirks(base64=False),
            facts=_OLDER_EMBEDDINGS,
            quotas=quotas.TOGETHER,
            docs=(
                "https://docs.together.ai/docs/inference/openai-compatibility",
                "https://docs.together.ai/docs/rate-limits",
            ),
        ),
        Row(
            name="fireworks",
            title="Fireworks AI",
            base_url="https://api.fireworks.ai/inference/v1",
            key_env=("FIREWORKS_API_KEY",),
            quirks=Quirks(base64=False),
            facts=Facts(embeddings=True, completions=True),
            docs=("https://docs.fireworks.ai/tools-sdks/openai-compatibility",),
        ),
        Row(
            name="vllm",
            title="vLLM",
            key_env=("VLLM_API_KEY",),
            url_env=("VLLM_BASE_URL",),
            needs=("url",),
            facts=Facts(embeddings=True, completions=True, token_ids=True, guided=True),
            docs=(
                "https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html",
                "https://docs.vllm.ai/en/latest/features/structured_outputs.html",
            ),
        ),
        Row(
            name="lmstudio",
            title="LM Studio",
            base_url="http://127.0.0.1:1234/v1",
            key_env=("LMSTUDIO_API_KEY",),
            url_env=("LMSTUDIO_BASE_URL", "LM_STUDIO_API_BASE"),
            needs=("url",),
            facts=_OLDER_EMBEDDINGS,
            docs=("https://lmstudio.ai/docs/developer/openai-compat",),
        ),
        Row(
            name="ollama",
            title="Ollama",
            base_url="http://127.0.0.1:11434",
            key_env=("OLLAMA_API_KEY",),
            url_env=("OLLAMA_HOST",),
            needs=("url",),
            default_port=11434,
            suffix="/v1",
            quirks=Quirks(prefix="v1/", models_path="api/tags"),
            facts=Facts(embeddings=True, completions=True, choices=False),
            pool=_OLLAMA,
            docs=(
                "https://docs.ollama.com/api/openai-compatibility",
                "https://docs.ollama.com/api/tags",
                "https://docs.ollama.com/faq#how-does-ollama-handle-concurrent-requests",
            ),
        ),
        Row(
            name="openai-compatible",
            title="Any other OpenAI-compatible URL",
            key_env=("OPENAI_COMPATIBLE_API_KEY",),
            url_env=("OPENAI_COMPATIBLE_BASE_URL",),
            needs=("url",),
            facts=Facts(embeddings=True, completions=True),
            quotas=quotas.USUAL,
            docs=("https://platform.openai.com/docs/api-reference/chat/create",),
        ),
        Row(
            name="anthropic",
            title="Anthropic",
            dialect="anthropic",
            base_url="https://api.anthropic.com",
            key_env=("ANTHROPIC_API_KEY",),
            url_env=("ANTHROPIC_BASE_URL",),
            key_header="x-api-key",
            key_prefix="",
            suffix="/v1",
            facts=Facts(
                logprobs=False,
                choices=False,
                json_object=False,
                count_tokens=True,
                schema_rules=_ANTHROPIC_SCHEMAS,
            ),
            batches="anthropic",
            quotas=quotas.ANTHROPIC,
            pool=_TEN_MINUTES,
            docs=(
                "https://platform.claude.com/docs/en/api/messages",
                "https://platform.claude.com/docs/en/build-with-claude/structured-outputs",
                "https://platform.claude.com/docs/en/api/rate-limits#response-headers",
                "https://platform.claude.com/docs/en/build-with-claude/batch-processing",
            ),
        ),
        Row(
            name="gemini",
            title="Google Gemini",
            dialect="gemini",
            base_url="https://generativelanguage.googleapis.com/v1beta",
            key_env=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
            key_header="x-goog-api-key",
            key_prefix="",
            facts=Facts(embeddings=True, count_tokens=True, schema_rules=_GEMINI_SCHEMAS),
            batches="gemini",
            docs=(
                "https://ai.google.dev/api/generate-content",
                "https://ai.google.dev/gemini-api/docs/structured-output",
                "https://ai.google.dev/gemini-api/docs/batch-api",
            ),
        ),
        Row(
            name="cohere",
            title="Cohere",
            dialect="cohere",
            base_url="https://api.cohere.com",
            key_env=("COHERE_API_KEY", "CO_API_KEY"),
            url_env=("CO_API_URL",),
            facts=Facts(embeddings=True, choices=False, logprobs=False, schema_rules=_COHERE_SCHEMAS),
            docs=(
                "https://docs.cohere.com/reference/chat",
                "https://docs.cohere.com/docs/structured-outputs",
            ),
        ),
    )
}

COMPATIBLE = ROWS["openai-compatible"]
"""What a provider is that no row knows."""
