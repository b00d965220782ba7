"""Hugging Face models in this process, on PyTorch, held to forms by Outlines.

Each request is a text of its own in a thread of its own: Transformers' continuous batching was measured at a
tenth of this on processors, and takes no processor of logits per request. This runtime is for models that no
other one takes.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from llm_server.contract import ErrorKind, ServerError
from llm_server.engine import pytorch
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
from llm_server.engine.sampling import NothingAllowedError, Sampler
from llm_server.engine.spelling import Spelling
from llm_server.engine.steering import Rein, Steering
from llm_server.engine.stops import StopScanner

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

_Item = Piece | Ended | ServerError


class TransformersRuntime:
    """Runs a model folder, or a GGUF file, with PyTorch. A generation holds a thread."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._threads = ThreadPoolExecutor(resources.slots, thread_name_prefix="transformers")
        self._model: pytorch.TorchModel
        self._steering: Steering
        self._texts: set[_Text] = set()

    async def load(self) -> None:
        """Load the model in a thread; raises ``RuntimeLoadError``."""
        self._model, self._steering = await asyncio.to_thread(self._open)

    def _open(self) -> tuple[pytorch.TorchModel, Steering]:
        model, steered = pytorch.open_model(self._resources)
        backend = self._resources.outlines_backend
        try:
            return model, Steering(steered, backend)
        except ImportError as error:
            raise RuntimeLoadError(f"{error.name} is not installed: pip install {error.name}") from error
        except ValueError as error:
            message = f"Outlines cannot steer {self._resources.path} by {backend}: {error}"
            raise RuntimeLoadError(message) from error

    async def generate(self, generation: Generation) -> Pieces:
        """Generate in a thread. Between two tokens it can be ended; a prompt is computed as a whole."""
        loop, inbox = asyncio.get_running_loop(), asyncio.Queue[_Item]()
        text = _Text(self._model, generation, lambda item: loop.call_soon_threadsafe(inbox.put_nowait, item))
        self._texts.add(text)
        thread = loop.run_in_executor(self._threads, self._run, text)
        try:
            while not isinstance(item := await inbox.get(), Ended):
                if isinstance(item, ServerError):
                    raise item
                yield item
            yield item
        finally:
            text.cancelled = True
            self._texts.discard(text)
            # The slot is free when the thread is back: at the next token.
            await asyncio.shield(asyncio.wait([thread]))

    def _run(self, text: "_Text") -> None:
        try:
            text.write(self._steering, self._resources.context)
        except ServerError as error:
            text.fail(error)
        except NothingAllowedError:
            text.fail(_failed("its form allows no token"))
        except Exception as error:  # noqa: BLE001 - the libraries' errors have no common type; the caller needs one
            text.fail(_failed(f"{type(error).__name__}: {error}"))

    async def count(self, text: str) -> int:
        """Count in a thread."""
        return len(await asyncio.to_thread(self._model.encode, text))

    async def close(self) -> None:
        """Cancel what runs, and let go of the model."""
        for text in self._texts:
            text.abandon()
        await asyncio.to_thread(self._threads.shutdown, wait=True)


class _Text:
    """One generation, in its thread: chooses tokens, and delivers what they mean."""

    def __init__(
        self, model: pytorch.TorchModel, generation: Generation, deliver: Callable[[_Item], object]
    ) -> None:
        self.cancelled = False
        self._model = model
        self._wanted = generation
        self._deliver = deliver
        self._sampler = Sampler(generation)
        self._scanner = StopScanner(generation.stop)
        self._spelling = Spelling(model.decode)
        self._rein: Rein | None = None
        self._prompt_tokens = self._limit = self._tokens = 0
        self._over = False

    def write(self, steering: Steering, context: int) -> None:
        """Generate to the end; raises ``ServerError`` for what cannot be begun."""
        self._rein = steering.rein(self._wanted)
        prompt = self._model.encode(self._wanted.prompt)
        self._prompt_tokens = len(prompt)
        room = context - len(prompt)
        if room <= 0:
            raise overflow(len(prompt), context)
        self._limit = min(room, self._wanted.max_tokens or room)
        if not self.cancelled:
            self._model.run(prompt, self._limit, self._choose, self._told)

    def _choose(self, last: int, logits: "NDArray[float32]") -> int:
        if self._rein is not None:
            self._rein.hold(last, logits)
        return self._sampler.draw(logits)

    def _told(self, token: int) -> bool:
        """Take the next token; return whether the text is over."""
        if self.cancelled:
            return True
        self._tokens += 1
        ends = token in self._model.ends
        last = ends or self._tokens == self._limit
        new = "" if ends else self._spelling.add(token)
        if last:
            new += self._spelling.end()
        if self._strays(new, ends=ends):
            self.fail(_failed("it left the grammar"))
            return True
        self._say(new, last=last)
        if last or self._scanner.matched:
            self._end(self._ended("stop" if ends else "length"))
        return self._over

    def _say(self, new: str, *, last: bool) -> None:
        text = self._scanner.feed(new)
        if last and not self._scanner.matched:
            text += self._scanner.end()
        if text:
            self._deliver(Piece(text))

    def _strays(self, new: str, *, ends: bool) -> bool:
        if self._rein is None:
            return False
        return self._rein.strays(new) or (ends and self._rein.open)

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

    def _ended(self, reason: str) -> Ended:
        return Ended(
            reason="length" if reason == "length" and not self._scanner.matched else "stop",
            stop_sequence=self._scanner.matched,
            input_tokens=self._prompt_tokens,
            output_tokens=self._tokens,
        )


def _failed(detail: str) -> ServerError:
    return ServerError(ErrorKind.UPSTREAM_ERROR, "The embedded model failed.", detail=detail)
