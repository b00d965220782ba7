"""The embedded models as a provider like any other: calls in, chunks or a whole answer out."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing

from msgspec.structs import replace

from llm_server.contract import (
    Call,
    ChatCall,
    Chunk,
    Context,
    CountCall,
    ErrorKind,
    Event,
    Events,
    Facts,
    Finish,
    FinishReason,
    ModelInfo,
    Sampling,
    ServerError,
    Started,
    State,
    TextCall,
    TextDelta,
    TokenCount,
    Usage,
    fold,
)
from llm_server.contract.facts import CAPABILITIES, needs_lacking, unsupported
from llm_server.engine.config import EngineConfig
from llm_server.engine.constraint import available
from llm_server.engine.merging import merged
from llm_server.engine.model import Model
from llm_server.engine.runtime import Ended, Form, Generation

_FACTS = Facts(
    completions=True,
    tools=False,
    images=False,
    json_object=False,
    json_schema=False,
    logprobs=False,
    reasoning=False,
    count_tokens=True,
    dimensions=False,
    refuses=frozenset({"logit_bias"}),
    owner="local",
    known=CAPABILITIES,
)


class EngineProvider:
    """Runs models in this server: see :class:`llm_server.contract.Provider`.

    Args:
        config: which models, and what they may use.
        on_progress: told in a few words when loading a model begins and how it ended.
    """

    name = "local"

    def __init__(self, config: EngineConfig, on_progress: Callable[[str], None] = lambda _: None) -> None:
        self._config = config
        self._models = {model.name: Model(model, config) for model in config.models}
        self._on_progress = on_progress
        facts = _steered(config)
        self._facts = {
            model.name: replace(facts, context_tokens=model.context, max_output_tokens=model.context)
            for model in config.models
        }

    async def start(self) -> None:
        """Load the models, one after the other: loading is bound by the disk and the cores."""
        for model in self._models.values():
            self._on_progress(f"Loading {model.name} ({self._config.runtime})")
            started = time.perf_counter()
            await model.load()
            took = f"ready in {time.perf_counter() - started:.1f} s"
            self._on_progress(f"{model.name}: {model.message or took}")

    async def close(self) -> None:
        """Let requests in flight end for a moment, then end them, and unload."""
        await asyncio.gather(*(model.close(self._config.drain_timeout_s) for model in self._models.values()))

    def state(self) -> tuple[State, str]:
        """Ready when a model is and none is being loaded; the message says what is wrong with any."""
        states = {model.state for model in self._models.values()}
        words = "; ".join(
            f"{model.name}: {model.message}" for model in self._models.values() if model.message
        )
        for state in (State.STARTING, State.READY):
            if state in states:
                return state, words
        return State.FAILED, words or "no models configured"

    async def models(self) -> tuple[ModelInfo, ...]:
        """Return the loaded models."""
        return tuple(
            ModelInfo(id=model.name, provider=self.name, context_tokens=model.config.context)
            for model in self._models.values()
            if model.state is State.READY
        )

    def facts(self, model: str) -> Facts:
        """Return what ``model`` can do; every model of the engine can do the same."""
        return self._facts.get(model, _FACTS)

    async def __call__(self, call: Call, ctx: Context) -> Events:
        """Answer a chat, text or count call."""
        if lacking := needs_lacking(call, self.facts(call.model)):
            raise unsupported(call, {f"The model {call.model}": lacking})
        model = self._models.get(call.model)
        if model is None:
            known = ", ".join(self._models) or "none"
            message = f"There is no embedded model {call.model!r}. There is: {known}."
            raise ServerError(ErrorKind.MODEL_NOT_FOUND, message, param="model")
        match call:
            case CountCall():
                yield TokenCount(input_tokens=await model.count(model.prompt(call)))
            case ChatCall() | TextCall():
                ctx.dropped.extend(_dropped(call))
                async with aclosing(_chunks(model, call)) as chunks:
                    if call.stream:
                        async for chunk in chunks:
                            yield chunk
                    else:
                        yield fold([chunk async for chunk in chunks])
            case _:
                raise ServerError(
                    ErrorKind.UNSUPPORTED, f"The model {call.model} does not support this request."
                )


async def _chunks(model: Model, call: ChatCall | TextCall) -> AsyncGenerator[Chunk, None]:
    """Generate all choices of ``call`` in one batch; say that it started when the first of them has."""
    constraint, form = _constraint(call)
    generations = [
        replace(each, constraint=constraint, form=form)
        for prompt in _prompts(model, call)
        for each in _generations(prompt, call.sampling, model)
    ]
    model.scheduler.expect(len(generations))
    started: tuple[Event, ...] = (Started(model=call.model, created=int(time.time())),)
    tally = _Tally(choices=call.sampling.n)
    async with aclosing(merged([model.generate(each) for each in generations])) as pieces:
        async for index, piece in pieces:
            if started and isinstance(call, TextCall) and call.echo:
                started += tuple(TextDelta(each.prompt, index=at) for at, each in enumerate(generations))
            if isinstance(piece, Ended):
                tally.add(index, piece)
                event: Event = Finish(FinishReason(piece.reason), index, piece.stop_sequence)
            else:
                event = TextDelta(piece.text, index=index)
            yield Chunk((*started, event))
            started = ()
    yield Chunk((tally.usage,))


class _Tally:
    """Adds up what the generations took; a prompt counts once, however many choices were made of it."""

    def __init__(self, choices: int) -> None:
        self._choices = choices
        self.usage = Usage()

    def add(self, index: int, ended: Ended) -> None:
        first = index % self._choices == 0
        self.usage = Usage(
            input_tokens=self.usage.input_tokens + (ended.input_tokens if first else 0),
            output_tokens=self.usage.output_tokens + ended.output_tokens,
            cached_tokens=self.usage.cached_tokens + (ended.cached_tokens if first else 0),
        )


def _prompts(model: Model, call: ChatCall | TextCall) -> list[str]:
    if isinstance(call, ChatCall):
        return [model.prompt(call)]
    if call.suffix:
        raise ServerError(ErrorKind.UNSUPPORTED, "This model cannot fill in before a suffix.", param="suffix")
    return [prompt for prompt in call.prompts if isinstance(prompt, str)]


def _generations(prompt: str, sampling: Sampling, model: Model) -> Iterator[Generation]:
    """Yield ``sampling.n`` requests for ``prompt``; a given seed is counted up, so that they differ."""
    default = model.config
    for choice in range(sampling.n):
        yield Generation(
            prompt=prompt,
            max_tokens=default.max_tokens if sampling.max_tokens is None else sampling.max_tokens,
            temperature=default.temperature if sampling.temperature is None else sampling.temperature,
            top_p=default.top_p if sampling.top_p is None else sampling.top_p,
            top_k=default.top_k if sampling.top_k is None else sampling.top_k,
            seed=None if sampling.seed is None else sampling.seed + choice,
            frequency_penalty=sampling.frequency_penalty or 0.0,
            presence_penalty=sampling.presence_penalty or 0.0,
            stop=sampling.stop,
        )


def _constraint(call: ChatCall | TextCall) -> tuple[str | None, Form | None]:
    """Return the grammar that the answer must match, and what a stage in front made it of, if one did."""
    output = call.output if isinstance(call, ChatCall) else None
    if output is None:
        return None, None
    if output.kind != "grammar":
        message = f"The model {call.model} is constrained by a grammar only, not by {output.kind}."
        raise ServerError(ErrorKind.UNSUPPORTED, message, param="response_format")
    return output.grammar, Form.of(output.made_of) if output.made_of else None


def _steered(config: EngineConfig) -> Facts:
    """Return the facts of how the runtime holds texts to forms."""
    if not available() or config.runtime == "openvino":
        return _FACTS
    if config.runtime == "xllamacpp" or config.outlines_backend == "llguidance":
        return replace(_FACTS, grammar=True)
    # Of Outlines' engines only its own has no grammars: its `get_cfg_logits_processor` says so.
    lacking = {"grammar"} if config.outlines_backend == "outlines_core" else set()
    return replace(_FACTS, grammar=True, grammar_exact=False, grammar_without=frozenset(lacking))


def _dropped(call: ChatCall | TextCall) -> Iterator[str]:
    if call.sampling.logit_bias:
        yield "logit_bias"
    if isinstance(call, ChatCall) and call.reasoning is not None:
        yield "reasoning"
