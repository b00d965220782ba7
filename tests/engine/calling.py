"""Short ways to ask an engine."""

import fcntl
from contextlib import aclosing
from pathlib import Path
from typing import Any

from llm_server.contract import (
    Call,
    ChatCall,
    Chunk,
    Completion,
    Context,
    CountCall,
    Event,
    Message,
    Role,
    Sampling,
    Text,
    TextCall,
    TokenCount,
)
from llm_server.engine import install
from llm_server.engine.model import Model
from llm_server.engine.provider import EngineProvider

MODEL = "smollm2-135m"


def installed() -> Path:
    """Return the model's file, kept between runs and apart from a server's."""
    folder = Path("~/.cache/llm-server-tests").expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes: one fetches
        return install(MODEL, folder)


def chat(text: str = "What is the capital of France?", *, stream: bool = False, **sampling: Any) -> ChatCall:
    messages = (Message(Role.USER, (Text(text),)),)
    return ChatCall(model=MODEL, messages=messages, stream=stream, sampling=Sampling(**sampling))


def completion(*prompts: str, stream: bool = False, echo: bool = False, **sampling: Any) -> TextCall:
    return TextCall(model=MODEL, prompts=prompts, stream=stream, echo=echo, sampling=Sampling(**sampling))


async def whole(provider: EngineProvider, call: Call) -> Completion:
    """The answer to a call that is not streamed: exactly one value."""
    (answer,) = [answer async for answer in provider(call, Context(request_id="test"))]
    assert isinstance(answer, Completion)
    return answer


async def chunks(provider: EngineProvider, call: Call) -> list[Chunk]:
    async with aclosing(provider(call, Context(request_id="test"))) as answers:
        return [answer async for answer in answers if isinstance(answer, Chunk)]


async def events(provider: EngineProvider, call: Call) -> list[Event]:
    return [event for chunk in await chunks(provider, call) for event in chunk.events]


async def tokens(provider: EngineProvider, call: ChatCall) -> int:
    """The number of input tokens of a conversation, as the tokenizer counts."""
    (count,) = [
        answer
        async for answer in provider(
            CountCall(model=call.model, messages=call.messages), Context(request_id="test")
        )
    ]
    assert isinstance(count, TokenCount)
    return count.input_tokens


def inside(provider: EngineProvider) -> Model:
    """The model behind a provider."""
    return provider._models[MODEL]
