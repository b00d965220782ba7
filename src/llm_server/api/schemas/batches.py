"""What the routes of files and batches take and give, in OpenAI's shape (openai-python 3.54)."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from llm_server.api.schemas.structured import Asked, Given

Text64 = Annotated[str, Field(max_length=64)]
Text512 = Annotated[str, Field(max_length=512)]
Metadata = Annotated[dict[Text64, Text512], Field(max_length=16)]

BatchStatusName = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]


class FileObject(Given):
    """A file."""

    id: str
    object: Literal["file"] = "file"
    bytes: int = Field(description="Its size.")
    created_at: int = Field(description="Unix time in seconds.")
    expires_at: int | None = Field(description="Unix time in seconds at which it is deleted.")
    filename: str
    purpose: Literal["batch", "batch_output"]
    status: Literal["processed"] = "processed"
    status_details: None = None


class FileList(Given):
    """A page of files."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(Given):
    """A file is gone."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class Expiry(Asked):
    """When the files of a batch are deleted."""

    anchor: Literal["created_at"]
    seconds: int = Field(ge=3600, le=2_592_000)


class NewBatch(Asked):
    """A batch to run."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "input_file_id": "file-0199c5a1e5d2c1b0a4f3e2d1c0b9a887",
                    "endpoint": "/v1/chat/completions",
                    "completion_window": "24h",
                }
            ]
        }
    )

    input_file_id: str = Field(max_length=128, description="A file uploaded for the purpose `batch`.")
    endpoint: str = Field(
        max_length=128,
        description="What all its requests are of: `/v1/chat/completions`, `/v1/completions`, "
        "`/v1/embeddings` or `/v1/messages`.",
    )
    completion_window: str = Field(
        default="24h", max_length=8, description="Hours or days after which what is left is given up, to 7d."
    )
    metadata: Metadata | None = None
    output_expires_after: Expiry | None = None
    provider_batch: bool = Field(
        default=False,
        description="Have the model's provider run it through its own batch API, where it has one, usually "
        "at half the price. Every request must name the same model.",
    )


class BatchError(BaseModel):
    """Why a batch was not run."""

    code: str
    line: int | None = Field(description="Line of the input file, from 1 on.")
    message: str
    param: str | None


class BatchErrors(BaseModel):
    """Why a batch was not run."""

    object: Literal["list"] = "list"
    data: list[BatchError]


class RequestCounts(BaseModel):
    """How far a batch is."""

    total: int
    completed: int
    failed: int


class CachedTokens(BaseModel):
    """Which input tokens were cheap."""

    cached_tokens: int


class ReasoningTokens(BaseModel):
    """Which output tokens were thought."""

    reasoning_tokens: int


class BatchUsage(BaseModel):
    """Tokens of all answers of a batch."""

    input_tokens: int
    input_tokens_details: CachedTokens
    output_tokens: int
    output_tokens_details: ReasoningTokens
    total_tokens: int


class BatchObject(Given):
    """A batch. Times are Unix seconds."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    model: str | None = Field(description="The model of its requests, where all name the same.")
    errors: BatchErrors | None
    input_file_id: str
    completion_window: str
    status: BatchStatusName
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: BatchUsage
    metadata: Metadata | None
    provider_batch: str | None = Field(description="The provider that runs it through its own batch API.")


class BatchList(Given):
    """A page of batches."""

    object: Literal["list"] = "list"
    data: list[BatchObject]
    first_id: str | None
    last_id: str | None
    has_more: bool
