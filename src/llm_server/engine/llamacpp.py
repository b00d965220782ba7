"""llama.cpp in this process, through xllamacpp: a continuous batch of slots, computed without the GIL."""

import asyncio
import secrets
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from llm_server.contract import ErrorKind, ServerError
from llm_server.engine.constraint import Constraint, marked
from llm_server.engine.runtime import (
    Ended,
    Generation,
    Piece,
    Pieces,
    Resources,
    RuntimeLoadError,
    closing,
    overflow,
)
from llm_server.engine.stops import StopScanner

# Tokens computed in one step. Prompts are computed in steps of this size, between which other requests get
# their next token and a cancelled one ends; larger steps were not measured faster on a CPU.
_STEP_TOKENS = 64
# llama.cpp draws a random seed when given this one.
_RANDOM_SEED = 0xFFFFFFFF

_Item = Piece | Ended | ServerError


class XllamacppRuntime:
    """Runs a GGUF model with llama.cpp. A generation holds a thread, which waits without the GIL."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._threads = ThreadPoolExecutor(resources.slots, thread_name_prefix="llama.cpp")
        self._folder = tempfile.TemporaryDirectory(prefix="llm-server-")
        self._key = secrets.token_urlsafe(24)
        self._server: Any = None
        self._flows: set[_Flow] = set()

    async def load(self) -> None:
        """Load the model in a thread; raises ``RuntimeLoadError``."""
        self._server = await asyncio.to_thread(self._open)

    def _open(self) -> Any:
        try:
            import xllamacpp
        except ImportError as error:
            raise RuntimeLoadError("xllamacpp is not installed: pip install 'llm-server[local]'") from error
        _read_ahead(Path(self._resources.path))
        try:
            server = xllamacpp.Server(self._parameters(xllamacpp))
        except RuntimeError as error:
            raise RuntimeLoadError(f"llama.cpp cannot load {self._resources.path}: {error}") from error
        # Its loop must have begun before it may be closed: closing earlier waits for ever. And it warms up.
        server.handle_completions({"prompt": "a", "max_tokens": 1})
        return server

    def _parameters(self, xllamacpp: Any) -> Any:
        parameters, resources = xllamacpp.CommonParams(), self._resources
        parameters.model.path = resources.path
        parameters.n_parallel = resources.slots
        parameters.n_ctx = resources.slots * resources.context
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = resources.threads
        parameters.n_batch = parameters.n_ubatch = _STEP_TOKENS
        parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED
        parameters.fit_params = False  # it would shrink the context to what it thinks is free
        parameters.cache_ram_mib = 0  # a slot keeps its last prompt; no second copy
        parameters.verbosity = -1
        parameters.warmup = False
        # Its HTTP server cannot be turned off: no network port, a socket only this user and key can open.
        parameters.hostnames = [str(self._socket)]
        parameters.api_keys = [self._key]
        parameters.n_threads_http = 1
        return parameters

    @property
    def _socket(self) -> Path:
        return Path(self._folder.name) / "llama.sock"

    async def generate(self, generation: Generation) -> Pieces:
        """Generate in one of llama.cpp's slots."""
        loop, inbox = asyncio.get_running_loop(), asyncio.Queue[_Item]()
        flow = _Flow(generation.stop, lambda item: loop.call_soon_threadsafe(inbox.put_nowait, item))
        self._flows.add(flow)
        thread = loop.run_in_executor(self._threads, self._run, generation, flow)
        try:
            while not isinstance(item := await inbox.get(), Ended):
                if isinstance(item, ServerError):
                    raise item
                yield item
            yield item
        finally:
            flow.cancelled = True
            self._flows.discard(flow)
            # The slot is free when the thread is back: at the next step.
            await asyncio.shield(asyncio.wait([thread]))

    def _run(self, generation: Generation, flow: "_Flow") -> None:
        try:
            if generation.constraint is not None:
                flow.constraint = Constraint(generation.constraint)
            self._server.handle_completions(_body(generation, self._resources.context), flow)
        except ServerError as error:
            flow.fail(error)
        except Exception as error:  # noqa: BLE001 - the library's errors have no common type; the caller needs one
            flow.fail(_failed(f"{type(error).__name__}: {error}"))
        else:
            flow.fail(_failed("it stopped without an end"))

    async def count(self, text: str) -> int:
        """Ask llama.cpp's tokenizer, which only its socket offers."""
        body = msgspec.json.encode({"content": text, "add_special": True, "parse_special": True})
        head = (
            "POST /tokenize HTTP/1.1\r\nhost: engine\r\nconnection: close\r\n"
            f"authorization: Bearer {self._key}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        reader, writer = await asyncio.open_unix_connection(str(self._socket))
        try:
            writer.write(head.encode() + body)
            _, _, answer = (await reader.read()).partition(b"\r\n\r\n")
        finally:
            writer.close()
        return len(msgspec.json.decode(answer)["tokens"])

    async def close(self) -> None:
        """Cancel what runs, and unload."""
        for flow in self._flows:
            flow.abandon()
        await asyncio.to_thread(self._unload)

    def _unload(self) -> None:
        # Callbacks need threads: they must be over before llama.cpp's own thread is joined.
        self._threads.shutdown(wait=True)
        self._server = None
        self._folder.cleanup()


def _read_ahead(path: Path) -> None:
    """Bring the file into the page cache.

    The library's constructor holds the GIL (0.4 s for a model of 145 MB), but reading here does not: a slow
    disk then delays only this thread.
    """
    buffer = bytearray(1 << 20)
    with path.open("rb", buffering=0) as stream:
        while stream.readinto(buffer):
            pass


class _Flow:
    """Receives what llama.cpp says about one generation, in its thread, and delivers what it means."""

    def __init__(self, stops: tuple[str, ...], deliver: Callable[[_Item], object]) -> None:
        self.cancelled = False
        self.constraint: Constraint | None = None
        self._scanner = StopScanner(stops)
        self._deliver = deliver
        self._over = False

    def __call__(self, said: dict[str, Any]) -> bool:
        """Take one step's message; return whether llama.cpp should stop."""
        if self.cancelled or self._over:
            return True
        if "error" in said:
            self._end(_failure(said["error"]))
            return True
        choice = said["choices"][0]
        if self._strays(choice["text"], choice["finish_reason"]):
            self._end(_failed("it left the grammar"))
            return True
        text = self._scanner.feed(choice["text"])
        if choice["finish_reason"] and not self._scanner.matched:
            text += self._scanner.end()
        if text:
            self._deliver(Piece(text))
        if choice["finish_reason"] or self._scanner.matched:
            self._end(self._ended(choice["finish_reason"], said["timings"]))
        return self._over

    def _strays(self, text: str, reason: str | None) -> bool:
        """Tell whether the text is not in the grammar, or over where the grammar goes on."""
        if self.constraint is None:
            return False
        return not self.constraint.takes(text) or (reason == "stop" and not self.constraint.complete)

    def fail(self, error: ServerError) -> None:
        """Deliver ``error`` if no end was delivered."""
        if not (self._over or self.cancelled):
            self._end(error)

    def abandon(self) -> None:
        """Stop, because the engine closes; whoever waits is told."""
        if not self.cancelled:
            self.cancelled = True
            self._deliver(closing())

    def _end(self, item: Ended | ServerError) -> None:
        self._over = True
        self._deliver(item)

    def _ended(self, reason: str | None, timings: dict[str, Any]) -> Ended:
        return Ended(
            reason="length" if reason == "length" and not self._scanner.matched else "stop",
            stop_sequence=self._scanner.matched,
            input_tokens=timings["prompt_n"] + timings["cache_n"],
            output_tokens=timings["predicted_n"],
            cached_tokens=timings["cache_n"],
        )


def _body(generation: Generation, context: int) -> dict[str, Any]:
    """Return the request in llama.cpp's words.

    Source: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md (POST /completion)
    """
    penalised = generation.frequency_penalty or generation.presence_penalty
    constrained = {} if generation.constraint is None else {"grammar": marked(generation.constraint)}
    return constrained | {
        "prompt": generation.prompt,
        "stream": True,
        "max_tokens": -1 if generation.max_tokens is None else generation.max_tokens,
        "temperature": generation.temperature,
        "top_p": generation.top_p,
        "top_k": generation.top_k,
        "min_p": 0.0,
        "seed": _RANDOM_SEED if generation.seed is None else generation.seed % _RANDOM_SEED,
        "frequency_penalty": generation.frequency_penalty,
        "presence_penalty": generation.presence_penalty,
        "repeat_last_n": context if penalised else 0,
        "timings_per_token": True,  # running token counts
        "return_progress": True,  # a message per step of a prompt: a chance to cancel
    }


def _failure(error: dict[str, Any]) -> ServerError:
    if "n_prompt_tokens" in error:
        return overflow(error["n_prompt_tokens"], error["n_ctx"])
    message = str(error.get("message", ""))
    if error.get("code") == 400:
        return ServerError(ErrorKind.INVALID_REQUEST, f"The embedded model refuses the request: {message}")
    return _failed(message)


def _failed(detail: str) -> ServerError:
    return ServerError(ErrorKind.UPSTREAM_ERROR, "The embedded model failed.", detail=detail)
