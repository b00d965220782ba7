"""What the models of both dialects have in common."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from llm_server.wire.images import image_from_url

OTHER = "other"


class RequestModel(BaseModel):
    """Base of request models: strict types, unknown fields allowed and kept."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True, allow_inf_nan=False)


class AnswerModel(BaseModel):
    """Base of answer models."""

    model_config = ConfigDict(frozen=True)


class OtherPart(RequestModel):
    """A part of a type that is passed on to an upstream of the same dialect as it is."""

    type: str = Field(description="Any other type.", examples=["document"])


def by_type(*known: str, assumed: str | None = None) -> Callable[[Any], str | None]:
    """Return a discriminator for parts: their ``type`` if it is ``known``, else ``other``.

    ``assumed`` is the type of a part that names none.
    """

    def tag(value: Any) -> str | None:
        found = value.get("type") if isinstance(value, Mapping) else getattr(value, "type", None)
        if not isinstance(found, str):
            return assumed if found is None else None
        return found if found in known else OTHER

    return tag


SchemaVersion = Annotated[int, Field(ge=1, le=2**31 - 1)] | Literal["latest"] | None
"""A version of a registered schema."""
StreamStructured = Annotated[
    Literal["partial", "validated"] | None,
    Field(
        default=None,
        description="How to stream an answer that must have a form: as it grows, or once it is valid. The "
        "header `x-llm-server-stream-structured` says the same.",
    ),
]


def check_choice(obliges: bool, tools: Sequence[object] | None) -> None:
    """Raise ``ValueError`` when a choice ``obliges`` to call a tool and there are none."""
    if obliges and not tools:
        raise ValueError("a tool can only be required when 'tools' are specified")


def _image_url(url: str) -> str:
    if image_from_url(url) is None:
        raise ValueError("expected an http(s) URL or a base64 data: URL of an image")
    return url


ImageUrl = Annotated[str, AfterValidator(_image_url)]
"""An ``http(s)`` URL, or a base64 ``data:`` URL of an image."""
