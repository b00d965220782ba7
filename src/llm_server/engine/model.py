"""One embedded model from file to text: loading, admission, generation, and what its state is."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

from msgspec import Struct

from llm_server.contract import ChatCall, ErrorKind, Message, Role, ServerError, State, Text
from llm_server.engine import folder, gguf
from llm_server.engine.config import EngineConfig, ModelConfig
from llm_server.engine.llamacpp import XllamacppRuntime
from llm_server.engine.openvino import OpenvinoRuntime
from llm_server.engine.runtime import (
    Ended,
    Generation,
    Pieces,
    Resources,
    Runtime,
    RuntimeLoadError,
    overflow,
)
from llm_server.engine.scheduler import Scheduler
from llm_server.engine.template import ChatTemplate, refuse_unreadable
from llm_server.engine.transformers import TransformersRuntime
from llm_server.engine.weights import INSTALLABLE, location

RUNTIMES: dict[str, Callable[[Resources], Runtime]] = {
    "xllamacpp": XllamacppRuntime,
    "openvino": OpenvinoRuntime,
    "transformers": TransformersRuntime,
}


MAX_TOKEN_BYTES = 256
"""No vocabulary in use has a longer token; the longest are runs of blanks (128 in OpenAI's o200k)."""


class _Loaded(Struct, frozen=True):
    """What exists once a model is loaded."""

    runtime: Runtime
    template: ChatTemplate


class Model:
    """An embedded model. Its scheduler owns the runtime: nothing computes without a slot."""

    def __init__(self, config: ModelConfig, engine: EngineConfig) -> None:
        self.config = config
        self.state = State.STARTING
        self.message = "not loaded yet"
        self.scheduler = Scheduler(engine.slots, engine.queue)
        self._engine = engine
        self._loaded: _Loaded | None = None

    @property
    def name(self) -> str:
        """The name that callers use."""
        return self.config.name

    async def load(self) -> None:
        """Load the model; a failure shows in ``state`` and ``message``."""
        self.message = "loading"
        try:
            self._loaded = await self._load()
        except (RuntimeLoadError, gguf.GgufError, folder.FolderError, OSError) as error:
            self.state, self.message = State.FAILED, str(error)
        else:
            self.state, self.message = State.READY, ""

    async def _load(self) -> _Loaded:
        path = (self.config.path or location(self.name, self._engine.data_dir)).expanduser()
        file = await asyncio.to_thread(self._described, path)
        if file.context and self.config.context > file.context:
            message = f"context {self.config.context} is more than the {file.context} tokens of {path}"
            raise RuntimeLoadError(message)
        try:
            template = await asyncio.to_thread(ChatTemplate, file)
        except ImportError as error:
            raise RuntimeLoadError("jinja2 is not installed: pip install 'llm-server[local]'") from error
        resources = Resources(
            path=str(path),
            context=self.config.context,
            slots=self._engine.slots,
            threads=self._engine.thread_count,
            outlines_backend=self._engine.outlines_backend,
        )
        runtime = RUNTIMES[self._engine.runtime](resources)
        try:
            await runtime.load()
        except BaseException:
            await runtime.close()
            raise
        return _Loaded(runtime, template)

    def _described(self, path: Path) -> gguf.ModelFile:
        if path.is_file():
            return gguf.read(path)
        if not path.is_dir():
            raise RuntimeLoadError(_missing(self.config))
        if self._engine.runtime != "transformers":
            raise RuntimeLoadError(f"{path} is a folder; {self._engine.runtime} takes GGUF files.")
        return folder.read(path)

    def _ready(self) -> _Loaded:
        if self._loaded is None:
            raise ServerError(
                ErrorKind.UNAVAILABLE, f"The embedded model {self.name} is not ready: {self.message}"
            )
        return self._loaded

    def prompt(self, call: ChatCall) -> str:
        """Return the prompt for a conversation; raises ``ServerError`` for one that the model cannot take."""
        refuse_unreadable(call)
        messages = call.messages
        if self.config.system and not any(message.role is Role.SYSTEM for message in messages):
            messages = (Message(Role.SYSTEM, (Text(self.config.system),)), *messages)
        return self._ready().template.render(messages)

    async def generate(self, generation: Generation) -> Pieces:
        """Generate when there is a slot; raises what ``Runtime.generate`` and ``Scheduler.slot`` raise.

        No tokens at all are an empty answer, as Anthropic documents for ``max_tokens: 0`` (``max_tokens`` in
        https://platform.claude.com/docs/en/api/messages); the runtimes would write one, or as many as fit.
        """
        self._bound(generation.prompt)
        if generation.max_tokens == 0:
            yield await self._unwritten(generation.prompt)
            return
        runtime = self._ready().runtime
        async with self.scheduler.slot(), aclosing(runtime.generate(generation)) as pieces:
            async for piece in pieces:
                yield piece

    async def _unwritten(self, prompt: str) -> Ended:
        tokens = await self.count(prompt)
        if tokens >= self.config.context:
            raise overflow(tokens, self.config.context)
        return Ended(reason="length", input_tokens=tokens, output_tokens=0)

    def _bound(self, text: str) -> None:
        """Refuse what cannot fit before it is tokenised, which takes a second a megabyte."""
        at_least = len(text.encode()) // MAX_TOKEN_BYTES
        if at_least > self.config.context:
            raise overflow(f"at least {at_least}", self.config.context)

    async def count(self, text: str) -> int:
        """Return the number of tokens of ``text``; ``CONTEXT_OVERFLOW`` if it could never fit."""
        self._bound(text)
        return await self._ready().runtime.count(text)

    async def close(self, timeout_s: float) -> None:
        """Take nothing new, wait ``timeout_s`` seconds for requests in flight, end the rest, and unload."""
        loaded, self._loaded = self._loaded, None
        self.state, self.message = State.FAILED, "closed"
        if loaded is not None:
            await self.scheduler.drain(timeout_s)
            await loaded.runtime.close()


def _missing(config: ModelConfig) -> str:
    if config.path is not None:
        return f"There is no file {config.path}."
    if config.name in INSTALLABLE:
        return f"Model {config.name} is not installed. Run `llm-server models install {config.name}`."
    return f"Model {config.name} has no path, and none of that name can be installed."
