"""What can be configured about the models that this server runs itself."""

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llm_server.engine.runtime import Backend


class ModelConfig(BaseModel):
    """One model file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        min_length=1,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$",
        description="Name that callers use, after `local/`.",
    )
    path: Path | None = Field(
        default=None,
        description="A GGUF file; for the runtime `transformers` also a folder as on Hugging Face. Omit it"
        " for a model put in place by `llm-server models install`.",
    )
    context: int = Field(
        default=2048,
        ge=128,
        le=1_048_576,
        description="Tokens of prompt and answer together, for each request.",
    )
    system: str = Field(
        default="", description="System turn of a conversation that has none; empty for the template's own."
    )
    max_tokens: int | None = Field(
        default=None, ge=1, description="Longest answer of a request that names none; null for the context."
    )
    temperature: float = Field(
        default=0.8, ge=0, le=2, description="Temperature of a request that names none."
    )
    top_p: float = Field(default=0.95, gt=0, le=1, description="Nucleus of a request that names none.")
    top_k: int = Field(
        default=40,
        ge=0,
        description="Candidates per token of a request that names none; 0 for the whole vocabulary.",
    )


# Sampling as recommended on the model's card: https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct
# With its template's own system turn (its name and maker) it answers "What is the capital of France?" in
# looping French, from the original weights too; with this one it says Paris. Loops run up to the bound.
SMOLLM2 = ModelConfig(
    name="smollm2-135m",
    system="You are a helpful AI assistant.",
    max_tokens=512,
    temperature=0.2,
    top_p=0.9,
)


class EngineConfig(BaseModel):
    """The models that this server runs itself, and what they may use of the machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(default=True, description="Run models in this server, as provider `local`.")
    runtime: Literal["xllamacpp", "openvino", "transformers"] = Field(
        default="xllamacpp",
        description="`xllamacpp` (llama.cpp in this process), `openvino` (its extra; a worker process) or"
        " `transformers` (PyTorch in this process, held to forms by Outlines; the extra `outlines`).",
    )
    outlines_backend: Backend = Field(
        default="llguidance",
        description="Engine by which Outlines holds answers of the runtime `transformers` to forms. What the"
        " others enforce is less and not known beforehand: their answers count as relaxed.",
    )
    models: tuple[ModelConfig, ...] = Field(
        default=(SMOLLM2,), description="The models to load at the start."
    )
    data_dir: Path = Field(
        default=Path("~/.local/share/llm-server"), description="Where installed models are kept."
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        le=512,
        description="Threads that compute. Default: one less than the cores; more than idle cores is slower.",
    )
    slots: int = Field(
        default=8, ge=1, le=256, description="Requests of a model that are generated in one batch."
    )
    queue: int = Field(
        default=64,
        ge=0,
        le=100_000,
        description="Requests of a model that may wait for a slot; more are answered 429.",
    )
    drain_timeout_s: float = Field(
        default=5.0, ge=0, description="Seconds that a closing engine gives to requests in flight."
    )

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [model.name for model in self.models]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two models are called {repeated[0]!r}")
        return self

    @property
    def thread_count(self) -> int:
        """Threads to compute with.

        One core stays free for the event loop. llama.cpp's threads spin while they wait for each other: two
        of them on two busy cores were measured slower than one.
        """
        return self.threads or max(1, (os.cpu_count() or 1) - 1)
