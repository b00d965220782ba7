"""The seam between the engine and what computes: a prompt and its sampling go in, pieces of text come out."""

from collections.abc import AsyncGenerator
from typing import Literal, Protocol

from msgspec import Struct

from llm_server.contract import ErrorKind, OutputFormat, ServerError


class Form(Struct, frozen=True, kw_only=True):
    """What a grammar was compiled from, for an engine that compiles by itself.

    ``text`` is a JSON Schema, a regular expression for the whole answer, or a grammar as the caller wrote it;
    empty with ``choices``.
    """

    kind: Literal["json_schema", "regex", "choice", "grammar"]
    text: str = ""
    choices: tuple[str, ...] = ()

    @classmethod
    def of(cls, output: OutputFormat) -> "Form":
        """Return ``output`` as a form."""
        match output.kind:
            case "json_object":
                return cls(kind="json_schema", text='{"type":"object"}')
            case "json_schema":
                return cls(kind="json_schema", text=bytes(output.schema).decode())
            case "regex":
                return cls(kind="regex", text=output.pattern)
            case "choice":
                return cls(kind="choice", choices=output.choices)
            case "grammar":
                return cls(kind="grammar", text=output.grammar)


class Generation(Struct, frozen=True, kw_only=True):
    """One request to a runtime. ``seed`` ``None`` draws a random one; ``top_k`` 0 is the whole vocabulary.

    ``constraint`` is a grammar, in llguidance's Lark, that the text must match. It is part of the request and
    not of the batch, so that constrained and free requests share one; a runtime that cannot constrain refuses
    it. A text that ends for another reason than ``length`` or a stop sequence is whole by the grammar.
    ``form`` is what the grammar was compiled from, for a runtime whose engine compiles by itself.
    """

    prompt: str
    max_tokens: int | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    stop: tuple[str, ...] = ()
    constraint: str | None = None
    form: Form | None = None


class Piece(Struct, frozen=True, tag="piece"):
    """More text: whole characters, at least one."""

    text: str


class Ended(Struct, frozen=True, kw_only=True, tag="ended"):
    """Why the text is over, and what it took. ``cached_tokens`` of the input needed no computing."""

    reason: Literal["stop", "length"]
    stop_sequence: str = ""
    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0


Pieces = AsyncGenerator[Piece | Ended, None]
"""Text in pieces, then exactly one ``Ended``. Closing it early ends the computation."""


Backend = Literal["llguidance", "outlines_core", "xgrammar"]
"""The engines by which Outlines holds texts to forms."""


class Resources(Struct, frozen=True, kw_only=True):
    """What a runtime loads and may use. ``context`` is tokens of one request, prompt and answer."""

    path: str
    context: int
    slots: int
    threads: int
    outlines_backend: Backend = "llguidance"


class Runtime(Protocol):
    """Something that runs one model, never given more than ``Resources.slots`` generations at a time."""

    async def load(self) -> None:
        """Load the model without holding the event loop; raises ``RuntimeLoadError``."""
        ...

    def generate(self, generation: Generation) -> Pieces:
        """Generate.

        Raises ``CONTEXT_OVERFLOW`` before the first piece when the prompt leaves no room, ``UNSUPPORTED`` or
        ``INVALID_REQUEST`` for what it cannot do, ``UPSTREAM_ERROR`` when computing fails.
        """
        ...

    async def count(self, text: str) -> int:
        """Return the number of tokens of ``text``, special tokens in it recognised."""
        ...

    async def close(self) -> None:
        """End what is left and release everything."""
        ...


class RuntimeLoadError(Exception):
    """The runtime cannot load the model; the message says why and what to do."""


def overflow(prompt_tokens: int | str, context: int) -> ServerError:
    """Return the error for a prompt that leaves no room for an answer."""
    return ServerError(
        ErrorKind.CONTEXT_OVERFLOW,
        f"The prompt has {prompt_tokens} tokens; this model's context is {context} tokens, prompt and answer"
        " together. Shorten the prompt.",
        param="messages",
    )


def closing() -> ServerError:
    """Return the error for a request that meets the end of the engine."""
    return ServerError(ErrorKind.UNAVAILABLE, "The embedded engine is shutting down.")
